"""Every YAML of conf/ keeps the contract: each pairing trains two steps and samples, or is refused in one sentence.

The folders are listed, so that a model, a loss, a data set or a recipe that is added is tested without anyone remembering to.
"""

import inspect
import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import TINY, Result, condgen
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from tiny_data import FEW_DIGITS, SHAPES, TINY_DATA

import condgen as package
from condgen.conditions import ClassLabel, ImageCondition, MelImage, Photo, Styles, Together
from condgen.config.build import build
from condgen.config.folder import conf_dir
from condgen.dataset import composed_data
from condgen.errors import CondgenError
from condgen.run.recipe import build_training
from condgen.spaces import Images
from condgen.tokens import Tokens
from condgen.waveforms import Waveforms


def choices(group: str) -> list[str]:
    """List the YAMLs of a group."""
    return sorted(file.stem for file in (conf_dir() / group).glob("[!_]*.yaml"))


MODELS, LOSSES, DATA, EXPERIMENTS = (choices(group) for group in ("model", "loss", "data", "experiment"))
CONDITIONS = choices("condition")
REGULARIZERS, AUGMENTS = choices("regularizer"), choices("discriminator_augment")
AUXILIARIES, PRIORS = choices("auxiliary"), choices("prior")
FAMILIES = ["cgan_conv", "cvae_conv", "flow_matching", "glow", "language", "merf", "stylization", "vocoder"]
"""A small model of each family."""
NO_DIGITS = ("distilled", "language", "stylization", "vocoder")
"""Models that make no digits, or need more than a class to make them from, or a teacher."""
FROM_IMAGES = ["flow_matching", "pix2pix"]
"""Models that see a condition that is an image."""
OF_IMAGES = [name for name in CONDITIONS if name != "mel"]
"""Conditions that are not of sounds alone, which tests/commands has."""
WAVEFORMS = Waveforms(8000, 0.256, 32, 256, 64)
QUIET = ("callbacks.samples=null", "logger=none", "trainer.max_epochs=1")


def test_the_groups_are_there():
    assert len(MODELS) >= 6 and len(LOSSES) >= 6 and len(DATA) >= 6 and "mnist_quick" in EXPERIMENTS
    assert len(REGULARIZERS) >= 6 and len(AUGMENTS) >= 3


# --- what each choice is, read from its YAML and its class, not from the code that refuses ---


def read(group: str, name: str) -> dict[str, Any]:
    """Read a YAML, on top of the bases beside it."""
    content: dict[str, Any] = yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text())
    bases = [base for base in content.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
    merged = OmegaConf.merge(*(read(group, base) for base in bases), content)
    return OmegaConf.to_container(merged)  # type: ignore[return-value]


def targets(node: Any) -> list[str]:
    """List the classes that a part of a YAML names."""
    if not isinstance(node, dict):
        return []
    own = [str(node["_target_"])] if "_target_" in node else []
    return own + [target for part in node.values() for target in targets(part)]


def fits(model: str, loss: str) -> bool:
    """Whether the loss is of the kind that the model's constructor asks for."""
    wanted = inspect.signature(get_class(read("model", model)["_target_"])).parameters["loss"].annotation
    return issubclass(get_class(read("loss", loss)["_target_"]), wanted)


def takes(model: str, shape: tuple[int, ...]) -> bool:
    """Whether the model was made for samples of this shape: fully connected networks for any, all others for images."""
    content = read("model", model)
    networks = [target for target in targets(content) if target.startswith("condgen.nets.")]
    fully_connected = all("MLP" in target for target in networks)
    return (content["options"]["expects"] or list(shape)) == list(shape) and (len(shape) == 3 or fully_connected)


def brings_a_condition(auxiliary: str) -> bool:
    """Whether the YAML of an auxiliary loss chooses the condition too."""
    bases = yaml.safe_load((conf_dir() / "auxiliary" / f"{auxiliary}.yaml").read_text()).get("defaults", [])
    return any("/condition@" in key for base in bases if isinstance(base, dict) for key in base)


def starts_from_image(content: Any) -> bool:
    """Whether a condition of ``content``, a part of a YAML, is an image."""
    if not isinstance(content, dict):
        return False
    return any(map(starts_from_image, content.values())) or issubclass(get_class(content["_target_"]), ImageCondition)


@cache
def configured_model(*choices: str) -> DictConfig:
    """Return the model's part of a configuration with these choices."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        model: DictConfig = compose("train", list(choices)).model
    return model


def shrunk(overrides: list[str]) -> list[str]:
    """Add what makes a run small: two batches of four, one D step, nothing compiled, no network wider than 32 channels.

    The networks of the published widths are built, counted and run in tests/nets.
    """
    model = configured_model(*(one for one in overrides if re.match(r"(model|experiment|prior|auxiliary)=", one)))
    small = ["model.options.compile=false", *["model.alternation.discriminator_steps=1"] * ("alternation" in model)]
    for part in ("generator.network", "discriminator"):
        width = OmegaConf.select(model, f"{part}.width", default=0)
        small += [f"model.{part}.width=16"] * (not isinstance(width, int) or width > 32)
    return [*overrides, *TINY, *QUIET, *small]


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The overrides that give each data set, by its name."""
    assert set(DATA) == set(TINY_DATA), "a data set was added: say in tiny_data.py which tiny files it gets"
    tiny = {name: [f"data={name}", *make(tmp_path_factory.mktemp(name))] for name, make in TINY_DATA.items()}
    # Packed now: the first command that needs the set says that it packs it, beside the sentence of its refusal.
    build("data", composed_data("evaluate", "cifar10", [*tiny["cifar10"][1:], "data.batch_size=4"])["data"]).prepare()
    return tiny


# --- the contract ---


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Callable[[list[str]], Result]]:
    """Return what trains a shrunk run; its weights do not outlive the test."""
    yield lambda overrides: condgen("train", *shrunk(overrides), cwd=tmp_path)
    for folder in tmp_path.rglob("checkpoints"):
        shutil.rmtree(folder)


