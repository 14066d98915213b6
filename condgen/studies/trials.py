"""A study: which pictures are shown in which order, and what each of them is."""

import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from condgen.errors import CondgenError
from condgen.files import TEMPORARY, write_json
from condgen.images import to_picture
from condgen.randomness import generator

BLOCK = 20
"""Trials within which kinds are balanced, so that a study that is stopped anywhere was balanced, too."""
Question = Literal["real", "condition", "both"]
"""What is asked: whether pictures are real, whether they show their condition, or the one and then the other."""
KINDS = ("real", "generated")
SIDES = ("left", "right")


@dataclass(frozen=True)
class Model:
    """A model whose pictures are shown.

    Attributes:
        name: for readers, such as the run's.
        source: the checkpoint, such as "best".
        run: its run directory, from the folder of the study; None where it has none.
        weights: sha256 of them.
        average: "ema" or "raw".
        step: updates after which the checkpoint was written, None where it does not say.
        sampling: how it was sampled, where otherwise than in training.
    """

    name: str
    source: str
    run: str | None
    weights: str
    average: str
    step: int | None
    sampling: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """What is shown at a time.

    Attributes:
        pictures: names of the files: one, or the left and the right one of a pair.
        key: what is right: "real" or "generated"; of a pair the side of the first model, "left" or "right".
        label: its class, 0..K-1; 0 where there are none.
        condition: what was asked for, in words.
    """

    pictures: list[str]
    key: str
    label: int
    condition: str


@dataclass(frozen=True)
class Study:
    """All of a study but its answers, as ``study.json`` holds it.

    Attributes:
        version: of condgen.
        question: see `Question`.
        feedback: whether a person is told a result at the end.
        seed: decides which images, in which order, and the noise of the samples.
        split: the part of the data that real images and conditions come from.
        data: hash of that part.
        classes: names of the K classes; empty where there are none.
        models: one, compared with real images, or two, compared with each other.
        trials: in the order in which everybody sees them.
    """

    version: str
    question: Question
    feedback: bool
    seed: int
    split: str
    data: str
    classes: list[str]
    models: list[Model]
    trials: list[Trial]

    @property
    def paired(self) -> bool:
        """Whether two models are compared with each other."""
        return len(self.models) == 2

    @property
    def slots(self) -> list[tuple[int, str]]:
        """What is asked, in order: the trial from 0, and "real" or "condition"."""
        questions = ("real", "condition") if self.question == "both" else (self.question,)
        return [(number, question) for number in range(len(self.trials)) for question in questions]

    def choices(self, question: str) -> list[str]:
        """Return the answers to "real" or to "condition"."""
        if self.paired:
            return list(SIDES)
        return list(KINDS) if question == "real" else self.classes

    def right(self, number: int, question: str) -> str:
        """Return the right answer; of a pair the one that prefers the first model."""
        trial = self.trials[number]
        return trial.key if self.paired or question == "real" else self.classes[trial.label]


# --- which rows, in which order ---


