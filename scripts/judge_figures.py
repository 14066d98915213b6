"""Measure which figure sees which damage, and whether figures rank sets of pictures as the eye does.

    uv run python scripts/snapshots.py mnist                       # first: the pictures of a training, in their order
    uv run python scripts/judge_figures.py mnist
    uv run python scripts/snapshots.py cifar10 data.source.archive=PATH/train.zip
    uv run python scripts/judge_figures.py cifar10 data.source.archive=PATH/train.zip

1,000 validation images, which no extractor has seen, are damaged in known ways at four strengths each and measured against the
test images. What has been measured lies in ``outputs/judging/NAME.json``: stopped, the same command goes on there; ``tables``
in the place of a name only writes the tables and the charts into the documentation, from all that has been measured.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from judged_tables import write

from condgen.config.build import build, plain
from condgen.config.folder import conf_dir
from condgen.files import replacing
from condgen.metrics.damage import DAMAGES, STRENGTHS, Pictures
from condgen.metrics.evaluator import Evaluator
from condgen.metrics.extractors import SHIPPED, Shipped
from condgen.randomness import generator

COUNT = 1000
"""Images of a set."""
DRAWS = 4
"""Undamaged sets, whose spread says what is noise."""
MIXTURES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of real pictures among those of the end of a training."""
OUT, SNAPSHOTS = Path("outputs/judging"), Path("outputs/snapshots")
FIRST = ["fid", "sfid", "swd", "swd_fine", "swd_coarse", "is", "precision", "recall", "density", "coverage"]
FIRST += ["label_accuracy", "intra_fid", "diversity", "nearest"]
SECOND = ["fid", "sfid", "precision", "recall", "density", "coverage", "label_accuracy", "intra_fid"]
EXTRACTORS = {"mnist": {"mnist-cnn": FIRST}, "cifar10": {"cifar10-resnet": FIRST, "cifar10-rotation": SECOND}}


@dataclass(frozen=True, eq=False)
class Case:
    """A set of pictures whose place in an order is known.

    Attributes:
        order: what it belongs to: a damage, "undamaged", "training" or "mixture".
        strength: its place; in an order the worst come last.
        pictures: the set.
    """

    order: str
    strength: float
    pictures: Pictures


def cases(name: str, data: Any) -> Iterator[Case]:
    """Yield undamaged sets, damaged ones, and those of a training."""
    every = Pictures(data.val.images, data.val.labels)
    train = Pictures(data.train.images, data.train.labels)
    drawn = [every[torch.randperm(len(every), generator=generator("judged", draw))[:COUNT]] for draw in range(DRAWS)]
    for draw, pictures in enumerate(drawn):
        yield Case("undamaged", draw, pictures)
    for damage, apply in DAMAGES.items():
        for strength in STRENGTHS[damage]:
            yield Case(damage, strength, apply(drawn[0], strength, train))
    files = sorted((SNAPSHOTS / name).glob("update-*.npz"))
    for file in files:
        yield Case("training", -int(file.stem.split("-")[1]), read(file))
    if files:
        last = read(files[-1])
        for share in MIXTURES:
            yield Case("mixture", 1 - share, mixed(last, drawn[0], share))


def read(file: Path) -> Pictures:
    """Return the pictures of an .npz of ``scripts/snapshots.py``."""
    content = np.load(file)
    every = Pictures(torch.from_numpy(content["images"]).permute(0, 3, 1, 2), torch.from_numpy(content["labels"]))
    return every[torch.randperm(len(every), generator=generator("judged", "samples"))[:COUNT]]


def mixed(generated: Pictures, real: Pictures, share: float) -> Pictures:
    """Return ``real`` pictures as ``share`` of a set whose others are ``generated``."""
    rows = torch.randperm(COUNT, generator=generator("judged", "mixture"))
    taken = round(share * COUNT)
    sides = real[rows[:taken]], generated[rows[taken:]]
    return Pictures(torch.cat([side.images for side in sides]), torch.cat([side.labels for side in sides]))


def main(name: str, overrides: list[str]) -> None:
    """Measure what of set ``name`` is not yet measured, and write the tables."""
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        data: Any = build("data", plain(compose("train", [f"data={name}", *overrides]).data))
    file = OUT / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    shipped = [key for key in EXTRACTORS[name] if (SHIPPED / f"{key}.json").exists()]  # a new one is trained first
    evaluators = {key: Evaluator(Shipped(key), data, "test") for key in shipped}
    for case in cases(name, data):
        for extractor, evaluator in evaluators.items():
            key = f"{case.order}/{case.strength:g}/{extractor}"
            if key not in found:
                found[key] = figures(evaluator, case.pictures, EXTRACTORS[name][extractor])
                with replacing(file) as temporary:
                    temporary.write_text(json.dumps(found, indent=1))
                print(key, {metric: round(value, 4) for metric, value in found[key].items()}, flush=True)
    write(OUT)


def figures(evaluator: Evaluator, pictures: Pictures, metrics: list[str]) -> dict[str, float]:
    """Return ``metrics`` of ``pictures``."""
    generated = evaluator.given(pictures.images, pictures.labels, metrics=metrics)
    return evaluator.record(generated, with_floors=False, weights="given", source="judged", step=None).figures


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in (*EXTRACTORS, "tables"):
        sys.exit(f"Name the data: {' or '.join(EXTRACTORS)}; or tables.")
    if sys.argv[1] == "tables":
        write(OUT)
    else:
        main(sys.argv[1], sys.argv[2:])
