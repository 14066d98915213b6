"""What a measurement leaves behind: its figures with their protocol, its pictures, its table."""

from pathlib import Path

import torch
from torch import Tensor

from condgen.files import save_png
from condgen.metrics.catalogue import METRICS
from condgen.metrics.evaluator import Evaluator
from condgen.metrics.features import Features
from condgen.metrics.protocol import SAMPLING, thousands
from condgen.metrics.record import Record, write_record
from condgen.models.base import GenerativeModel
from condgen.reporting.charts import confusion_chart
from condgen.reporting.pictures import condition_interpolation, latent_interpolation, neighbours
from condgen.spaces import Images, to_float

SIDE = 10
"""Samples in a row and in a column of their picture."""
COMPARED = 40
"""Samples that are shown beside their nearest training images."""


def name_of(record: Record) -> str:
    """Return the name of the folder of a measurement: ``best-test-10k-mnist-cnn``, and what is not as by default."""
    protocol = record.protocol
    parts = [record.source, protocol.reference, thousands(protocol.generated), protocol.extractor]
    parts += ["raw"] if protocol.weights == "raw" else []
    knobs = {name: getattr(protocol, name) for name in SAMPLING if name != "weights"}
    parts += [f"{name}{value if isinstance(value, str) else format(value, 'g')}" for name, value in knobs.items() if value]
    return "-".join(parts + ([f"seed{protocol.seed}"] if protocol.seed else []))


def save(
    folder: Path,
    record: Record,
    evaluator: Evaluator,
    images: Tensor,
    features: Features,
    model: GenerativeModel | None,
) -> dict[str, Tensor]:
    """Write ``metrics.json`` and the pictures of a measurement into ``folder``, and return the pictures by their names."""
    space = Images(images.shape[1:])
    some = torch.linspace(0, len(images) - 1, SIDE**2).long()
    pictures = {"samples": space.grid(to_float(images[some]), SIDE)}
    if record.confusion is not None:
        pictures["confusion"] = confusion_chart(torch.tensor(record.confusion), record.classes)
    if images.shape[1:] == evaluator.data.space.shape:
        train = evaluator.data.train
        few = torch.linspace(0, len(images) - 1, COMPARED).long()
        known = evaluator.train.features
        pictures["neighbours"] = neighbours(
            images[few], features.features[few], train.table.images, known, space, rows=train.rows
        )
    if model:
        walks = {"latents": latent_interpolation, "classes": condition_interpolation}
        drawn = {name: draw(model, seed=record.protocol.seed) for name, draw in walks.items()}
        pictures |= {name: picture for name, picture in drawn.items() if picture is not None}
    for name, picture in pictures.items():
        save_png(folder / f"{name}.png", picture)
    write_record(folder / "metrics.json", record)
    return pictures


def table(record: Record) -> str:
    """Return the figures with their floors as lines of text, under their protocol."""
    lines = [f"{record.protocol.name}: {record.protocol.generated:,} samples, {record.protocol.real:,} real images"]
    lines += [f"  {'':24} {'samples':>10} {'real':>10}"]
    for name, value in record.figures.items():
        form = METRICS[name].format
        floor = f"{record.floors[name]:>10{form}}" if name in record.floors else ""
        lines.append(f"  {METRICS[name].title:24} {value:>10{form}} {floor}".rstrip())
    return "\n".join(lines)
