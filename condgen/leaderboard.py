"""``condgen leaderboard``: the figures of many runs in one table, a section for each protocol."""

import csv
import io
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from condgen.errors import CondgenError
from condgen.files import write_text
from condgen.metrics.catalogue import METRICS, Metric
from condgen.metrics.intervals import wilson
from condgen.metrics.protocol import SAMPLING
from condgen.metrics.record import as_stored, read_records
from condgen.metrics.standings import Bounds, Entry, Figure, Row, Section, badness, disagree, divide, gather, ordered
from condgen.reporting.tables import Cell, Column, escaped_line, markdown_table, printable, text_table
from condgen.run.stored import Run, find_run
from condgen.studies.trials import read_study

ARROWS = {"higher": " ↑", "lower": " ↓", "one": " → 1"}
NONE = "-"
LEGEND = "Mean ± sample standard deviation over seeds; floor: real images in the place of generated ones; {best}."


def leaderboard(folder: Path, out: Path | None = None, sort: str | None = None) -> str:
    """Return the table of all records under ``folder``, to be printed in a terminal.

    Args:
        folder: where runs and measurements lie, at any depth.
        out: where to write the table too: .md, or .csv with a line for each figure.
        sort: the metric that orders the rows; None for FID, where there is one.

    Raises:
        CondgenError: no record or a damaged one, a metric that no record has, an ``out`` of another ending.
    """
    writers = {".csv": to_csv, ".md": to_markdown}
    if out and out.suffix.lower() not in writers:
        raise CondgenError(f"--out {out} must end in .csv or .md.")
    entries = collect(folder)
    present = ordered({metric for entry in entries for metric in entry.record.figures})
    if sort and sort not in present:
        raise CondgenError(f"--sort {sort} is a metric of no record: take one of {', '.join(present)}.")
    sections = sorted(divide(gather(entries), sort or "fid"), key=place)
    text = to_text(sections, shutil.get_terminal_size((1000, 24)).columns)  # what is no terminal has no width
    if out:
        write_text(out, writers[out.suffix.lower()](sections))
        text += f"\nwritten to {out}"
    return text


def collect(folder: Path) -> list[Entry]:
    """Return all records under ``folder``, the oldest first."""
    if not folder.is_dir():
        raise CondgenError(f"There is no folder {folder}: give one that holds runs or measurements.")
    studies = [path.with_name("results.json") for path in folder.rglob("study.json")]
    files = [path for path in [*folder.rglob("metrics.json"), *studies] if path.is_file()]
    files.sort(key=lambda path: (path.stat().st_mtime_ns, path))
    records = [(record, path) for path in files for record in read_records(path) if record.figures]
    if not records:
        raise CondgenError(f"{folder} holds no measurements: make some with condgen evaluate.")
    entries = [Entry(record, path, None if record.protocol.weights == "given" else owner(path)) for record, path in records]
    return once(entries)


def owner(path: Path) -> Run | None:
    """Return the run that a file of figures belongs to; that of a study is named in it, and may lie elsewhere."""
    if path.name != "results.json":
        return find_run(path)
    run = read_study(path.parent).models[0].run
    return find_run(path.parent / run / path.name) if run else None


def once(entries: list[Entry]) -> list[Entry]:
    """Leave out what stands both in a study and beside the other figures of its run."""
    own = [(entry.run, as_stored(entry.record)) for entry in entries if entry.path.name != "results.json"]
    return [e for e in entries if e.path.name != "results.json" or (e.run, as_stored(e.record)) not in own]


def to_text(sections: Sequence[Section], width: int) -> str:
    """Write the sections for a terminal; columns that do not fit beside each other follow below."""
    lines = []
    for section in sections:
        lines += [heading(section), "", *text_table(columns(section), width), *notes(section), ""]
    lines.append(LEGEND.format(best="* best of its column"))
    return "\n".join(printable(line).rstrip() for line in lines)


def to_markdown(sections: Sequence[Section]) -> str:
    """Write the sections as Markdown tables."""
    lines = []
    for section in sections:
        lines += [escaped_line(heading(section)).replace("\\|", "|"), "", *markdown_table(columns(section)), ""]
        lines += [part for note in notes(section) for part in (escaped_line(note), "")]
    lines += [LEGEND.format(best="bold: best of its column"), ""]
    return "\n".join(map(printable, lines))


def to_csv(sections: Sequence[Section]) -> str:
    """Write a line for each figure, with its whole protocol."""
    text = io.StringIO()
    lines = [line for section in sections for row in section.rows for line in csv_lines(row, section.metrics)]
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def csv_lines(row: Row, metrics: Sequence[str]) -> list[dict[str, object]]:
    """Return one dict for each figure of a row."""
    records = [entry.record for entry in row.entries]
    protocol = row.protocol.stamp()
    for name, clear in (("seed", "evaluation_seed"), ("steps", "sampling_steps")):  # not those of a run
        protocol[clear] = protocol.pop(name)
    return [
        {
            "run": row.name,
            "checkpoint": row.checkpoint,
            "metric": metric,
            "mean": figure.mean,
            "std": figure.spread,
            "n": figure.count,
            "floor": records[0].floors.get(metric),
            "floor_of": records[0].floors_of if metric in records[0].floors else None,
            **protocol,
            "seeds": " ".join(row.seeds),
            "steps": " ".join(str(record.step) for record in records if record.step is not None),
            "sources": "; ".join(record.source for record in records),
        }
        for metric in metrics
        if (figure := row.figure(metric))
    ]


