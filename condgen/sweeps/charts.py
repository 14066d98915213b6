"""Charts of a study, as pictures uint8 (3, H, W): how it went, what mattered, which settings are good together."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from condgen.reporting.charts import GREY, INK, RULE, new_figure, number, picture_of
from condgen.sweeps.results import Objective, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREEN, ORANGE = "#2b6cb0", "#2f855a", "#c05621"


def history_chart(rows: Sequence[Row], objectives: Sequence[Objective]) -> Tensor:
    """Draw each objective over the trials, with the best so far; failed and pruned trials are marked at the lower edge.

    Args:
        rows: one for each trial, at least one with values; the name is the trial's number.
        objectives: a panel each.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7.2, 2.9 * len(objectives))
    for place, objective in enumerate(objectives):
        axes = figure.add_subplot(len(objectives), 1, place + 1)
        finished = [(int(row.name), row.values[objective.name]) for row in rows if objective.name in row.values]
        numbers, values = zip(*sorted(finished), strict=True)
        best = (np.minimum if objective.sign > 0 else np.maximum).accumulate(values)
        axes.plot(numbers, values, "o", color=BLUE, markersize=4.5, label="finished")
        axes.step(numbers, best, where="post", color=GREEN, linewidth=1.6, label="best so far")
        if skewed(values):
            axes.set_yscale("log")
        for state, mark, color in (("pruned", "v", GREY), ("failed", "x", ORANGE)):
            at = [int(row.name) for row in rows if row.state == state]
            if at:
                edge = axes.get_xaxis_transform()
                axes.plot(at, [0.03] * len(at), mark, color=color, markersize=5, transform=edge, clip_on=False, label=state)
        dress(axes, f"{objective.name}, {word(objective)} is better", "trial")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.legend(fontsize=7.5, frameon=False, labelcolor=GREY, loc="upper right", ncols=4)
        axes.margins(y=0.18)
    figure.tight_layout()
    return picture_of(figure)


def importance_chart(importances: Mapping[str, Mapping[str, float]]) -> Tensor:
    """Draw how much each setting mattered to each objective.

    Args:
        importances: for each objective's name, setting by share in [0, 1]; the same settings for all.
    """
    keys = list(next(iter(importances.values())))[::-1]
    figure = new_figure(7.2, 0.9 + 0.32 * len(keys) * len(importances))
    axes = figure.add_subplot(1, 1, 1)
    height = 0.8 / len(importances)
    for place, ((name, shares), color) in enumerate(zip(importances.items(), (BLUE, ORANGE, GREEN), strict=False)):
        at = np.arange(len(keys)) + 0.4 - height * (place + 0.5)
        axes.barh(at, [shares[key] for key in keys], height=height * 0.9, color=color, label=name)
        for y, key in zip(at, keys, strict=True):
            axes.text(shares[key] + 0.01, y, f"{shares[key]:.2f}", va="center", fontsize=8, color=INK)
    dress(axes, "Importance of each setting (PED-ANOVA)", "share")
    axes.set_yticks(range(len(keys)), keys, fontsize=8.5, color=INK, parse_math=False)
    axes.set_xlim(0, 1.1)
    axes.grid(visible=False, axis="y")
    if len(importances) > 1:
        axes.legend(fontsize=7.5, frameon=False, labelcolor=GREY, loc="lower right")
    figure.tight_layout()
    return picture_of(figure)


