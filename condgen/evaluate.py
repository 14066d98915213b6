"""``condgen evaluate``: the figures of a checkpoint, or of images that other code has drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.audio import Mel
from condgen.conditions.tasks import Tasks
from condgen.config.build import build, check_stored
from condgen.config.compose import by_choices
from condgen.config.validate import check_node, check_section
from condgen.data.sources import AudioFolder, ImageFolder
from condgen.data.tables import Part
from condgen.errors import CondgenError
from condgen.files import require_writable, write_text
from condgen.generators.base import Generator
from condgen.generators.language import LanguageGenerator
from condgen.images import BROKEN
from condgen.metrics.catalogue import LIKELIHOODS, chosen
from condgen.metrics.evaluator import FEWEST, Enough, Evaluator
from condgen.metrics.generated import Generated
from condgen.metrics.record import Record, add_record
from condgen.metrics.results import name_of, save, table
from condgen.metrics.text import TextEvaluator, wanted
from condgen.resume import changed
from condgen.run.checkpoint import device_of, find, has_average, read, restore
from condgen.run.exported import CONFIG, is_exported, read_config
from condgen.run.stored import run_of, stored_config
from condgen.spaces import Space, Viewed
from condgen.tokens import Tokens
from condgen.types import Positive, PositiveInt, PositiveShare
from condgen.waveforms import Waveforms

GROUPS = ("data", "extractor", "condition")
"""What conf/evaluate.yaml chooses; the rest of it are keys."""


class Sampling(TypedDict, total=False):
    """How samples are drawn for a measurement, where otherwise than in training."""

    truncation: Positive | None
    temperature: Positive | None
    standing: PositiveInt | None
    guidance: Positive | None
    steps: PositiveInt | None
    solver: str | None
    top_k: PositiveInt | None
    top_p: PositiveShare | None


class Measuring(TypedDict, total=False):
    """The keys of a measurement, conf/evaluate.yaml."""

    split: Literal["val", "test"]
    samples: Enough | None
    likelihood: PositiveInt | None
    suite: str | Sequence[str]
    task: str | None
    seed: int
    weights: Literal["ema", "raw"]
    sampling: Sampling


def evaluate(
    target: Path, overrides: list[str], out: Path | None = None, device: str = "cpu", trust: bool = False
) -> tuple[Record, Path]:
    """Measure ``target`` and write ``metrics.json`` with its pictures.

    Args:
        target: a checkpoint, a run directory, an exported folder, ``zoo:NAME``, an .npz (``images`` uint8 (N, H, W, C),
            ``labels`` (N,)) or a folder of class sub-folders of images, or of sounds.
        overrides: choices and keys of ``conf/evaluate.yaml``, e.g. ``split=val`` or ``extractor=inception``.
        out: folder to write to; None: beside the run's checkpoints, or below ``outputs/evaluation``.
        device: where to compute.
        trust: accept foreign classes in the stored configuration.

    Raises:
        CondgenError: something does not fit together; nothing is written.
    """
    checkpoint = None if holds_images(target) else find(target)
    content, model = None, None
    if checkpoint is not None:
        content = read(checkpoint)
        model = restore(content, checkpoint, trust)
        if isinstance(model.space, Tokens):
            return texts(content, checkpoint, overrides, out, device, trust)
        if not isinstance(model.space, Viewed):
            raise CondgenError(
                f"Only images can be evaluated and {checkpoint} makes {type(model.space).__name__.lower()}: "
                "draw them with condgen sample --out FILE.npz."
            )
    config = settings(target, known_of(checkpoint, trust), overrides)
    home = ((checkpoint and run_of(checkpoint)) or Path("outputs")) / "evaluation"
    require_writable(out or home)
    evaluator = Evaluator(
        build("extractor", config["extractor"]), build("data", config["data"]), config["split"], config["seed"]
    )
    if content is not None and checkpoint is not None and config["weights"] == "raw":
        model = restore(content, checkpoint, trust, "raw")
    place = device_of(device)
    evaluator.extractor.to(place)
    metrics = chosen(config["suite"])
    if not config["suite"]:
        raise CondgenError("suite= names no metric: give suite=all, or a list such as suite=[fid,label_accuracy].")
    likelihood: dict[str, float] = {}
    if content is None or model is None or checkpoint is None:
        generated = evaluator.given(*read_images(target, evaluator), metrics=metrics)
        weights, sampling, condition, source, step = "given", {}, None, target.stem, None
    else:
        generated = samples_of(model.to(place), evaluator, config, checkpoint, metrics)
        sampling, condition = model.sampling, model.condition
        weights = config["weights"] if has_average(content) else "raw"
        source, step = checkpoint.stem, content["global_step"]
        if likelihood := likelihood_of(model, evaluator, config):
            sampling = sampling | {"likelihood": f"{model.density}-{config['likelihood']}"}
    record = evaluator.record(
        generated,
        with_floors=True,
        weights=weights,
        sampling=sampling,
        likelihood=likelihood,
        condition=condition,
        source=source,
        step=step,
    )
    folder = out or home / "-".join([name_of(record), *filter(None, [config["task"]])])
    try:
        save(folder, record, evaluator, generated, model)
    except (CondgenError, OSError) as error:  # a full disk: what took minutes is at least told
        raise CondgenError(f"{error}\nThe figures:\n{table(record)}") from error
    return record, folder


def texts(
    content: dict[str, Any], checkpoint: Path, overrides: list[str], out: Path | None, device: str, trust: bool
) -> tuple[Record, Path]:
    """Measure a model that makes texts, see `evaluate`; ``content`` is that of its checkpoint."""
    config = settings(checkpoint, known_of(checkpoint, trust), overrides, needed=("data",))
    metrics = wanted(config["suite"])
    home = (run_of(checkpoint) or Path("outputs")) / "evaluation"
    require_writable(out or home)
    model = restore(content, checkpoint, trust, config["weights"]).to(device_of(device))
    assert isinstance(model, LanguageGenerator)
    evaluator = TextEvaluator(build("data", config["data"]), config["split"], config["seed"])
    if evaluator.space.config() != model.space.config():
        raise CondgenError(f"{checkpoint} writes other characters than the data have: choose the data it was trained on.")
    count = wanted_samples(config, evaluator.part)
    model.set_sampling(**config["sampling"])
    record, lines = evaluator.record(
        model,
        count,
        metrics=metrics,
        weights=config["weights"] if has_average(content) else "raw",
        source=checkpoint.stem,
        step=content["global_step"],
    )
    folder = out or home / name_of(record)
    add_record(folder / "metrics.json", record)
    write_text(folder / "samples.txt", "\n\n".join(lines) + "\n")
    return record, folder


def holds_images(target: Path) -> bool:
    """Whether ``target`` is images instead of a model."""
    return target.suffix == ".npz" or (target.is_dir() and not (target / "checkpoints").is_dir() and not is_exported(target))


def known_of(checkpoint: Path | None, trust: bool) -> dict[str, Any]:
    """Return the nodes ``data`` and ``extractor`` that belong to a model, as far as its run or its exported folder has them."""
    if checkpoint is None or checkpoint.is_file():
        run = run_of(checkpoint) if checkpoint else None
        return stored_config(run, trust) if run else {}
    known = read_config(checkpoint)["evaluation"]
    check_stored(known, checkpoint / CONFIG, trust)
    return dict(known)


def settings(
    target: Path,
    known: dict[str, Any],
    overrides: list[str],
    verb: str = "evaluate",
    keys: type = Measuring,
    needed: Sequence[str] = ("data", "extractor"),
) -> dict[str, Any]:
    """Return the plain configuration of ``verb``: what of the ``needed`` is not chosen is as ``known`` of the target."""
    config, deep = by_choices(verb, overrides)
    for name in needed:
        config[name] = config.get(name) or known.get(name)
        if not config[name]:
            raise CondgenError(
                f"{name}= has to be chosen to {verb} {target}, for example "
                + ("data=mnist." if name == "data" else "extractor=mnist-cnn, the extractor that looks at the images.")
            )
    config = changed(config, deep)
    check_section("", {name: value for name, value in config.items() if name not in GROUPS}, keys)
    for name in config.keys() & GROUPS:
        check_node(name, config[name])
    return dict(config)


def samples_of(
    model: Generator, evaluator: Evaluator, config: dict[str, Any], checkpoint: Path, metrics: Sequence[str]
) -> Generated:
    """Draw the samples of a trained model that will be measured."""
    if model.condition.classes and model.condition.classes != evaluator.data.condition.classes:
        raise CondgenError(
            f"{checkpoint} generates the classes {', '.join(model.condition.classes[:5])}, ... and the data have "
            f"{', '.join(evaluator.data.condition.classes[:5])}, ...: choose the data that it was trained on."
        )
    theirs = evaluator.modelled.space
    if isinstance(model.space, Waveforms) and model.space.config() != theirs.config():
        raise CondgenError(f"{checkpoint} makes {model.space} and the data have {theirs}: choose the data it was trained on.")
    assert isinstance(model.space, Viewed)
    evaluator.extractor.resizing(model.space.view.shape, f"the samples of {checkpoint}")
    if config["task"] is not None:
        if not isinstance(model.condition, Tasks):
            raise CondgenError(f"task={config['task']} is for models of several tasks, and {checkpoint} has one: leave it out.")
        model.condition.choose(config["task"], "task")
    count = wanted_samples(config, evaluator.part)
    model.set_sampling(**config["sampling"])
    return evaluator.sample(model, evaluator.matching_rows(count), metrics)


def wanted_samples(config: dict[str, Any], part: Part) -> int:
    """Return how many samples are drawn, by default as many as ``part`` has; raises CondgenError for too few."""
    count: int = config["samples"] or len(part)
    if count < FEWEST:
        raise CondgenError(f"samples={count} are too few: at least {FEWEST} are needed for figures that mean something.")
    return count


def likelihood_of(model: Generator, evaluator: Evaluator, config: dict[str, Any]) -> dict[str, float]:
    """Return what a trained model says of real images: those figures that are asked for and that its family has."""
    suite, draws = config["suite"], config["likelihood"]
    names = LIKELIHOODS if suite == "all" else [name for name in chosen(suite) if name in LIKELIHOODS]
    if not (names and draws and model.density):
        return {}
    found = evaluator.likelihood(model, draws)
    return {name: found[name] for name in names if name in found}


def read_images(path: Path, evaluator: Evaluator) -> tuple[Tensor, Tensor | None]:
    """Read images of other code: uint8 (N, C, H, W) and what each was asked for, int64 (N,), None where nothing was.

    Raises:
        CondgenError: they are damaged, too few, of another size, or of classes that the data do not have.
    """
    classes = evaluator.data.condition.classes
    images, labels = read_npz(path) if path.suffix == ".npz" else read_folder(path, classes, evaluator.data.space)
    evaluator.extractor.resizing(images.shape[1:], f"the images in {path}")
    if len(images) < FEWEST:
        raise CondgenError(f"{path} holds {len(images)} images: at least {FEWEST} are needed for figures that mean something.")
    if labels is not None and not bool(((labels >= 0) & (labels < max(1, len(classes)))).all()):
        wrong = int(((labels < 0) | (labels >= max(1, len(classes)))).nonzero()[0])
        raise CondgenError(
            f"{path}: labels must lie in 0..{len(classes) - 1}, the classes of the data, and label {wrong} is {labels[wrong]}."
        )
    return images, labels


def read_npz(path: Path) -> tuple[Tensor, Tensor | None]:
    """Read ``images`` and ``labels`` of an .npz; labels that are all -1, or none at all, mean that nothing was asked for."""
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"] if "labels" in file.files else None
    except (*BROKEN, RuntimeError, MemoryError) as error:
        raise CondgenError(
            f"{path} could not be read: it must be an .npz with images, uint8 (N, H, W, C), and labels, (N,)."
        ) from error
    if np.issubdtype(images.dtype, np.floating) and not np.isfinite(images).all():
        raise CondgenError(f"{path}: images contain pixels that are not numbers (NaN or infinite).")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise CondgenError(f"{path}: images must be uint8 (N, H, W, C) with C = 1 or 3, not {images.dtype} {images.shape}.")
    if labels is not None and labels.shape != (len(images),):
        raise CondgenError(f"{path}: labels must be ({len(images)},), one for each image, not {labels.shape}.")
    if labels is not None and not np.issubdtype(labels.dtype, np.integer):
        raise CondgenError(
            f"{path}: labels must be whole numbers, the places of classes from 0, not {labels.dtype}{such_as(labels)}."
        )
    requested = None if labels is None or (labels == -1).all() else torch.from_numpy(labels.astype(np.int64))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), requested


def such_as(labels: NDArray[Any]) -> str:
    """Return an example of labels that are wrong, the first that is no whole number."""
    if not np.issubdtype(labels.dtype, np.floating) or not len(labels):
        return ""
    odd = labels != labels.round()
    place = int(odd.argmax())
    return f" (label {place} is {labels[place]})"


def read_folder(path: Path, classes: list[str], space: Space) -> tuple[Tensor, Tensor]:
    """Read a folder of class sub-folders, which must bear the names of the data's ``classes``; of sounds for ``space``."""
    tables = (AudioFolder(path, space) if isinstance(space, Mel) else ImageFolder(path)).load()
    if unknown := sorted(set(tables.classes) - set(classes)):
        raise CondgenError(
            f"{path}: the data have no class {unknown[0]!r}; sub-folders must be named {', '.join(classes[:12])}."
        )
    return tables.train.images[:], torch.tensor([classes.index(name) for name in tables.classes])[tables.train.labels]
