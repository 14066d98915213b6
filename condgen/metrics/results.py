"""What a measurement leaves behind: its figures with their protocol, its pictures, its table."""

from pathlib import Path

import torch
from torch import Tensor

from condgen.audio import Sound
from condgen.files import replacing, save_png
from condgen.generators.base import Generator
from condgen.metrics.attributes import listed
from condgen.metrics.catalogue import METRICS
from condgen.metrics.evaluator import Evaluator
from condgen.metrics.generated import Generated
from condgen.metrics.protocol import SAMPLING, thousands
from condgen.metrics.record import Record, add_record
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
    sampling = {name: value for name in SAMPLING if name != "weights" and (value := getattr(protocol, name)) is not None}
    parts += [name + (value if isinstance(value, str) else f"{value:g}") for name, value in sampling.items()]
    return "-".join(parts + ([f"seed{protocol.seed}"] if protocol.seed else []))


def save(
    folder: Path,
    record: Record,
    evaluator: Evaluator,
    generated: Generated,
    model: Generator | None,
) -> dict[str, Tensor]:
    """Write ``metrics.json``, the pictures and perhaps a wav of a measurement into ``folder``; return the pictures by name."""
    kept = generated.suite.kept()
    images, ours = kept["images"], evaluator.original.space
    rows = shown(kept.get("labels"), len(images))
    space = ours if isinstance(ours, Images) and generated.shape == ours.shape else Images(generated.shape)
    pictures = {"samples": space.grid(to_float(images[rows]), SIDE)}
    if record.confusion is not None:
        pictures["confusion"] = confusion_chart(torch.tensor(record.confusion), record.classes)
    if generated.shape == evaluator.data.space.shape:
        train = evaluator.data.train
        few = torch.linspace(0, len(images) - 1, COMPARED).long()
        known = evaluator.train.features
        some = images[few], kept["features"][few]
        pictures["neighbours"] = neighbours(*some, train.table.images, known, space, rows=train.rows)
    if model:
        walks = {"latents": latent_interpolation, "classes": condition_interpolation}
        drawn = {name: draw(model, seed=record.protocol.seed) for name, draw in walks.items()}
        pictures |= {name: picture for name, picture in drawn.items() if picture is not None}
    for name, picture in pictures.items():
        save_png(folder / f"{name}.png", picture)
    if isinstance(evaluator.modelled.space, Sound) and isinstance(space, Sound) and evaluator.modelled is evaluator.original:
        with replacing(folder / "samples.wav") as temporary:
            temporary.write_bytes(space.file(to_float(images[rows[::SIDE]])))
    add_record(folder / "metrics.json", record)
    return pictures


def shown(labels: Tensor | None, count: int) -> Tensor:
    """Return which of ``count`` samples are shown: a row of `SIDE` for each class of ``labels`` (N,), of many classes some."""
    if labels is None:
        return torch.linspace(0, count - 1, SIDE**2).long()
    classes = torch.unique(labels)
    chosen = classes[torch.linspace(0, len(classes) - 1, min(len(classes), SIDE)).round().long()]
    own = [(labels == label).nonzero().squeeze(1) for label in chosen]
    return torch.cat([rows[torch.arange(SIDE) % len(rows)] for rows in own])


def table(record: Record) -> str:
    """Return the figures with their floors and baselines as lines of text, under their protocol."""
    protocol = record.protocol
    beside = f"; in the column real, {record.floors_of} in the place of samples" if record.floors else ""
    kind = "texts" if protocol.extractor == "characters" else "images"
    lines = [f"{protocol.name}: {protocol.generated:,} samples, {protocol.real:,} real {kind}{beside}"]
    lines += [f"  each sample starts from an image ({protocol.start})"] if protocol.start else []
    columns = {"samples": record.figures, "real": record.floors} | record.baselines
    widths = {title: max(10, len(title) + 1) for title in columns}
    lines += [" ".join([f"  {'':24}", *(f"{title:>{widths[title]}}" for title in columns)])]
    for name in record.figures:
        form = METRICS[name].format
        cells = [f"{found[name]:{form}}" if name in found else "" for found in columns.values()]
        cells = [f"{cell:>{width}}" for cell, width in zip(cells, widths.values(), strict=True)]
        lines.append(" ".join([f"  {METRICS[name].title:24}", *cells]).rstrip())
    for name, *values in listed(record.attributes):
        lines.append(f"  {name:24} " + " ".join(f"{value:>10}" for value in values).rstrip())
    return "\n".join(lines)
