"""Configured values are held to annotations, and what is wrong is said with its key, its value and what would be right."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypedDict, Unpack

import pytest
import torch
import yaml
from annotated_types import Ge, Lt
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import nn

from condgen.config.folder import conf_dir
from condgen.config.sentences import describe
from condgen.config.validate import check, check_group, check_node, fits, parameters
from condgen.errors import CondgenError
from condgen.types import Count, Name, OddInt, PositiveInt, Shape, Share, Widths


class Shout(Protocol):
    def __call__(self, text: str) -> str: ...


class Options(TypedDict, total=False):
    size: PositiveInt


class Part:
    def __init__(self, size: PositiveInt = 1, name: str = "part"):
        self.size = size


class Whole:
    def __init__(
        self,
        part: Part | None,
        make: Callable[..., Part],
        parts: Mapping[str, Part | None],
        several: Part | Sequence[Part],
        **options: Unpack[Options],
    ):
        self.part = part


PART = f"{__name__}.Part"
WHOLE = f"{__name__}.Whole"


@pytest.mark.parametrize(
    "annotation, good, bad",
    [
        (int, [0, -3, 10**30], [1.0, True, "3", None, [3]]),
        (float, [0, 1.5], ["1.5", False, float("nan"), float("inf")]),
        (str, ["", "frog"], [3, True, None]),
        (bool, [True], [1, "true"]),
        (PositiveInt | None, [1, None], [0, -1, 28.5, "28"]),
        (Share, [0, 0.5, 1], [-0.1, 1.01]),
        (OddInt, [1, 9], [0, 2, -1]),
        (Name, ["3", 3], [1.5, None]),
        (Path, ["a/b"], [3]),
        (Widths, [[1, 2]], [[], [0], 3, [1.5], ["3"]]),
        (Shape, [[3, 32, 32]], [[32, 32], [3, 32, 0]]),
        (tuple[float, float], [[0.5, 0.9]], [[0.5], [0.5, 0.9, 1]]),
        (Literal["ema", "raw"], ["ema"], ["EMA", 1, True]),
        (Sequence[str] | str, ["fid", ["fid"]], [3, [3]]),
        (Mapping[Name, Share], [{3: 0.5, "cat": 1}, {}], [{3: 2}, [3]]),
        (Callable[..., Part], [], [3, "Part", None, {}]),
        (Shout, [], [3, "x"]),
        (nn.Module, [], [3, {}]),
        (torch.device | str, ["cpu"], [3]),
        (Any, [3, "x", None], []),
    ],
)
def test_what_fits_an_annotation(annotation, good, bad):
    assert [value for value in good if not fits(value, annotation)] == []
    assert [value for value in bad if fits(value, annotation)] == []


@pytest.mark.parametrize(
    "annotation, words",
    [
        (PositiveInt | None, "a whole number of at least 1 or null"),
        (Share, "a number in 0..1"),
        (Annotated[float, Ge(0), Lt(0.5)], "a number of at least 0 and below 0.5"),
        (bool | Literal["auto"], "true, false or auto"),
        (Widths | None, "a list of whole numbers of at least 1 that is not empty or null"),
        (Sequence[Name], "a list of names"),
        (Mapping[str, Count], "a mapping of names to whole numbers of at least 0"),
        (Callable[..., nn.Module], "an object of a Module, {_target_: ...}"),
        (Literal[1, 3], "1 or 3"),
    ],
)
def test_an_annotation_in_words(annotation, words):
    assert describe(annotation) == words


def whole(**changes):
    node = {
        "_target_": WHOLE,
        "part": {"_target_": PART, "size": 2},
        "make": {"_target_": PART, "_partial_": True},
        "parts": {"a": {"_target_": PART}, "b": None},
        "several": [{"_target_": PART, "size": 3}],
        "size": 4,
    }
    return node | changes


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({}, None),
        ({"part": None}, None),
        ({"part": {"_target_": PART, "size": 0}}, "x.part.size must be a whole number of at least 1, not 0."),
        ({"part": {"_target_": PART, "siez": 1}}, "x.part.siez does not exist (did you mean size?): Part takes size, name."),
        ({"part": {"_target_": WHOLE}}, "x.part must be an object of a Part, {_target_: ...} or null, not a Whole."),
        ({"part": {"_target_": "condgen.nothing.Here"}}, "x.part._target_ must be the path of a class or function"),
        ({"part": {"_target_": 3}}, "x.part._target_ must be the path of a class or function, not 3."),
        (
            {"part": {"_target_": PART, "_partial_": True}},
            "x.part must be an object of a Part, {_target_: ...} or null: leave out",
        ),
        (
            {"size": {"_target_": "os.getpid"}},
            "x.size must be a whole number of at least 1, not an object: leave out",
        ),
        ({"part": {"_target_": PART, "_partial_": "abc"}}, "x.part._partial_ must be true or false, not 'abc'."),
        ({"part": {"_target_": PART, "_convert_": 1}}, "x.part._convert_ must be none, partial, object or all, not 1."),
        ({"make": {"_target_": PART}}, "x.make must be an object of a Part, {_target_: ...}"),
        (
            {"make": {"_target_": WHOLE, "_partial_": True}},
            "x.make must be an object of a Part, {_target_: ...}, not a partial",
        ),
        ({"make": 3}, "x.make must be an object of a Part, {_target_: ...}, not 3."),
        ({"parts": {"a": {"_target_": PART, "size": "7"}}}, "x.parts.a.size must be a whole number of at least 1, not '7'."),
        ({"several": [{"_target_": PART, "size": 1.5}]}, "x.several.0.size must be a whole number of at least 1, not 1.5."),
        ({"several": {"_target_": PART}}, None),
        ({"size": -1}, "x.size must be a whole number of at least 1, not -1."),
        ({"sizes": 1}, "x.sizes does not exist (did you mean size?): Whole takes part, make, parts, several, size."),
    ],
)
def test_a_node_and_all_its_parts(changes, sentence):
    if sentence is None:
        check_node("x", whole(**changes))
        return
    with pytest.raises(CondgenError) as refusal:
        check_node("x", whole(**changes))
    assert str(refusal.value).startswith(sentence)


NETS, DATA, LOSSES = "condgen.nets", "condgen.data", "condgen.losses"
SMALL = {"width": 8, "depth": 2}


@pytest.mark.parametrize(
    "target, given, wrong",
    [
        (f"{DATA}.DataModule", {"batch_size": 0}, "batch_size"),
        (f"{DATA}.DataModule", {"image_size": 0}, "image_size"),
        (f"{DATA}.DataModule", {"channels": 2}, "channels"),
        (f"{DATA}.DataModule", {"memory_share": 2}, "memory_share"),
        (f"{DATA}.DataModule", {"on_device": "sometimes"}, "on_device"),
        (f"{DATA}.DataModule", {"split": 0}, "split"),
        (f"{DATA}.DataModule", {"split": [0.5, 0.5]}, "split"),
        (f"{DATA}.DataModule", {"split": [1.0, 0.0, 0.0]}, "split"),
        (f"{DATA}.DataModule", {"vicinity": 1.0}, "vicinity"),
        (f"{DATA}.DataModule", {"imbalance": {0: 0}}, "imbalance"),
        (f"{DATA}.sources.Ring", {"modes": 0}, "modes"),
        (f"{DATA}.sources.Ring", {"sigma": 0}, "sigma"),
        (f"{DATA}.sources.MNISTAttributes", {"samples": 0}, "samples"),
        (f"{DATA}.sources.ImageTable", {"columns": {"age": "whole"}}, "columns"),
        ("condgen.augment.images.Flip", {"p": 1.5}, "p"),
        ("condgen.augment.images.Crop", {"padding": -1}, "padding"),
        ("condgen.augment.images.Rotate", {"degrees": 200}, "degrees"),
        ("condgen.augment.diffaugment.DiffAugment", {"brightness": -0.1}, "brightness"),
        ("condgen.augment.diffaugment.ADA", {"cutout": 1.5}, "cutout"),
        ("condgen.augment.diffaugment.ADA", {"interval": 0}, "interval"),
        (f"{LOSSES}.likelihood.Likelihood", {"margin": 0.5}, "margin"),
        (f"{LOSSES}.reconstruction.Gaussian", {"sigma": 0}, "sigma"),
        (f"{LOSSES}.auxiliary.ACGAN", {"weight": -1.0}, "weight"),
        (f"{LOSSES}.auxiliary.D2DCE", {"temperature": 0}, "temperature"),
        (f"{LOSSES}.auxiliary.D2DCE", {"margin": 1.5}, "margin"),
        (f"{LOSSES}.regularizers.R1", {"weight": -1.0}, "weight"),
        (f"{LOSSES}.regularizers.Consistency", {"augment": [], "every": 0}, "every"),
        (f"{LOSSES}.regularizers.LeCam", {"decay": 1}, "decay"),
        (f"{NETS}.conv.ConvDiscriminator", {**SMALL, "dropout": -0.5}, "dropout"),
        (f"{NETS}.conv.ConvGenerator", {**SMALL, "depth": 0}, "depth"),
        (f"{NETS}.mlp.MLPGenerator", {"hidden": [8, 0]}, "hidden"),
        (f"{NETS}.mlp.MLPGenerator", {"hidden": [8], "dropout": 2}, "dropout"),
        (f"{NETS}.dcgan.DCGANGenerator", {"width": 8, "init": "kaiming"}, "init"),
        (f"{NETS}.r3gan.R3GANGenerator", {"width": [8, 0]}, "width"),
        (f"{NETS}.r3gan.R3GANGenerator", {"width": 8, "expansion": 0}, "expansion"),
        (f"{NETS}.resnet.ResNetDiscriminator", {"width": 0}, "width"),
        (f"{NETS}.glow.Flow", {"steps": []}, "steps"),
        (f"{NETS}.glow.Flow", {"steps": [2, 0]}, "steps"),
        (f"{NETS}.unet.UNet", {"widths": []}, "widths"),
        (f"{NETS}.unet.UNet", {"patch": 0}, "patch"),
        (f"{NETS}.stylization.StyleNetwork", {"kernel": 8}, "kernel"),
        ("condgen.conditions.Codes", {"categories": [1]}, "categories"),
        ("condgen.conditions.Inpaint", {"hole": 1}, "hole"),
        ("condgen.training.options.Options", {"ema": 1}, "ema"),
        ("condgen.training.options.Options", {"gradient_clip": 0}, "gradient_clip"),
        ("condgen.training.options.Options", {"compile": "fast"}, "compile"),
        ("condgen.training.alternation.Alternation", {"order": "both"}, "order"),
        ("condgen.training.alternation.Alternation", {"micro_batches": 0}, "micro_batches"),
        ("condgen.training.schedules.Linear", {"start": 1}, "start"),
        ("condgen.training.times.LogitNormal", {"deviation": 0}, "deviation"),
        ("condgen.generators.priors.FlowPrior", {"couplings": 0}, "couplings"),
        ("condgen.generators.flow_matching.FlowMatchingGenerator", {"condition_dropout": 1}, "condition_dropout"),
        ("condgen.callbacks.checkpoint.Checkpoint", {"mode": "least"}, "mode"),
        ("condgen.callbacks.checkpoint.Checkpoint", {"every_minutes": 0}, "every_minutes"),
        ("condgen.callbacks.evaluation.Evaluation", {"samples": 99}, "samples"),
        ("condgen.callbacks.early_stopping.EarlyStopping", {"monitor": "train/loss"}, "monitor"),
        ("condgen.callbacks.samples.SampleGrid", {"every_steps": 0}, "every_steps"),
        ("condgen.callbacks.progress.Progress", {"refresh": 0}, "refresh"),
        ("condgen.callbacks.diagnosis.Diagnosis", {"evaluations": 0}, "evaluations"),
        ("torch.optim.Adam", {"lr": 1e-3, "betas": [0.9, 1.0]}, "betas"),
    ],
)
def test_values_out_of_range(target, given, wrong):
    with pytest.raises(CondgenError) as refusal:
        check_node("key", {"_target_": target, **given})
    assert str(refusal.value).startswith(f"key.{wrong} must be ") and "\n" not in str(refusal.value)


def composed(*overrides: str) -> dict[str, Any]:
    """Compose the configuration of a run, and give it the name and folder that Hydra would."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose("train", [*overrides, "run.name=test", "paths.output_dir=here"])
    config = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def files(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.name.startswith("_"))


