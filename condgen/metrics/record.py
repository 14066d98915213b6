"""Figures with the protocol under which they stand, and the file that keeps them."""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from condgen.errors import CondgenError
from condgen.files import write_json
from condgen.metrics.intervals import Count
from condgen.metrics.protocol import Protocol, read_protocol


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        protocol: how it was made.
        figures: each metric's value, e.g. ``{"fid": 3.1, "label_accuracy": 0.98}``; see `condgen.metrics.catalogue.METRICS`.
        floors: the same metrics of real images in the place of samples: what a perfect generator would reach.
        per_class: metrics of single classes, e.g. ``{"label_accuracy": [0.99, ...]}``, one value a class.
        classes: names of the K classes; empty where there are none.
        confusion: counts, (K, K + 1) rows: asked-for class by recognized class, the last column any other; None where
            nothing is asked for or the extractor does not know the classes.
        source: the checkpoint or the images that were measured.
        step: updates after which the model was measured; None for images.
        baselines: the same metrics of trivial answers to conditions that are images, by the names of these.
        attributes: figures of single attributes, see `condgen.metrics.attributes.Table`; those of real images of the reference
            under keys that start with ``real_``.
        counts: of figures that are shares of people's answers, of how many answers how many, from which their intervals follow.
        class_counts: the same of single classes.
        people: who answered, None where people were not asked.
        floors_of: the real images that floors are of, see `condgen.metrics.floors`. Before condgen told, they were training
            images, which the extractor had seen as well.
    """

    protocol: Protocol
    figures: dict[str, float]
    floors: dict[str, float] = field(default_factory=dict)
    per_class: dict[str, list[float]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    confusion: list[list[int]] | None = None
    source: str = ""
    step: int | None = None
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    attributes: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, Count] = field(default_factory=dict)
    class_counts: dict[str, list[Count]] = field(default_factory=dict)
    people: int | None = None
    floors_of: str = "training images"

    def named(self) -> dict[str, float]:
        """Return the figures under their full names: ``quality/fid/mnist-cnn/val-5k``."""
        return {f"quality/{metric}/{self.protocol.name}": value for metric, value in self.figures.items()}


def write_record(path: Path, record: Record) -> None:
    """Write ``record`` as JSON, whole or not at all; a figure that is not a number becomes null."""
    write_json(path, {"quality": [as_stored(record)]})


def as_stored(record: Record) -> dict[str, Any]:
    """Return ``record`` as plain values of JSON."""
    return finite(asdict(record))  # type: ignore[no-any-return]


def add_record(path: Path, record: Record) -> None:
    """Write ``record``, with the figures that an earlier measurement of the same weights under the same protocol has beyond it.

    One of other weights is not lost either: it is moved to ``metrics-STEP.json`` beside it.
    """
    try:
        known = read_records(path) if path.is_file() else []
    except CondgenError:  # damaged: nothing to keep
        known = []
    for old in known:
        if (old.protocol, old.source, old.step) == (record.protocol, record.source, record.step):
            record = joined(old, record)
        else:
            write_record(path.with_name(f"{path.stem}-{old.step}{path.suffix}"), old)
    write_record(path, record)


def joined(old: Record, new: Record) -> Record:
    """Return ``new`` with what only ``old`` has."""
    if new.floors and old.floors_of != new.floors_of:  # never floors of two kinds in one column
        old = replace(old, floors={})
    figures = {name: getattr(old, name) | getattr(new, name) for name in ("figures", "floors", "per_class", "attributes")}
    kind = new.floors_of if new.floors else old.floors_of
    names = dict.fromkeys([*old.baselines, *new.baselines])
    baselines = {name: old.baselines.get(name, {}) | new.baselines.get(name, {}) for name in names}
    return replace(new, **figures, baselines=baselines, confusion=new.confusion or old.confusion, floors_of=kind)


def read_records(path: Path) -> list[Record]:
    """Return the records in a ``metrics.json``; none where it holds only the losses of a run.

    Raises:
        CondgenError: the file is damaged, or a figure stands without its protocol.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("quality", [])
        return [read_record(entry, str(path)) for entry in found]
    except CondgenError:
        raise
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise CondgenError(
            f"{path} could not be read as figures of condgen's: it is damaged; remove it or measure again."
        ) from error


def read_record(entry: dict[str, Any], source: str) -> Record:
    """Return the record that was stored in ``source`` as ``entry``."""
    stored = {
        "protocol": read_protocol(entry.get("protocol"), source),
        "figures": numbers(entry["figures"]),
        "floors": numbers(entry.get("floors", {})),
        "baselines": {str(name): numbers(figures) for name, figures in entry.get("baselines", {}).items()},
        "per_class": {metric: list(map(number, values)) for metric, values in entry.get("per_class", {}).items()},
        "source": str(entry.get("source", "")),
        "attributes": {name: numbers(values) for name, values in entry.get("attributes", {}).items()},
        "counts": {metric: count(value) for metric, value in entry.get("counts", {}).items()},
        "class_counts": {metric: list(map(count, values)) for metric, values in entry.get("class_counts", {}).items()},
    }
    return Record(**(entry | stored))


def numbers(stored: dict[str, Any]) -> dict[str, float]:
    """Read figures by the names of their metrics."""
    return {metric: number(value) for metric, value in stored.items()}


def number(stored: Any) -> float:
    """Read one figure; null is a figure that was not a number."""
    return math.nan if stored is None else float(stored)


def count(stored: Any) -> Count:
    """Read so many of so many; raises ValueError for what is none."""
    k, n = stored
    if not 0 <= int(k) <= int(n):
        raise ValueError(f"{k} of {n}")
    return int(k), int(n)


def finite(value: Any) -> Any:
    """Replace nan and infinity, which JSON does not know, by None."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