def parallel_chart(rows: Sequence[Row], objective: Objective) -> Tensor:
    """Draw each finished trial as a line through its settings to the objective; good ones dark and on top.

    Args:
        rows: at least one with the objective.
        objective: what decides the colours, by rank, so that one bad trial does not wash out the others.
    """
    from matplotlib import colormaps
    from matplotlib.ticker import FixedLocator

    finished = sorted(
        (row for row in rows if objective.name in row.values), key=lambda row: -objective.sign * row.values[objective.name]
    )
    keys = list(dict.fromkeys(key for row in finished for key in row.settings))
    scales = [Scale([row.settings.get(key, "-") for row in finished]) for key in keys]
    scales.append(Scale([repr(row.values[objective.name]) for row in finished]))
    width = 1.75 * len(scales) + 0.9
    figure = new_figure(width, 3.8)
    axes = figure.add_axes((0.75 / width, 0.03, 1 - 0.9 / width, 0.8))
    for rank, heights in enumerate(zip(*(scale.places for scale in scales), strict=True)):
        good = (rank + 1) / len(finished)
        axes.plot(heights, color=colormaps["Blues"](0.25 + 0.75 * good), linewidth=0.8 + 1.4 * good**3, zorder=2 + good)
    for x, scale in enumerate(scales):
        axes.axvline(x, color=GREY, linewidth=0.8, zorder=1)
        for place, text in scale.ticks:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
            axes.text(x + 0.03, place, text, fontsize=7.5, color=INK, va="center", zorder=4, bbox=box, parse_math=False)
    axes.xaxis.set_major_locator(FixedLocator([]))
    axes.yaxis.set_major_locator(FixedLocator([]))
    for x, name in enumerate([*keys, objective.name]):
        lines = name.replace("/", "/\n", 1) if "/" in name else "\n.".join(name.rsplit(".", 1))
        axes.text(x, 1.06, lines, fontsize=7.5, color=INK, ha="center", va="bottom", parse_math=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set(xlim=(-0.05, len(scales) - 0.7), ylim=(-0.04, 1.04))
    return picture_of(figure)


class Scale:
    """Where values lie on an axis from 0 to 1: numbers by size, on a log scale where that spreads them, others in order.

    Args:
        texts: the values, as on the command line.
    """

    def __init__(self, texts: Sequence[str]):
        self.ticks: list[tuple[float, str]]
        numbers = [number(text) for text in texts]
        known = [value for value in numbers if value is not None]
        if len(known) < len(texts) or len(set(known)) < 2:
            order = sorted(set(texts))
            at = {text: (i + 0.5) / len(order) for i, text in enumerate(order)}
            self.places, self.ticks = [at[text] for text in texts], [(place, text) for text, place in at.items()]
            return
        scale, back = (math.log, math.exp) if skewed(known) else (float, float)
        low, high = scale(min(known)), scale(max(known))
        self.places = [(scale(value) - low) / (high - low) for value in known]
        few = sorted(set(known))
        shown = few if len(few) <= 5 else [back(low + (high - low) * part / 4) for part in range(5)]
        self.ticks = []
        for value in shown:
            place = (scale(value) - low) / (high - low)
            if not self.ticks or place - self.ticks[-1][0] > 0.05:  # the next would be written over it
                self.ticks.append((place, f"{value:.4g}" if value >= 1000 else f"{value:.3g}"))


def front_chart(rows: Sequence[Row], objectives: Sequence[Objective], front: Sequence[str]) -> Tensor:
    """Draw one objective against another; trials that none beats in both are joined and numbered.

    Args:
        rows: one for each trial.
        objectives: two.
        front: names of the rows that none beats in both.
    """
    x, y = objectives
    figure = new_figure(6.2, 4.4)
    axes = figure.add_subplot(1, 1, 1)
    points = {
        row.name: (row.values[x.name], row.values[y.name]) for row in rows if x.name in row.values and y.name in row.values
    }
    axes.plot(*zip(*points.values(), strict=True), "o", color=BLUE, alpha=0.45, markersize=5)
    best = sorted((points[name], name) for name in front if name in points)
    axes.plot([at[0] for at, _ in best], [at[1] for at, _ in best], "o-", color=GREEN, markersize=6, linewidth=1.2)
    for at, name in best:
        axes.annotate(name, at, xytext=(4, 5), textcoords="offset points", fontsize=8, color=INK)
    if skewed([at[0] for at in points.values()]):
        axes.set_xscale("log")
    dress(axes, f"{y.name} ({word(y)} is better)", f"{x.name} ({word(x)} is better)")
    axes.margins(0.08)
    figure.tight_layout()
    return picture_of(figure)


def dress(axes: "Axes", title: str, below: str) -> None:
    """Give a panel its title and quiet axes."""
    axes.set_title(title, fontsize=9.5, color=INK, loc="left", pad=8, parse_math=False)
    axes.set_xlabel(below, fontsize=8, color=GREY, loc="right", parse_math=False)
    axes.tick_params(which="both", labelsize=7.5, colors=GREY, length=2.5, width=0.6)
    axes.grid(color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=RULE, linewidth=0.8)


def word(objective: Objective) -> str:
    """Return "lower" or "higher"."""
    return "lower" if objective.direction == "minimize" else "higher"


def skewed(values: Sequence[float]) -> bool:
    """Whether a linear axis would hide most of the values."""
    return min(values) > 0 and max(values) > 10 * min(values)