def trained_and_samples(result: Result, root: Path, shape: tuple[int, ...] | None = None) -> None:
    """Check the run that ``result`` left under ``root``: two updates of every network, and samples of the right shape."""
    assert result.code == 0, result
    run = max((root / "outputs").glob("*/*"))
    assert json.loads((run / "metrics.json").read_text())["last"]["step"] == 2
    model = package.load(run)
    asked = model.condition.every()[:2]
    if model.condition.image:  # any images will do
        x, labels = torch.rand(2, *model.space.shape) * 2 - 1, torch.arange(2)
        asked = model.condition.complete(model.condition.from_data(labels), x, torch.rand(2, model.condition.draws))
    samples = model.sample(asked, 3, seed=1)
    assert samples.shape == (3 * len(asked), *(shape or model.space.shape))
    low, high = (0, model.space.size - 1) if isinstance(model.space, Tokens) else (-1, 1)
    assert samples.isfinite().all() and samples.min() >= low and samples.max() <= high and samples.double().std() > 0
    assert torch.equal(samples, model.sample(asked, 3, seed=1))


def refused(result: Result, root: Path) -> str:
    """Return the sentence; check that nothing was left behind."""
    sentence = result.sentence()
    assert not (root / "outputs").exists()
    return sentence


def on_mnist(model: str) -> tuple[list[str], tuple[int, ...]]:
    """Return the overrides that give ``model`` MNIST in the shape that it expects, and that shape."""
    shape = tuple(read("model", model)["options"]["expects"] or SHAPES["mnist"])
    size = [f"data.image_size={shape[1]}"] * (shape[1] != 28)
    return ["experiment=none", f"model={model}", *FEW_DIGITS, *size], shape


@pytest.mark.parametrize("model", FAMILIES)
def test_losses_of_other_families_are_refused(model, attempt, tmp_path):
    """The first by the command, all of them where the command builds a model."""
    others = [loss for loss in LOSSES if not fits(model, loss)]
    known = {"stylization": Together(Styles("ab"), Photo((3, 32, 32))), "vocoder": MelImage(WAVEFORMS)}
    condition = known.get(model, ClassLabel("ab")).config()
    # Digits are refused to a vocoder before its loss is looked at.
    sentences = [refused(attempt([*on_mnist(model)[0], f"loss={others[0]}"]), tmp_path)] if model != "vocoder" else []
    recipe = {"model": OmegaConf.to_container(configured_model(f"model={model}", "experiment=none"), resolve=True)}
    space = {"language": Tokens("ab", 8), "vocoder": WAVEFORMS}.get(model, Images((3, 32, 32)))
    recipe |= {"space": space.config(), "condition": condition, "seed": 0}
    for loss in others:
        with pytest.raises(CondgenError) as told:
            build_training(recipe | {"loss": read("loss", loss)})
        sentences.append(str(told.value))
    for sentence in sentences:
        offered = set(re.findall(r"\w+", sentence.partition("choose ")[2])) - {"loss", "or"}
        assert offered and all(fits(model, name) for name in offered), sentence