def arranged(labels: Tensor, trials: int, seed: int) -> tuple[list[int], list[int], list[str]]:
    """Choose what is shown beside real images: half of it real, half generated, each class alike often in each half.

    Args:
        labels: classes of the real images, int64 (N,).
        trials: number of pictures, even.
        seed: decides all of it.

    Returns:
        For each trial the row of the image that is shown, or whose condition is asked for, its class, and its key. A row is
        shown at most once, and none that is shown gives a condition.

    Raises:
        CondgenError: a class has too few images.
    """
    if trials % 2:
        raise CondgenError(f"trials={trials} must be even: half of the pictures are real.")
    real, asked = [], []
    for label, quota in enumerate(quotas(labels, trials // 2, seed)):
        rows = shuffled((labels == label).nonzero()[:, 0].tolist(), seed, "rows", label)
        if quota and len(rows) < quota + 1:
            raise CondgenError(
                f"The data have {len(rows)} real images of class {label} and {quota + 1} are needed: set trials lower."
            )
        others = rows[quota:]
        real += rows[:quota]
        asked += [others[i % len(others)] for i in range(quota)]
    halves = shuffled(real, seed, "real"), shuffled(asked, seed, "generated")
    keys = balanced(KINDS, trials, seed)
    rest = {kind: iter(rows) for kind, rows in zip(KINDS, halves, strict=True)}
    rows = [next(rest[key]) for key in keys]
    return rows, labels[rows].tolist(), keys


def paired(labels: Tensor, trials: int, seed: int) -> tuple[list[int], list[int], list[str]]:
    """Choose conditions for pairs, each class alike often, and the first model's side; see `arranged`."""
    chosen = []
    for label, quota in enumerate(quotas(labels, trials, seed)):
        rows = shuffled((labels == label).nonzero()[:, 0].tolist(), seed, "rows", label)
        chosen += [rows[i % len(rows)] for i in range(quota)]
    rows = shuffled(chosen, seed, "pairs")
    return rows, labels[rows].tolist(), balanced(SIDES, trials, seed)


def quotas(labels: Tensor, count: int, seed: int) -> list[int]:
    """Share ``count`` among the classes that have an image, alike; what does not go into them goes to some, by the seed."""
    present = sorted(set(labels.tolist()))
    shares = [0] * (max(present) + 1)
    lucky = set(shuffled(present, seed, "lucky")[: count % len(present)])
    for label in present:
        shares[label] = count // len(present) + (label in lucky)
    return shares


def balanced(kinds: Sequence[str], count: int, seed: int) -> list[str]:
    """Return ``count`` of two kinds in random order, within each `BLOCK` alike often."""
    keys: list[str] = []
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        keys += shuffled([kinds[i % 2] for i in range(size)], seed, "keys", start)
    return keys


def shuffled(items: Sequence[Any], *key: int | str) -> list[Any]:
    """Return ``items`` in an order that ``key`` decides."""
    return [items[i] for i in torch.randperm(len(items), generator=generator("study", *key)).tolist()]


# --- the folder ---


def to_png(image: Tensor) -> bytes:
    """Encode an image, uint8 (C, H, W), with nothing but its pixels: what is real and what is not look alike as files."""
    buffer = io.BytesIO()
    to_picture(image).save(buffer, format="PNG")
    return buffer.getvalue()


def write_study(folder: Path, study: Study, pictures: dict[str, Tensor]) -> None:
    """Write ``study.json`` and the pictures, uint8 (C, H, W) by their names, into a folder that is empty or not there yet.

    Raises:
        CondgenError: the folder holds something, or cannot be written; nothing is left behind.
    """
    require_empty(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}."[:200], suffix=TEMPORARY, dir=folder.parent) as name:
            made = Path(name) / "study"
            (made / "pictures").mkdir(parents=True)
            for file, image in pictures.items():
                (made / "pictures" / file).write_bytes(to_png(image))
            write_json(made / "study.json", asdict(study))
            made.replace(folder)
    except OSError as error:
        raise CondgenError(f"{folder} could not be written ({error.strerror or error}); nothing was kept.") from error


def require_empty(folder: Path) -> None:
    """Refuse a folder in which something lies already; raises CondgenError."""
    if (folder / "study.json").exists():
        raise CondgenError(f"{folder} holds a study already: condgen study {folder} goes on with it, or name another --out.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CondgenError(f"--out {folder} is there and is no empty folder: choose another, nothing was overwritten.")


def read_study(folder: Path) -> Study:
    """Read the study in ``folder``.

    Raises:
        CondgenError: there is none, it is damaged, or pictures are missing.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise CondgenError(f"{folder} holds no study: it has no study.json.")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        models = [Model(**model) for model in stored.pop("models")]
        trials = [Trial(**trial) for trial in stored.pop("trials")]
        study = Study(**stored, models=models, trials=trials)
        require_whole(study)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CondgenError(f"{path} could not be read as a study of condgen's: it is damaged.") from error
    for trial in study.trials:
        for name in trial.pictures:
            if not (folder / "pictures" / name).is_file():
                raise CondgenError(f"{folder} lacks its picture pictures/{name}: put it back.")
    return study


def require_whole(study: Study) -> None:
    """Raise ValueError where a study that was read is none."""
    keys, shown = (SIDES, 2) if study.paired else (KINDS, 1)
    good = study.question in get_args(Question) and len(study.models) in (1, 2) and bool(study.trials)
    for trial in study.trials:
        names = [Path(name).name == name for name in trial.pictures]
        known = 0 <= trial.label < max(1, len(study.classes))
        good = good and known and trial.key in keys and len(names) == shown and all(names)
    if not good:
        raise ValueError("no study")
