"""The tables and charts of ``scripts/judge_figures.py``: which figure sees which damage, and how each ranks sets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter
from PIL import Image
from scipy.stats import spearmanr

from condgen.metrics.catalogue import METRICS
from condgen.metrics.damage import STRENGTHS
from condgen.reporting.charts import new_figure, picture_of

PAGE, CHARTS = Path("docs/damage.md"), Path("docs/assets")
ORDERS = {"training": "a training", "mixture": "real pictures mixed in"}
NOISE = 3
"""Deviations of undamaged sets that a figure has to move to be said to see a damage."""
DRAWN = {"fid": "FID", "sfid": "sFID", "swd": "SWD"}
"""What the charts show, each as a multiple of what undamaged images have."""
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#e377c2")
Figures = dict[str, dict[str, float]]
"""By ``order/strength/extractor``, then by metric."""


def write(folder: Path) -> None:
    """Write what was measured, in ``folder``, into the page and its charts."""
    page = PAGE.read_text(encoding="utf-8")
    for file in sorted(folder.glob("*.json")):
        found: Figures = json.loads(file.read_text(encoding="utf-8"))
        page = between(page, f"damage {file.stem}", damage_table(found))
        if any(key.partition("/")[0] in ORDERS for key in found):
            page = between(page, f"ranks {file.stem}", rank_table(found))
        draw(found, CHARTS / f"damage_{file.stem}.png")
    PAGE.write_text(page, encoding="utf-8")


def between(page: str, name: str, text: str) -> str:
    """Put ``text`` between the comments of ``page`` that open and close part ``name``."""
    opening, closing = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, there, rest = page.partition(opening)
    return f"{before}{opening}\n{text}\n{closing}{rest.partition(closing)[2]}" if there else page


def measured(found: Figures) -> list[str]:
    """Return the damages that were measured at every strength."""
    keys = {key.rpartition("/")[0] for key in found}
    return [damage for damage, strengths in STRENGTHS.items() if all(f"{damage}/{one:g}" in keys for one in strengths)]


def rows_of(found: Figures) -> list[tuple[str, str]]:
    """Return (extractor, metric) of what every set has; distances of patches need no extractor."""
    common: dict[str, set[str]] = {}
    for key, figures in found.items():
        extractor = key.rpartition("/")[2]
        common[extractor] = common.get(extractor, {*figures}) & {*figures}
    return [(extractor, metric) for extractor, names in common.items() for metric in METRICS if metric in names]


def badness(metric: str, value: float) -> float:
    """Return how far a figure says that a set is from real images; more is worse."""
    better = METRICS[metric].better
    return abs(value - 1) if better == "one" else -value if better == "higher" else value


def series(found: Figures, order: str, extractor: str, metric: str) -> tuple[list[float], list[float]]:
    """Return strengths and badness of the sets of an order, by rising strength; of a damage from no damage on."""
    keys = [key.split("/") for key in found if key.split("/")[0] == order and key.endswith(f"/{extractor}")]
    points = [(float(k[1]), badness(metric, found["/".join(k)][metric])) for k in keys if metric in found["/".join(k)]]
    if order in STRENGTHS and points:
        points.append((0.0, badness(metric, found[f"undamaged/0/{extractor}"][metric])))
    ordered = sorted(points)
    return [x for x, _ in ordered], [y for _, y in ordered]


def spread(found: Figures, extractor: str, metric: str) -> float:
    """Return the deviation of a figure between undamaged sets."""
    return float(np.std(series(found, "undamaged", extractor, metric)[1], ddof=1))


def correlation(x: list[float], y: list[float]) -> float:
    """Return Spearman's rank correlation; NaN where a figure does not move."""
    return float(spearmanr(x, y).statistic) if len(set(y)) > 1 else float("nan")


def damage_cell(found: Figures, damage: str, extractor: str, metric: str) -> str:
    """Say of a damage how many strengths a figure sees, and its rank correlation with the strength."""
    x, y = series(found, damage, extractor, metric)
    moved = np.array(y[1:]) - y[0]
    noise = NOISE * spread(found, extractor, metric)
    seen, fooled = int((moved > noise).sum()), int((moved < -noise).sum())
    rank = correlation(x, y)
    if fooled > seen:
        return f"*better {fooled}* ({rank:.2f})"
    if not seen:
        return "blind"
    text = f"{seen} ({rank:.2f})"
    return f"**{text}**" if seen >= 3 and rank >= 0.9 else text


def title(extractor: str, metric: str) -> str:
    """Return the title of a row."""
    name = METRICS[metric].title
    return name if metric.startswith("swd") else f"{name}, `{extractor}`"


def damage_table(found: Figures) -> str:
    """Return a Markdown table of figures by damages."""
    damages = measured(found)
    lines = [f"| figure | {' | '.join(damages)} |", "|---|" + "---|" * len(damages)]
    for extractor, metric in rows_of(found):
        cells = [damage_cell(found, damage, extractor, metric) for damage in damages]
        lines.append(f"| {title(extractor, metric)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rank_table(found: Figures) -> str:
    """Return a Markdown table of the rank correlation of each figure with each known order."""
    orders = [order for order in ORDERS if any(key.startswith(f"{order}/") for key in found)]
    counts = {order: len({key.split("/")[1] for key in found if key.startswith(f"{order}/")}) for order in orders}
    lines = ["| figure | " + " | ".join(f"{ORDERS[order]}, {counts[order]} sets" for order in orders) + " |"]
    lines.append("|---|" + "---|" * len(orders))
    for extractor, metric in rows_of(found):
        cells = [f"{correlation(*series(found, order, extractor, metric)):.2f}" for order in orders]
        lines.append(f"| {title(extractor, metric)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(found: Figures, path: Path) -> None:
    """Draw a panel for each damage: how many times as bad as undamaged images each figure says the damaged ones are."""
    rows = [(extractor, metric) for extractor, metric in rows_of(found) if metric in DRAWN]
    damages = measured(found)
    figure = new_figure(10, 4.6)
    for i, damage in enumerate(damages):
        axes: Any = figure.add_subplot(2, -(-len(damages) // 2), i + 1)
        for (extractor, metric), colour in zip(rows, COLOURS, strict=False):
            _, y = series(found, damage, extractor, metric)
            label = DRAWN[metric] if metric == "swd" else f"{DRAWN[metric]}, {extractor}"
            axes.plot(range(len(y)), np.array(y) / y[0], color=colour, marker="o", markersize=3, label=label)
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0.5), max(high, 12))  # a figure that hardly moves shall look like it
        axes.set_title(damage, fontsize=9)
        axes.set_xticks(range(5), ["none", *(f"{strength:g}" for strength in STRENGTHS[damage])], fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(rows), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    pixels = np.ascontiguousarray(picture_of(figure).permute(1, 2, 0).numpy())
    Image.fromarray(pixels).quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