@pytest.mark.parametrize("name", files("model"))
def test_every_model_is_annotated_as_it_is_configured(name):
    check(composed(f"model={name}"))


@pytest.mark.parametrize("group", ["loss", "condition", "discriminator_augment", "regularizer"])
def test_all_that_can_be_chosen_is_annotated_as_it_is_configured(group):
    for name in files(group):
        check_group(group, yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text()) or {})


def test_every_argument_of_condgens_own_classes_is_annotated():
    """A class that conf/ names and whose annotations cannot be read would take anything."""

    def targets(node):
        if isinstance(node, dict):
            if str(node.get("_target_", "")).startswith("condgen."):
                yield node["_target_"]
            for value in node.values():
                yield from targets(value)
        elif isinstance(node, list):
            for value in node:
                yield from targets(value)

    from hydra.utils import get_object

    found = {target for file in conf_dir().rglob("*.yaml") for target in targets(yaml.safe_load(file.read_text()))}
    assert len(found) > 50
    for target in found:
        known, rest = parameters(get_object(target))
        assert rest is None or target.endswith("EarlyStopping"), target
        assert all(hint is not Any for hint in known.values()), target


@pytest.mark.parametrize(
    "override, sentence",
    [
        ("data.image_size=28.5", "data.image_size must be a whole number of at least 1 or null, not 28.5."),
        ("trainer.devices=abc", "trainer.devices must be auto, a whole number of at least 1 or a list of indices, not 'abc'."),
        ("run.threads=-1", "run.threads must be a whole number in 1.."),
        ("run.threads=1000000", "run.threads must be a whole number in 1.."),
        (
            "trainer.max_epochs=abc",
            "trainer.max_epochs must be a whole number of at least 1, -1 for no limit or null, not 'abc'.",
        ),
        ("+trainer.max_epoch=3", "trainer.max_epoch does not exist (did you mean max_epochs?): Trainer takes "),
        ("model.generator.network.width=0", "model.generator.network.width must be a whole number of at least 1, not 0."),
        ("model.generator.network.width=-1", "model.generator.network.width must be a whole number of at least 1, not -1."),
        ("model.alternation.discriminator_steps=1.5", "model.alternation.discriminator_steps must be a whole number of"),
        ("model.generator_optimizer.lr=-1", "model.generator_optimizer.lr must be a number of at least 0, not -1."),
        ("model.options.ema=1", "model.options.ema must be a number of at least 0 and below 1, not 1."),
        ("+foo=1", "foo is no section of the configuration: it has "),
        ("+dataa=1", "dataa is no section of the configuration (did you mean data?): it has "),
        ("+callbacks.mine.size=1", "callbacks.mine has no _target_"),
        ("run.objective=[1]", "run.objective must be the name of a metric or a list of names or null, not [1]."),
        ("model=null", "A run needs model=acgan_conv|biggan|cgan_conv|..., not model=null."),
        ("~data", "A run needs data="),
        ("seed=1.5", "seed must be a whole number, not 1.5."),
        ("extractor.resize=nearest", "extractor.resize must be bilinear, bicubic or null, not 'nearest'."),
    ],
)
def test_a_whole_configuration(override, sentence):
    config = composed() | {"model": None} if override == "model=null" else composed(override)
    with pytest.raises(CondgenError) as refusal:
        check(config)
    assert str(refusal.value).startswith(sentence)