@pytest.mark.parametrize("model, loss", [(next(m for m in FAMILIES if fits(m, loss)), loss) for loss in LOSSES])
def test_each_loss_with_a_model_of_its_family(model, loss, attempt, tmp_path):
    overrides, shape = on_mnist(model)
    overrides = [*overrides, f"loss={loss}"]
    if getattr(get_class(read("loss", loss)["_target_"]), "unbounded", False):  # what the sentence offers must work
        (remedy,) = re.findall(r"regularizer=\w+", refused(attempt(overrides), tmp_path))
        overrides.append(remedy)
    elif model in NO_DIGITS:
        return  # needs pictures, or texts: tests/training
    trained_and_samples(attempt(overrides), tmp_path, shape)


@pytest.mark.parametrize("model", ["cgan_conv", "dcgan", "cvae_mlp"])
def test_model_with_all_regularizers(model, attempt, tmp_path):
    """Those on D's gradient are refused where D has batch norm; all of them, where there is no D."""
    overrides, shape = on_mnist(model)
    result = attempt([*overrides, f"regularizer=[{','.join(REGULARIZERS)}]", "discriminator_augment=diffaugment"])
    discriminator = read("model", model).get("discriminator")
    if discriminator is None:
        assert "regularizers" in refused(result, tmp_path)
    elif discriminator.get("norm") or any("BatchNorm" in target for target in targets(discriminator)):
        assert "batch norm" in refused(result, tmp_path)
    else:
        trained_and_samples(result, tmp_path, shape)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_augmentation_of_what_the_discriminator_sees(augment, attempt, tmp_path):
    trained_and_samples(attempt(["experiment=none", "model=cgan_conv", f"discriminator_augment={augment}"]), tmp_path)


@pytest.mark.parametrize("auxiliary", [name for name in AUXILIARIES if name != "default"])
def test_model_with_auxiliary(auxiliary, attempt, tmp_path):
    """One that brings codes is refused while D hears the condition that they are; what the sentence offers must work."""
    overrides, shape = on_mnist("cgan_conv")
    overrides = [*overrides, f"auxiliary={auxiliary}"]
    result = attempt(overrides)
    if brings_a_condition(auxiliary):
        remedy = re.findall(r"model\.\w+\.\w+=\w+", refused(result, tmp_path))
        assert remedy
        result = attempt([*overrides, *remedy])
    trained_and_samples(result, tmp_path, shape)


def test_an_auxiliary_head_is_a_discriminators(attempt, tmp_path):
    assert "auxiliary" in refused(attempt([*on_mnist("cvae_mlp")[0], "auxiliary=acgan"]), tmp_path)


@pytest.mark.parametrize("prior, condition", [*((prior, "class") for prior in PRIORS), ("flow", "none")])
def test_model_with_prior(prior, condition, attempt, tmp_path):
    overrides = ["experiment=none", "model=cvae_conv", f"prior={prior}", f"condition={condition}"]
    trained_and_samples(attempt(overrides), tmp_path)


def test_a_prior_is_for_codes(attempt, tmp_path):
    assert "prior" in refused(attempt(["experiment=none", "model=cgan_mlp", "prior=flow"]), tmp_path)


ON_MNIST = [(model, "mnist") for model in MODELS if model not in NO_DIGITS]
ON_DATA = [("cgan_conv", data) for data in DATA if data != "mnist"]


@pytest.mark.parametrize("model, data", [*ON_MNIST, *ON_DATA, ("cgan_mlp", "cifar10"), ("flow_points", "ring")])
def test_model_on_data(model, data, attempt, tiny_data, tmp_path):
    overrides = ["experiment=none", f"model={model}", *tiny_data[data]]
    result = attempt(overrides)
    shape = SHAPES[data]
    if takes(model, shape):
        trained_and_samples(result, tmp_path, shape)
    elif len(shape) == 3:  # what the sentence offers must work
        remedy = re.findall(r"data\.\w+=\d+", refused(result, tmp_path))
        assert remedy
        trained_and_samples(attempt([*overrides, *remedy]), tmp_path, tuple(read("model", model)["options"]["expects"]))
    else:
        (remedy,) = re.findall(r"model=\w+", refused(result, tmp_path))
        trained_and_samples(attempt(["experiment=none", remedy, *tiny_data[data]]), tmp_path, shape)


