"""The table and the chart of ``scripts/equal_compute.py``: quality against the FLOP of the training, by family."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judged_tables import between
from matplotlib.ticker import NullFormatter
from PIL import Image

from condgen.metrics.catalogue import METRICS
from condgen.metrics.protocol import read_protocol, require_same
from condgen.reporting.charts import GREY, new_figure, picture_of

PAGE, CHART = Path("docs/results.md"), Path("docs/assets/equal_compute.png")
DIGITS = {"fid": 1, "sfid": 1, "label_accuracy": 3, "coverage": 3, "swd": 1}
"""Of what is measured, so many after the point."""
FIGURES = tuple(DIGITS)
DRAWN = ("fid", "sfid", "label_accuracy", "coverage")
COLOURS = ("#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
MARKERS = "osD^v"
Row = dict[str, Any]
"""Of one run: its family, minutes and updates, what an update takes, and its figures."""
Titles = dict[str, str]
"""Of families, by name, in the order in which they stand."""


def write(rows: list[Row], titles: Titles, budgets: Sequence[float]) -> None:
    """Write the measured rows into the page, and draw them; raises CondgenError where they were measured unalike."""
    protocols = [read_protocol(row["protocol"], row["family"]).measurement for row in rows]
    require_same(protocols, "put into one table")
    rows = sorted(rows, key=lambda row: (row["minutes"], list(titles).index(row["family"])))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(between(page, "equal compute", f"{table(rows, titles, budgets)}\n{pace(rows, titles)}"), encoding="utf-8")
    draw(rows, titles, CHART)


def table(rows: list[Row], titles: Titles, budgets: Sequence[float]) -> str:
    """Return a Markdown table of what was measured, and of what of the ``budgets``, in core-minutes, was not."""
    columns = " | ".join(METRICS[metric].title for metric in FIGURES)
    lines = [f"| core-minutes | family | updates | TFLOP | {columns} |", "|---|---|---|---|" + "---|" * len(FIGURES)]
    for minutes in sorted({*budgets, *(row["minutes"] for row in rows)}):
        there = [row for row in rows if row["minutes"] == minutes]
        for row in there:
            counts = f"{row['updates']:,} | {row['flop'] / 1e12:,.1f}"
            lines.append(f"| {minutes:g} | {titles[row['family']]} | {counts} | {' | '.join(cells(row['figures']))} |")
        missing = [title for name, title in titles.items() if name not in {row["family"] for row in there}]
        if missing:
            names = "; ".join(missing) if there else "all"
            lines.append(f"| {minutes:g} | {names}: not run yet |" + " |" * (2 + len(FIGURES)))
    lines.append(f"| | *floor: real images* | | | {' | '.join(f'*{cell}*' for cell in cells(rows[0]['floors']))} |")
    return "\n".join(lines) + "\n"


def cells(figures: dict[str, float]) -> list[str]:
    """Return figures as a table shows them; nothing for one that was not measured."""
    return [f"{figures[metric]:.{DIGITS[metric]}f}" if metric in figures else "" for metric in FIGURES]


def pace(rows: list[Row], titles: Titles) -> str:
    """Say which matrix products the machine made beside, and what share of them the arithmetic of each family amounts to."""
    rates = {kind: sorted(row["product_rate"][kind] / 1e9 for row in rows) for kind in rows[0]["product_rate"]}
    told = " and ".join(f"{found[0]:,.0f} - {found[-1]:,.0f} GFLOP/s in {kind}" for kind, found in rates.items())
    speeds: dict[str, list[float]] = {}
    for row in rows:
        speeds.setdefault(row["family"], []).append(row["flop_per_update"] / row["seconds_per_update"] / 1e9)
    shares = [f"{title} {np.median(speeds[name]):.0f}" for name, title in titles.items() if name in speeds]
    kinds = " and ".join(sorted({row["precision"] for row in rows}))
    return f"One thread made products of 2048 x 2048 at {told},\nand trainings ({kinds}), in GFLOP/s: {'; '.join(shares)}.\n"


def draw(rows: list[Row], titles: Titles, path: Path) -> None:
    """Draw a panel for each of four figures: quality against FLOP, a line for each family."""
    figure = new_figure(10, 6.2)
    for i, metric in enumerate(DRAWN):
        axes: Any = figure.add_subplot(2, 2, i + 1)
        for (name, title), colour, marker in zip(titles.items(), COLOURS, MARKERS, strict=False):
            points = [(row["flop"], row["figures"][metric]) for row in rows if row["family"] == name]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=title.replace("`", ""))
        axes.axhline(rows[0]["floors"][metric], color=GREY, linestyle="--", linewidth=1, label="floor: real images")
        axes.set_xscale("log")
        axes.set_xlim(*decades([row["flop"] for row in rows]))
        if METRICS[metric].better == "lower":
            axes.set_yscale("log")
            axes.set_ylim(*decades([rows[0]["floors"][metric], *(row["figures"][metric] for row in rows)]))
        axes.set_title(METRICS[metric].title, fontsize=9)
        axes.set_xlabel("FLOP of the training", fontsize=8)
        axes.tick_params(labelsize=7)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    pixels = np.ascontiguousarray(picture_of(figure).permute(1, 2, 0).numpy())
    Image.fromarray(pixels).quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


def decades(values: list[float]) -> tuple[float, float]:
    """Return the powers of ten between which values lie."""
    return 10 ** np.floor(np.log10(min(values))), 10 ** np.ceil(np.log10(max(values)))
