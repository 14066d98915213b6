"""Runs of condgen 0.1: their configurations become what today's YAML says, their checkpoints draw the same samples."""

from copy import deepcopy
from dataclasses import fields
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from recipes import composed, make_model

from condgen import load
from condgen.run.legacy import converted_checkpoint, converted_config, converted_model, counts_of, renamed_tensor
from condgen.training.counts import Counts
from condgen.training.options import Options

ADAM = "{_target_: torch.optim.Adam, _partial_: true, fused: true, "
ONE_HOT = "{_target_: condgen.conditions.OneHot, _partial_: true}"
LEARNED = "{_target_: condgen.conditions.LearnedEmbedding, _partial_: true, width: "
COSINE = "{_target_: condgen.models.schedules.Cosine, start: 0.0, end: 0.0}"
RELU = "{_target_: torch.nn.ReLU, _partial_: true}"
STORED = {  # as runs of 0.1 kept them, without what is null
    "cgan_mlp": f"""
_target_: condgen.models.gan.GAN
generator:
  _target_: condgen.nets.mlp.MLPGenerator
  _partial_: true
  hidden: [128, 256]
  embedding: {ONE_HOT}
  activation: {RELU}
discriminator:
  _target_: condgen.nets.mlp.MLPDiscriminator
  _partial_: true
  hidden: [256, 128]
  embedding: {ONE_HOT}
  activation: {RELU}
  projection: false
  standardize: false
latent: 100
generator_optimizer: {ADAM}lr: 2e-4, betas: [0.9, 0.999]}}
discriminator_optimizer: {ADAM}lr: 2e-4, betas: [0.9, 0.999]}}
discriminator_steps: 1
order: discriminator_first
reuse_fake: true
fake_condition: batch
ema: 0.0
auxiliary: null
terms: {{}}
regularizers: {{}}
discriminator_augment: null
accumulate: 1
channels_last: false
compile: false
expects: [1, 28, 28]
""",
    "cvae_mlp": f"""
_target_: condgen.models.vae.VAE
encoder:
  _target_: condgen.nets.mlp.MLPEncoder
  _partial_: true
  hidden: [512]
  embedding: {ONE_HOT}
  activation: {RELU}
  standardize: false
decoder: {{_target_: condgen.nets.mlp.MLPDecoder, _partial_: true, hidden: [512], embedding: {ONE_HOT}, activation: {RELU}}}
latent: 64
optimizer: {ADAM}lr: 1e-3}}
prior: null
beta: 1.0
warmup: 0
decode_condition: true
temperature: 1.0
compile: false
expects: [1, 28, 28]
""",
    "flow_points": f"""
_target_: condgen.models.flow_matching.FlowMatching
network:
  _target_: condgen.nets.velocity.MLPVelocity
  _partial_: true
  hidden: [128, 128, 128]
  signal: 64
  embedding: {LEARNED}16}}
  activation: {{_target_: torch.nn.SiLU, _partial_: true}}
optimizer: {ADAM}lr: 5e-3, betas: [0.9, 0.99]}}
drop: 0.1
times: null
sampler: heun
steps: 20
guidance: 1.0
ema: 0.99
decay: {COSINE}
channels_last: false
""",
    "glow": f"""
_target_: condgen.models.glow.Glow
network:
  _target_: condgen.nets.glow.Flow
  _partial_: true
  steps: [2, 10]
  fine: {{_target_: condgen.nets.glow.Convolutions, _partial_: true, width: 32}}
  coarse: {{_target_: condgen.nets.glow.Dense, _partial_: true, width: 384}}
  embedding: {LEARNED}64}}
optimizer: {ADAM}lr: 2e-3, betas: [0.9, 0.99]}}
temperature: 0.7
ema: 0.998
gradient_clip: 1.0
warmup: 100
decay: {COSINE}
""",
    "stylization": f"""
_target_: condgen.models.stylization.Stylization
network:
  _target_: condgen.nets.stylization.StyleNetwork
  _partial_: true
  width: 32
  blocks: 5
  embedding: {ONE_HOT}
  kernel: 9
optimizer: {ADAM}lr: 1e-3}}
styles: [stripes, checks, dots, waves, mosaic]
compile: false
""",
}


def stored(name: str, **changes: Any) -> dict[str, Any]:
    """Read a model's node as OmegaConf did."""
    node = OmegaConf.to_container(OmegaConf.create(STORED[name]))
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()} | changes


def today(name: str, *overrides: str) -> Any:
    """Return the same node as conf/ composes it now."""
    return OmegaConf.to_container(composed(f"model={name}", *overrides).model, resolve=True)


def filled(model: dict[str, Any]) -> dict[str, Any]:
    """Add the options that 0.1 did not have, with their defaults."""
    defaults = {field.name: field.default for field in fields(Options)}
    return model | {"options": defaults | model["options"]}


@pytest.mark.parametrize("name", STORED)
def test_a_stored_model_becomes_what_conf_composes(name):
    assert filled(converted_model(stored(name))) == filled(today(name))


def test_terms_and_regularizers_are_one_and_keys_of_the_alternation_lie_together():
    l1, r1 = ({"_target_": f"condgen.losses.{kind}", "weight": 3.0} for kind in ("paired.L1", "regularizers.R1"))
    augment = {"_target_": "condgen.losses.diffaugment.ADA", "target": 0.5}
    old = stored("cgan_mlp", terms={"l1": l1}, regularizers={"r1": r1}, accumulate=4, fake_condition="random", ema=0.9)
    new = converted_model(old | {"discriminator_augment": augment, "discriminator_steps": 2})
    assert new["regularizers"] == {"l1": l1, "r1": r1} and "terms" not in new
    given = {key: value for key, value in new["alternation"].items() if key != "_target_"}
    expected = {"discriminator_steps": 2, "order": "discriminator_first", "reuse_fake": True}
    assert given == expected | {"fake_condition": "random", "micro_batches": 4}
    assert new["options"]["ema"] == 0.9
    assert new["discriminator_augment"] == augment | {"_target_": "condgen.augment.diffaugment.ADA"}


