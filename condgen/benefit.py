"""``condgen benefit``: whether generated images help a classifier, against everything that helps without a generator.

Reads top to bottom: what is compared is checked, each classifier is trained, validation images choose, test images are looked
at once.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypedDict

import torch
from annotated_types import MinLen
from hydra.utils import instantiate
from torch import Tensor, nn

from condgen.conditions import ClassLabel
from condgen.config.build import build
from condgen.config.validate import check_node, check_section
from condgen.data import DataModule
from condgen.dataset import composed_data, same_training_images
from condgen.downstream.figures import figures
from condgen.downstream.methods import METHODS, Generated, Training, fitted, titled
from condgen.downstream.outcome import Outcome, Result
from condgen.downstream.pieces import require_same
from condgen.downstream.training import Budget, logits_of, make_network
from condgen.errors import CondgenError
from condgen.evaluate import Sampling, known_of
from condgen.files import replacing, require_writable, save_png, write_json, write_text
from condgen.generators.base import BLOCK, Generator
from condgen.metrics.kept import fingerprint
from condgen.origin import condgen_version, weights_digest
from condgen.run.checkpoint import device_of, find, load
from condgen.run.messages import logging_to
from condgen.spaces import Images, to_uint8
from condgen.types import Positive, PositiveInt, PositiveShare

log = logging.getLogger("condgen")
EXTENDED = ("seeds", "methods", "rare")
"""Keys that may change while a comparison is under way: its trials stay what they are."""
Plan = list[tuple[str, float | None]]
"""Methods with the shares that are tried."""


class Comparing(TypedDict, total=False):
    """The keys of a comparison, conf/benefit.yaml."""

    network: Callable[..., nn.Module]
    methods: str | Sequence[str]
    seed: int
    seeds: PositiveInt
    updates: PositiveInt
    batch_size: PositiveInt
    rate: Positive
    shares: Annotated[Sequence[PositiveShare], MinLen(1)]
    rare: PositiveShare
    foreign: bool
    sampling: Sampling


def benefit(
    data: str, generator: Path, overrides: list[str], out: Path | None = None, device: str = "cpu", trust: bool = False
) -> tuple[Outcome, Path]:
    """Compare classifiers with and without images of ``generator``, and write ``benefit.md``, ``.json`` and ``.png``.

    A comparison that was killed goes on where it stopped, if it is asked for again in the same words.

    Args:
        data: a choice in conf/data, a folder or zip of images, or a run whose data to take.
        generator: what draws images: a checkpoint, a run directory, an exported folder, or ``zoo:NAME``.
        overrides: choices and keys of ``conf/benefit.yaml``, and of the data, such as ``data.imbalance=longtail:100``.
        out: folder to write to; None: below ``outputs/benefit``.
        device: where to compute.
        trust: accept foreign classes in stored configurations.

    Raises:
        CondgenError: something does not fit together.
    """
    logging_to(None)
    config = composed_data("benefit", data, overrides, trust)
    keys = {name: value for name, value in config.items() if name not in ("data", "condition", "extractor")}
    check_section("", keys, Comparing)
    check_node("network", config["network"], Callable[..., nn.Module])
    check_node("data", config["data"])
    plan = planned(config)
    place = device_of(device)
    checkpoint = find(generator)
    module: DataModule = build("data", config["data"])
    model = load(checkpoint, trust).to(place)
    model.set_sampling(**config["sampling"])
    module = fitting(model, module, checkpoint, config, trust)
    given = training_of(module, config)
    folder = out or Path("outputs") / "benefit" / f"{Path(data).stem}-{checkpoint.resolve().parent.parent.name}"
    require_writable(folder)
    asked = {"config": config, "data": fingerprint(module.train), "weights": weights_digest(model.trained_state())}
    trials = Trials(folder, asked | {"config": {key: value for key, value in config.items() if key not in EXTENDED}})
    largest = int(torch.bincount(given.labels).max())

    @cache
    def generated(seed: int) -> Generated:
        log.info("Drawing %s images of each class for seed %d.", f"{round(max(config['shares']) * largest):,}", seed)
        return drawn(model, given.classes, round(max(config["shares"]) * largest), seed)

    for seed in range(config["seed"], config["seed"] + config["seeds"]):
        for name, share in plan:
            if not trials.known(name, share, seed):
                pool = generated(seed) if METHODS[name].generates else None
                network = fitted(METHODS[name], given, pool, share, seed, device)
                found = figures(logits_of(network, module.val.images), module.val.labels).balanced_accuracy
                trials.keep(name, share, seed, network, found)
                log.info("seed %d, %s: balanced accuracy on validation images %.4f", seed, titled(name, share), found)
        generated.cache_clear()
    outcome = tested(trials, plan, config, given, module, device)
    write(folder, outcome, asked, config)
    shutil.rmtree(trials.folder)
    return outcome, folder


def planned(config: dict[str, Any]) -> Plan:
    """Return what is trained for each seed; raises CondgenError where ``methods`` names none that exists."""
    names = list(METHODS) if config["methods"] == "all" else config["methods"]
    names = [names] if isinstance(names, str) else names
    for name in names:
        if name not in METHODS:
            raise CondgenError(f"methods={name} does not exist: there are {', '.join(METHODS)}, or all.")
    if config["data"].get("augment") is None and any(METHODS[name].augment for name in names):
        raise CondgenError("augment=none leaves the standard augmentation out: choose another, or methods without it.")
    names = [name for name in METHODS if name in names]
    return [(name, share) for name in names for share in (config["shares"] if METHODS[name].added else [None])]


def fitting(
    model: Generator, data: DataModule, checkpoint: Path, config: dict[str, Any], trust: bool, tested: bool = True
) -> DataModule:
    """Return the data at the model's size.

    Args:
        model: draws images.
        data: the real ones.
        checkpoint: of the model.
        config: with ``data`` and ``foreign``, see conf/benefit.yaml.
        trust: accept foreign classes in the stored configuration.
        tested: whether test images are needed.

    Raises:
        CondgenError: the two do not go together.
    """
    if not isinstance(model.space, Images) or not isinstance(model.condition, ClassLabel):
        raise CondgenError(f"{checkpoint} must make images of classes, trained with condition=class, to add to a data set.")
    if not isinstance(data.space, Images) or len(data.class_names) < 2:
        raise CondgenError("Images of at least two classes are needed: choose other data.")
    if model.condition.classes != data.class_names:
        raise CondgenError(
            f"{checkpoint} generates the classes {', '.join(model.condition.classes[:5])}, ... and the data have "
            f"{', '.join(data.class_names[:5])}, ...: choose the data that it was trained on."
        )
    if tested:
        _ = data.test  # refused early where there is none
    known = known_of(checkpoint, trust).get("data")
    if not config["foreign"] and (different := same_training_images(known, config["data"])):
        raise CondgenError(
            f"{checkpoint} was not trained on these training images ({different}), so it may know images that the classifiers "
            "must not see: give the same data, or foreign=true if you know better."
        )
    sized = data if data.space.shape == model.space.shape else data.at(model.space.shape[1], model.space.shape[0])
    if sized.space.shape != model.space.shape:
        raise CondgenError(f"{checkpoint} makes {model.space} and the data are {data.space}: set data.image_size.")
    return sized


def training_of(data: DataModule, config: dict[str, Any]) -> Training:
    """Return what classifiers are trained on; raises CondgenError where the network does not fit."""
    budget = Budget(config["updates"], config["batch_size"], config["rate"])
    make: Callable[..., nn.Module] = instantiate(config["network"], _partial_=True, _convert_="all")
    given = Training(data.train.images, data.train.labels, len(data.class_names), make, data.augment, budget)
    try:
        make_network(make, given.images[:2], given.classes, 0)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CondgenError(f"network could not be built: {str(error).splitlines()[0]}.") from error
    return given


def drawn(model: Generator, classes: int, count: int, seed: int) -> Generated:
    """Draw ``count`` images of each class, uint8 (N, C, H, W), and return them with what each was asked for."""
    labels = torch.arange(classes).repeat_interleave(count)
    blocks = [to_uint8(model.sample_block(i, some, seed).cpu()) for i, some in enumerate(torch.split(labels, BLOCK))]
    return torch.cat(blocks), labels


class Trials:
    """Classifiers that were trained so far, in a folder, so that a comparison that was killed goes on.

    Args:
        folder: of the comparison.
        asked: what it is of; trials of another one are refused.
    """

    def __init__(self, folder: Path, asked: dict[str, Any]):
        self.folder = folder / "trials"
        refusal = f"{self.folder} holds trials of another comparison: name another --out, or remove it."
        require_same(self.folder / "asked.json", asked, refusal)

    def path(self, name: str, share: float | None, seed: int) -> Path:
        """Return the file of a trial."""
        return self.folder / f"{name}-{share}-{seed}.pt"

    def known(self, name: str, share: float | None, seed: int) -> bool:
        """Whether a trial was done."""
        return self.path(name, share, seed).is_file()

    def keep(self, name: str, share: float | None, seed: int, network: nn.Module, found: float) -> None:
        """Write a trial, whole."""
        with replacing(self.path(name, share, seed)) as temporary:
            torch.save({"found": found, "state": network.state_dict()}, temporary)

    def read(self, name: str, share: float | None, seed: int) -> tuple[float, dict[str, Tensor]]:
        """Return what validation images said of a trial, and its weights."""
        content = torch.load(self.path(name, share, seed), weights_only=True)
        return content["found"], content["state"]


def tested(trials: Trials, plan: Plan, config: dict[str, Any], given: Training, data: DataModule, device: str) -> Outcome:
    """Choose each method's share on validation images, and look at test images with what was chosen."""
    seeds = range(config["seed"], config["seed"] + config["seeds"])
    test, test_labels = data.test.images, data.test.labels
    results = []
    for name in dict.fromkeys(name for name, _ in plan):
        shares = [share for other, share in plan if other == name]
        said = {share: sum(trials.read(name, share, seed)[0] for seed in seeds) / len(seeds) for share in shares}
        share = max(said, key=lambda one: said[one])
        found = []
        for seed in seeds:
            network = make_network(given.network, given.images, given.classes, seed).to(device)
            network.load_state_dict(trials.read(name, share, seed)[1])
            found.append(figures(logits_of(network.eval(), test), test_labels))
        results.append(Result(name, share, said[share], found))
    counts = torch.bincount(given.labels, minlength=given.classes).tolist()
    rare = [label for label, count in enumerate(counts) if count <= config["rare"] * max(counts)]
    rare = rare or [min(range(len(counts)), key=counts.__getitem__)]
    return Outcome(results, data.class_names, counts, rare)


def write(folder: Path, outcome: Outcome, asked: dict[str, Any], config: dict[str, Any]) -> None:
    """Write table, chart and figures."""
    head = (
        f"Classifiers of {config['updates']} updates each, {config['seeds']} seeds; percent on test images, with 95 % "
        "intervals over seeds. Shares and the best baseline were chosen on validation images."
    )
    write_text(folder / "benefit.md", f"{head}\n\n{outcome.table()}\n\n{outcome.sentence()}\n")
    write_json(folder / "benefit.json", {"condgen": condgen_version(), **asked, **outcome.as_json()})
    save_png(folder / "benefit.png", outcome.chart())
