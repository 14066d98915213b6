"""Training on from the weights of another run, with the real command."""

import logging

import pytest
import torch
from command import TINY, condgen
from recipes import make_model

from condgen.run.checkpoint import read
from condgen.run.finetune import start_from, weights_of

ONE_STEP = (*TINY, "trainer.limit_train_batches=1", "trainer.max_epochs=1", "callbacks.samples=null", "logger=none")
STILL = ("model.generator_optimizer.lr=0", "model.discriminator_optimizer.lr=0")


def state(run):
    return read(run / "checkpoints" / "last.ckpt")["state_dict"]


def train(root, name, *overrides):
    folder = root / name
    result = condgen("train", "experiment=none", f"hydra.run.dir={folder}", *ONE_STEP, *overrides, cwd=root)
    return result, folder


def test_the_same_model_starts_where_the_other_ended(gan_run, tmp_path):
    result, run = train(tmp_path, "again", "model=cgan_mlp", f"run.finetune={gan_run}", "seed=5", *STILL)
    assert result.code == 0 and f"Starting from {gan_run}" in result.err and "new:" not in result.err, result
    assert f"Starting from {gan_run}" in (run / "train.log").read_text()
    before, after = state(gan_run), state(run)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_more_classes_load_all_layers_that_match(tmp_path):
    few, source = train(tmp_path, "few", "model=cgan_conv", "data.classes=[3,7]")
    assert few.code == 0, few
    result, run = train(tmp_path, "more", "model=cgan_conv", f"run.finetune={source}", *STILL)
    assert result.code == 0, result
    new = {line.split()[1] for line in result.err.splitlines() if line.startswith("  new:")}
    assert new == {
        "generator.network.up.seed.weight",
        "discriminator.head.project.weight",
        "ema.average.network.up.seed.weight",
    }
    assert "generator.network.up.seed.weight (3136x74, in it 3136x66)" in result.err
    before, after = state(source), state(run)
    kept = [n for n in before if n not in new and not n.startswith("ema.") and "running" not in n and "tracked" not in n]
    assert all(torch.equal(before[name], after[name]) for name in kept) and len(kept) > 10


def test_an_average_that_the_other_run_did_not_keep_starts_as_its_generator(gan_run):
    model = make_model("model=cgan_mlp", "model.options.ema=0.9", seed=3)
    assert "new:" not in start_from(model, gan_run)
    for mine, averaged in zip(model.generator.parameters(), model.ema.average.network.parameters(), strict=True):
        assert torch.equal(mine, averaged)


def test_what_belongs_to_the_data_or_the_other_training_is_left():
    model = make_model("model=sngan", "model.generator.network.width=8", "model.discriminator.width=8", "regularizer=lecam")
    names = weights_of(model).keys()
    assert any(name.endswith("running_mean") for name in names) and any(name.endswith("_u") for name in names)
    assert not any(name.startswith("regularizers") for name in names)
    assert not any("mean" in name for name in weights_of(make_model("model=cgan_mlp", "model.discriminator.standardize=true")))


def test_a_resumed_run_does_not_ask_for_the_weights_again(gan_run, tmp_path):
    weights = tmp_path / "weights.ckpt"
    weights.write_bytes((gan_run / "checkpoints" / "last.ckpt").read_bytes())
    result, run = train(tmp_path, "run", "model=cgan_mlp", f"run.finetune={weights}")
    assert result.code == 0, result
    weights.unlink()
    assert condgen("resume", run, "trainer.max_epochs=2", cwd=tmp_path).code == 0


@pytest.mark.parametrize("name", ["missing.ckpt", "vae"])
def test_what_does_not_fit_is_refused_and_leaves_nothing(name, vae_run, tmp_path):
    source = vae_run if name == "vae" else tmp_path / name
    result, run = train(tmp_path, "run", "model=cgan_mlp", f"run.finetune={source}")
    logging.getLogger("condgen").handlers.clear()
    assert str(source) in result.sentence() and not run.exists()