def heading(section: Section) -> str:
    """Spell out in one line how all figures of a section were measured."""
    protocol = section.protocol
    parts = [
        f"{protocol.extractor} (sha256 {protocol.sha256[:8]})"
        if protocol.trials is None
        else f"{protocol.extractor}, {protocol.trials:,} trials",
        f"{protocol.generated:,} generated against {protocol.real:,} images of {protocol.reference} (data {protocol.data[:8]})",
        f"resize {protocol.resize}",
        f"seed {protocol.seed}",
        *([f"start {protocol.start}"] if protocol.start else []),
    ]
    shared = {name: values[0] for name, values in sampling(section).items() if len(set(values)) == 1 and values[0] != NONE}
    return " | ".join([*parts, *(f"{name} {value}" for name, value in shared.items())])


def place(section: Section) -> tuple[str, str, int, int, str]:
    """Sort sections: those of test first, of many images, of many rows."""
    protocol = section.protocol
    return protocol.reference, protocol.extractor, -protocol.generated, -len(section.rows), heading(section)


def sampling(section: Section) -> dict[str, list[str]]:
    """Return how the models were sampled, row by row."""
    stamps = [row.protocol.stamp() for row in section.rows]
    return {name: [NONE if stamp[name] is None else str(stamp[name]) for stamp in stamps] for name in SAMPLING}


def columns(section: Section) -> list[Column]:
    """Return the columns of a section: who, how it was sampled where that differs, seeds, and the metrics."""
    rows = section.rows
    below = references(section)
    blank = [Cell() for _ in below]
    texts = [Column("run", [*(Cell(row.name) for row in rows), *map(Cell, below)])]
    described = {"checkpoint": [row.checkpoint for row in rows]} | sampling(section)
    texts += [Column(name, [*map(Cell, values), *blank]) for name, values in described.items() if len({*values} - {""}) > 1]
    seeds = [str(len(row.seeds) or "") for row in rows]
    texts += [Column("seeds", [*map(Cell, seeds), *blank], number=True)] if any(seeds) else []
    return texts + [numbers(section, metric) for metric in section.metrics]


def references(section: Section) -> dict[str, Bounds]:
    """Return what stands below the rows, by its name: floors, and what trivial answers reach."""
    name = "{}" if section.protocol.trials is not None else "baseline ({})"
    trivial = {name.format(one): found for one, found in section.baselines.items()}
    floor = f"floor ({' or '.join(section.floors_of)})"
    return ({floor: section.floors} if section.floors else {}) | trivial


def numbers(section: Section, metric: str) -> Column:
    """Return the column of one metric, what is best in it marked."""
    about = METRICS.get(metric, Metric(metric, "lower", ""))
    figures = [row.figure(metric) for row in section.rows]
    texts = [format(figure.mean, about.format) if figure else "" for figure in figures]
    leader = min(range(len(figures)), key=lambda row: badness(metric, figures[row]))
    contested = metric in METRICS and sum(math.isfinite(badness(metric, figure)) for figure in figures) > 1
    cells = [
        Cell(text, spread(metric, figure, row, about.format), contested and text == texts[leader])
        for text, figure, row in zip(texts, figures, section.rows, strict=True)
    ]
    title = about.title + (ARROWS[about.better] if metric in METRICS else "")
    below = [reference(found, metric, about) for found in references(section).values()]
    return Column(title, [*cells, *below], number=True)


def reference(found: Bounds, metric: str, about: Metric) -> Cell:
    """Return the floor or the baseline of a metric, as a range where the records do not agree."""
    if metric not in found:
        return Cell()
    low, high = (format(value, about.format) for value in found[metric])
    return Cell(low, f" to {high}" if disagree(found[metric]) else "")


def spread(metric: str, figure: Figure | None, row: Row, style: str) -> str:
    """Write the deviation over seeds, and their number where the metric was not measured for all of the row.

    Of a single run's share of people's answers it is the interval.
    """
    if figure is None:
        return ""
    deviation = "" if figure.spread is None else f" ± {figure.spread:{style}}"
    if len(row.entries) == 1 and (count := row.entries[0].record.counts.get(metric)):
        low, high = wilson(count)
        deviation = f" [{low:{style}}, {high:{style}}] n={count[1]}"
    return deviation + (f" (n={figure.count})" if figure.count < len(row.entries) else "")


def notes(section: Section) -> list[str]:
    """Return what a reader has to know beside the figures."""
    older = [str(entry.path) for row in section.rows for entry in row.older]
    found = []
    if older:
        found.append(f"Left out, because the same run and seed was measured again later: {', '.join(older)}.")
    if section.disputed:
        found.append(f"The records name different floors for {', '.join(section.disputed)}: their range is shown.")
    if section.protocol.start:
        found.append("Baselines are trivial answers to the images that samples start from.")
    if section.protocol.trials is not None:
        found.append("Shares of people's answers; in brackets Wilson's intervals of 95 %; chance: what guessing would give.")
    return found