def test_warmup_was_the_kls_in_a_vae_and_the_rates_elsewhere():
    prior = {"_target_": "condgen.models.priors.GaussianPrior", "_partial_": True, "embedding": None}
    vae = converted_model(stored("cvae_mlp", warmup=500, prior=prior))
    assert vae["kl_warmup"] == 500 and "warmup" not in vae["options"] and "warmup" not in vae
    assert vae["generator"]["prior"]["_target_"] == "condgen.generators.priors.GaussianPrior"
    assert converted_model(stored("glow"))["options"]["warmup"] == 100


def test_a_stored_configuration():
    crop = {"_target_": "condgen.data.augment.Crop", "padding": 2}
    old = {
        "seed": 3,
        "model": stored("cvae_mlp"),
        "loss": {"_target_": "condgen.losses.reconstruction.SquaredError"},
        "data": {"_target_": "condgen.data.DataModule", "batch_size": 64, "archive": None, "augment": [crop]},
        "metrics": {"_target_": "condgen.metrics.extractors.ShippedExtractor", "name": "mnist-cnn"},
        "logger": {"csv": {"_target_": "condgen.loggers.CSVLogger"}},
        "run": {"name": "old", "dir": "outputs/old", "files": True},
    }
    before = deepcopy(old)
    new = converted_config(old)
    assert old == before and "metrics" not in new and new["extractor"] == old["metrics"] and new["seed"] == 3
    assert new["data"]["augment"][0]["_target_"] == "condgen.augment.images.Crop" and new["data"]["batch_size"] == 64
    assert new["logger"]["csv"]["_target_"] == "condgen.run.loggers.CSVLogger"
    assert new["run"] == {"name": "old", "files": True} and new["paths"]["output_dir"] == "outputs/old"
    assert new["model"] == converted_model(old["model"]) and converted_config(new) is new


def progress(count: int) -> dict[str, int]:
    return dict.fromkeys(("ready", "started", "processed", "completed"), count)


@pytest.mark.parametrize(
    "batch, last, expected", [(3, False, Counts(11, 23, 2, 3)), (10, True, Counts(11, 23, 2, 0))], ids=["within", "between"]
)
def test_where_a_run_stood_is_read_from_lightnings_counters(batch, last, expected):
    epochs = {"total": progress(3), "current": progress(3) | {"processed": 2, "completed": 2}}
    batches = {"total": progress(23), "current": progress(batch), "is_last_batch": last}
    loops = {"fit_loop": {"epoch_progress": epochs, "epoch_loop.batch_progress": batches}}
    assert Counts(**counts_of({"global_step": 11, "loops": loops})) == expected


@pytest.mark.parametrize(
    "family, old, new",
    [
        ("GAN", "generator.trunk.layers.0.weight", "generator.network.trunk.layers.0.weight"),
        ("GAN", "ema.network.trunk.layers.0.weight", "ema.average.network.trunk.layers.0.weight"),
        ("GAN", "discriminator.head.linear.bias", "discriminator.head.linear.bias"),
        ("GAN", "regularizers.lecam.turns", "regularizers.lecam.updates"),
        ("GAN", "regularizers.lecam.real_anchor", "regularizers.lecam.real_anchor"),
        ("GAN", "augment.probability", "augment.probability"),
        ("VAE", "code_prior.weight", "generator.prior.weight"),
        ("VAE", "loss.log_sigma", "generator.loss.log_sigma"),
        ("FlowMatching", "network.out.weight", "generator.network.out.weight"),
        ("Glow", "ema.network.levels.0.weight", "ema.average.network.levels.0.weight"),
        ("Stylization", "network.last.bias", "generator.network.last.bias"),
    ],
)
def test_names_of_tensors(family, old, new):
    assert renamed_tensor(old, family) == new


OLD_NAMES = {
    "gan": (("ema.average.network.", "ema.network."), ("generator.network.", "generator.")),
    "vae": (("generator.prior.", "code_prior."), ("generator.", "")),
}
"""What names of tensors begin with today, and began with."""


def as_then(name: str, family: str) -> str:
    """Return the name that a tensor had in 0.1."""
    for new, old in OLD_NAMES[family]:
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


@pytest.mark.parametrize(
    "family, name, changes, overrides",
    [
        ("gan", "cgan_mlp", {"ema": 0.9}, ["model.options.ema=0.9"]),
        (
            "vae",
            "cvae_mlp",
            {
                "prior": {
                    "_target_": "condgen.models.priors.GaussianPrior",
                    "_partial_": True,
                    "embedding": yaml.safe_load(ONE_HOT),
                }
            },
            ["prior=gaussian"],
        ),
    ],
)
def test_an_old_checkpoint_draws_the_same_samples(family, name, changes, overrides, tmp_path):
    model = make_model(f"model={name}", *overrides, seed=3)
    state = {as_then(key, family): tensor for key, tensor in model.state_dict().items()}
    recipe = model.recipe | {"model": stored(name, **changes)}
    torch.save({"condgen": recipe, "state_dict": state, "window": []}, tmp_path / "old.ckpt")
    expected = model.eval_generator.sample("0-9", 2)
    assert torch.equal(load(tmp_path / "old.ckpt").sample("0-9", 2), expected)
    new = converted_checkpoint(torch.load(tmp_path / "old.ckpt", weights_only=True))
    assert new["state_dict"].keys() == model.state_dict().keys() and new["losses"] == [] and "window" not in new
    assert converted_checkpoint(new) is new