@pytest.mark.parametrize(
    "model, condition",
    [  # each condition fast with one of the models
        pytest.param(model, condition, marks=[pytest.mark.slow] * ((i + j) % 2))
        for i, condition in enumerate(name for name in OF_IMAGES if starts_from_image(read("condition", name)))
        for j, model in enumerate(FROM_IMAGES)
    ],
)
def test_model_from_images(model, condition, attempt, tiny_data, tmp_path):
    result = attempt(["experiment=none", f"model={model}", f"condition={condition}", *tiny_data["cifar10"]])
    trained_and_samples(result, tmp_path, SHAPES["cifar10"])


@pytest.mark.parametrize("model", ["cgan_conv", "cvae_mlp", "glow"])
def test_a_model_that_cannot_see_an_image_refuses_one(model, attempt, tmp_path):
    overrides, _ = on_mnist(model)
    assert "image" in refused(attempt([*overrides, "condition=inpaint"]), tmp_path)


@pytest.mark.parametrize(
    "model, some",
    [("acgan_conv", "null"), ("cvae_conv", "[rotation]"), ("flow_matching", "[colour,digit]"), ("glow", "null")],
)
def test_model_with_attributes(model, some, attempt, tiny_data, tmp_path):
    overrides = ["experiment=none", f"model={model}", *tiny_data["mnist_attributes"], f"condition.attributes={some}"]
    trained_and_samples(attempt([*overrides, "data.vicinity=0.05"] if "colour" not in some else overrides), tmp_path)
    model = package.load(max((tmp_path / "outputs").glob("*/*")))
    if some == "null":
        assert model.sample("digit=3|5,rotation=-30,colour=red", 2).shape == (4, 3, 28, 28)


@pytest.mark.parametrize(
    "model, condition, asked",
    [
        ("cgan_conv", "caption", "a thick red three|粗红色三"),
        ("cvae_conv", "caption", "a thick red three"),
        ("flow_matching", "tags", "thick red 3|left 8"),
        pytest.param("glow", "caption", "a thick red three", marks=pytest.mark.slow),
        pytest.param("acgan_conv", "tags", "thick red 3", marks=pytest.mark.slow),
        pytest.param("flow_matching", "caption", "a thick red three", marks=pytest.mark.slow),
    ],
)
def test_model_told_in_words(model, condition, asked, attempt, tiny_data, tmp_path):
    overrides = ["experiment=none", f"model={model}", *tiny_data["mnist_attributes"], f"condition={condition}"]
    overrides += ["condition.parts={rotation: [right, upright, left]}"] * (condition == "tags")
    if model == "acgan_conv":  # what the sentence offers must work
        (remedy,) = re.findall(r"auxiliary=matching", refused(attempt(overrides), tmp_path))
        overrides.append(remedy)
    trained_and_samples(attempt(overrides), tmp_path)
    model = package.load(max((tmp_path / "outputs").glob("*/*")))
    assert len(model.sample(asked, 2)) == 2 * len(asked.split("|"))


def test_networks_that_take_any_shape_train_on_points(attempt, tiny_data, tmp_path):
    overrides = ["experiment=none", *tiny_data["ring"], "model=cvae_mlp", "model.options.expects=null"]
    assert "discretized" in refused(attempt([*overrides, "loss=gaussian", "loss.discretized=true"]), tmp_path)
    trained_and_samples(attempt([*overrides, "loss=gaussian"]), tmp_path, (2,))


FAST = ("mnist_quick", "mnist_vae_flow", "mnist_flow_matching", "mnist_distilled", "mnist_glow", "mnist_attributes_gan")
"""A recipe of each family; the others follow in the slow step."""


@pytest.mark.parametrize("experiment", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in EXPERIMENTS])
def test_experiment(experiment, attempt, tiny_data, tmp_path):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    overrides = tiny_data[config.hydra.runtime.choices.data][1:]
    if config.model.get("teacher"):  # which knows all ten digits
        overrides = ["data.imbalance=longtail:1:50"]
    elif config.data.get("imbalance") and not any("imbalance" in one for one in overrides):  # of which few images leave none
        overrides = [*overrides, "data.imbalance=null"]
    trained_and_samples(attempt([f"experiment={experiment}", *overrides]), tmp_path)
