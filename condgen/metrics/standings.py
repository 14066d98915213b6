"""From single records to rows that may be compared: repetitions of a run are one row, rows of one measurement a section."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condgen.metrics.catalogue import METRICS
from condgen.metrics.protocol import Protocol, require_same
from condgen.metrics.record import Record
from condgen.run.stored import Run, label

COLUMNS = ["fid", "intra_fid", "intra_fid_worst", "label_accuracy", "precision", "recall", "density", "coverage"]
COLUMNS += ["sfid", "swd", "swd_fine", "swd_coarse", "is", "kid", "diversity", "diversity_worst", "nearest", "authenticity"]
COLUMNS += ["cas", "l1", "ssim"]
"""The order of the metrics; others follow."""


Bounds = dict[str, tuple[float, float]]
"""The lowest and the highest value that records name, by metric."""


@dataclass(frozen=True)
class Entry:
    """One record: the file that holds it and the run that it measures, None for images of other code's."""

    record: Record
    path: Path
    run: Run | None

    @property
    def checkpoint(self) -> str:
        """Which of the run's checkpoints was measured: "best" or "last"."""
        return Path(self.record.source).stem if self.run else ""


@dataclass(frozen=True)
class Figure:
    """A metric of a row.

    Attributes:
        mean: over seeds.
        spread: sample standard deviation over seeds (n - 1); None for a single one.
        count: seeds for which the metric was measured.
    """

    mean: float
    spread: float | None
    count: int


@dataclass(frozen=True)
class Row:
    """A run, or a set of images, measured under one protocol.

    Attributes:
        name: what a reader calls it.
        entries: one for each seed.
        older: measurements that a newer one of the same run and seed replaces.
    """

    name: str
    entries: list[Entry]
    older: list[Entry]

    @property
    def protocol(self) -> Protocol:
        """How its figures were measured."""
        return self.entries[0].record.protocol

    @property
    def checkpoint(self) -> str:
        """Which checkpoint its figures are of."""
        return self.entries[0].checkpoint

    @property
    def seeds(self) -> list[str]:
        """Seeds of the runs; none for images."""
        return [entry.run.seed for entry in self.entries if entry.run]

    def figure(self, metric: str) -> Figure | None:
        """Return a metric over the seeds, None where it was not measured."""
        measured = [entry.record for entry in self.entries if metric in entry.record.figures]
        if not measured:
            return None
        require_same((record.protocol for record in measured), "averaged")
        values = [record.figures[metric] for record in measured]
        whole = all(map(math.isfinite, values))  # a mean without the seed that failed would flatter
        spread = (statistics.stdev(values) if whole else math.nan) if len(values) > 1 else None
        return Figure(statistics.fmean(values), spread, len(values))


@dataclass(frozen=True)
class Section:
    """Rows whose figures may be compared.

    Attributes:
        protocol: how all of them were measured, see `Protocol.measurement`.
        rows: the best first.
        metrics: those that a row has, in the order of the columns.
        floors: what a perfect generator would reach, by metric: the lowest and the highest that a record names.
        floors_of: the kinds of real images that these are of.
        baselines: what trivial answers reach, by their names, likewise.
    """

    protocol: Protocol
    rows: list[Row]
    metrics: list[str]
    floors: Bounds
    floors_of: list[str]
    baselines: dict[str, Bounds]

    @property
    def disputed(self) -> list[str]:
        """Metrics of which the records name different floors, beyond what another machine changes."""
        return [name for name, bounds in self.floors.items() if disagree(bounds)]


def ordered(metrics: set[str]) -> list[str]:
    """Return ``metrics`` in the order of the columns."""
    known = [*COLUMNS, *METRICS]
    return sorted(metrics, key=lambda metric: (known.index(metric) if metric in known else len(known), metric))


def gather(entries: Sequence[Entry]) -> list[Row]:
    """Return a row for each run, checkpoint and protocol, and one for each set of images; ``entries`` come oldest first."""
    labels = label(entry.run for entry in entries if entry.run)
    rows: dict[object, list[Entry]] = {}
    for index, entry in enumerate(entries):
        key = (entry.run.identity, entry.checkpoint, entry.record.protocol) if entry.run else index
        rows.setdefault(key, []).append(entry)
    return [
        Row(labels[found[0].run.identity] if found[0].run else unowned(found[0], entries), *newest(found))
        for found in rows.values()
    ]


def newest(repeated: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Split measurements of one run, oldest first, into the newest of each seed, in the order of seeds, and the others."""
    chosen = {entry.run.seeds if entry.run else (): entry for entry in repeated}
    kept = sorted(chosen.values(), key=lambda entry: entry.run.order if entry.run else (0, ""))
    return kept, [entry for entry in repeated if not any(entry is other for other in kept)]


def unowned(entry: Entry, entries: Sequence[Entry]) -> str:
    """Name what belongs to no run by its source, with the folder of its figures if that alone could mean something else."""
    source, protocol = entry.record.source, entry.record.protocol
    same = [other for other in entries if not other.run and (other.record.source, other.record.protocol) == (source, protocol)]
    alone = source and protocol.weights == "given" and len(same) == 1  # the source of a checkpoint is a mere "best"
    return source if alone else f"{source} ({entry.path.parent})".lstrip()


def divide(rows: Sequence[Row], metric: str) -> list[Section]:
    """Return a section for each measurement, its rows ordered by ``metric``."""
    sections: dict[Protocol, list[Row]] = {}
    for row in rows:
        sections.setdefault(row.protocol.measurement, []).append(row)
    return [section(found, metric) for found in sections.values()]


def section(rows: list[Row], metric: str) -> Section:
    """Return the section of ``rows``, whose measurement is the same."""
    records = [entry.record for row in rows for entry in row.entries]
    metrics = ordered({name for record in records for name in record.figures})
    floors = bounds([record.floors for record in records], metrics)
    trivial = sorted({name for record in records for name in record.baselines})
    baselines = {name: bounds([record.baselines.get(name, {}) for record in records], metrics) for name in trivial}
    best_first = sorted(rows, key=lambda row: (badness(metric, row.figure(metric)), row.name, str(row.protocol)))
    kinds = sorted({record.floors_of for record in records if record.floors})
    return Section(rows[0].protocol.measurement, best_first, metrics, floors, kinds, baselines)


def bounds(named: Sequence[dict[str, float]], metrics: Sequence[str]) -> Bounds:
    """Return the lowest and the highest of the figures, of those ``metrics`` that have one."""
    found = {metric: [v for figures in named if math.isfinite(v := figures.get(metric, math.nan))] for metric in metrics}
    return {metric: (min(values), max(values)) for metric, values in found.items() if values}


def disagree(bounds: tuple[float, float]) -> bool:
    """Whether the lowest and the highest differ beyond what another machine changes."""
    return not math.isclose(*bounds, rel_tol=1e-3, abs_tol=1e-6)


def badness(metric: str, figure: Figure | None) -> float:
    """Return what is lower for the better figure; infinite where there is none."""
    if figure is None or not math.isfinite(figure.mean):
        return math.inf
    better = METRICS[metric].better if metric in METRICS else "lower"
    return {"higher": -figure.mean, "lower": figure.mean, "one": abs(figure.mean - 1)}[better]
