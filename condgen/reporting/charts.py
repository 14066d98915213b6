"""Charts of a run, as pictures uint8 (3, H, W): who is taken for whom, and how each metric went.

Matplotlib takes half a second to import, which only those wait for who draw. Its objects are used without pyplot, whose
global state would keep every figure.
"""

import csv
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[list[float], list[float]]
"""Steps and the values that were measured there."""

DOTS = 130  # pixels per inch
INK, GREY, RULE = "#1f2933", "#6b7785", "#d5dae0"
PALETTE = {"train": "#2b6cb0", "val": "#c05621", "quality": "#2f855a", "diagnosis": "#6b46c1"}
MANY_CLASSES = 20  # beyond which a cell is too small for a number


def confusion_chart(counts: Tensor | Sequence[Sequence[int]], classes: Sequence[str]) -> Tensor:
    """Draw which class was asked for against which was recognized, as percentages of what was asked for.

    Args:
        counts: (K, K + 1): asked-for class by recognized class, the last column any other.
        classes: the K names.

    Returns:
        The picture, uint8 (3, H, W).
    """
    from matplotlib import colormaps

    table = torch.as_tensor(counts, dtype=torch.float64)
    shares = (table / table.sum(1, keepdim=True)).numpy()  # nan, shown grey, where a class was never asked for
    few = len(classes) <= MANY_CLASSES
    longest = max(len(short(name)) for name in classes)
    side = max(3.0, 0.5 * len(classes)) if few else min(9.0, 0.11 * len(classes) + 3)  # inches
    slanted = longest > 3 or not few
    left, bottom = 0.5 + 0.085 * longest, 0.65 + 0.06 * max(5, longest) * slanted  # five letters: other
    width, height = left + side * (len(classes) + 1) / len(classes) + 0.15, bottom + side + 0.55
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + 0.15) / width, side / height))
    axes.imshow(
        shares, cmap=colormaps["Blues"].with_extremes(bad="#e4e7eb"), vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    axes.axvline(len(classes) - 0.5, color=GREY, linewidth=1)  # what is right of it is no class of the data
    name_axes(axes, classes, slanted)
    axes.set_title("Asked for against recognized, % of each row", fontsize=10.5, color=INK, loc="left", pad=9)
    if few:
        write_shares(axes, shares)
    return picture_of(figure)


def name_axes(axes: "Axes", classes: Sequence[str], slanted: bool) -> None:
    """Write the class names at both axes; of many only some."""
    every = 1 if len(classes) <= 2 * MANY_CLASSES else math.ceil(len(classes) / MANY_CLASSES)
    rows = range(0, len(classes), every)
    names = [short(classes[row]) for row in rows]
    size = 9 if len(classes) <= MANY_CLASSES else 7
    axes.set_yticks(list(rows), names, fontsize=size, color=INK, parse_math=False)
    axes.set_xticks([*rows, len(classes)], [*names, "other"], fontsize=size, color=INK, parse_math=False)
    for label in axes.get_xticklabels() if slanted else []:
        label.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
    axes.set_ylabel("asked for", fontsize=9.5, color=GREY)
    axes.set_xlabel("recognized as", fontsize=9.5, color=GREY)
    axes.tick_params(length=0, pad=4)
    for spine in axes.spines.values():
        spine.set_color(RULE)


def write_shares(axes: "Axes", shares: NDArray[np.float64]) -> None:
    """Write each share that is not nothing into its cell, in whole percent that round neither to 0 nor to 100."""
    for row, column in zip(*np.nonzero(np.nan_to_num(shares)), strict=True):
        share = shares[row, column]
        text = "100" if share == 1 else "<1" if share < 0.005 else ">99" if share >= 0.995 else f"{100 * share:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color="white" if share > 0.55 else INK)


def short(name: str) -> str:
    """Cut a long class name."""
    return name if len(name) <= 16 else name[:15] + "…"


def read_curves(path: Path) -> dict[str, Curve]:
    """Read the curves in a ``metrics.csv``: what is no finite number, or was cut short by a kill, is left out."""
    curves: dict[str, Curve] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(line.replace("\0", "") for line in file)
        names = next(rows, [])
        for row in rows:
            numbers = dict(zip(names, map(number, row), strict=False))
            step = numbers.pop("step", None)
            for name, value in numbers.items():
                if step is not None and value is not None:
                    steps, values = curves.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(value)
    return {name: curves[name] for name in names if name in curves}


def number(text: str) -> float | None:
    """Return the finite number that ``text`` is, if it is one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def curves_chart(curves: Mapping[str, Curve]) -> Tensor:
    """Draw every metric in a panel of its own, grouped by what its name begins with: train, val, quality, diagnosis, speed.

    Args:
        curves: at least one; see `read_curves`.

    Returns:
        The picture, uint8 (3, H, W).
    """
    order = [*PALETTE, *sorted({prefix(name) for name in curves} - {*PALETTE})]
    groups = [[name for name in curves if prefix(name) == group] for group in order]
    columns = min(3, max(len(group) for group in groups))
    rows = [group[i : i + columns] for group in groups for i in range(0, len(group), columns)]
    panel_width, panel_height, left, bottom, head = 3.8, 2.25, 0.55, 0.52, 0.38  # inches; the margins lie within the panel
    width, height = columns * panel_width, len(rows) * panel_height
    longest = max(1.0, *(max(steps) for steps, _ in curves.values()))
    figure = new_figure(width, height)
    for y, row in enumerate(rows):
        for x, name in enumerate(row):
            place = (x * panel_width + left, height - (y + 1) * panel_height + bottom)
            size = (panel_width - left - 0.2, panel_height - bottom - head)
            axes = figure.add_axes((place[0] / width, place[1] / height, size[0] / width, size[1] / height))
            draw_curve(axes, name, *curves[name])
            axes.set_xlim(0, 1.02 * longest)
    return picture_of(figure)


def prefix(name: str) -> str:
    """Return the group of a metric: ``train`` for ``train/loss_d``."""
    return name.partition("/")[0]


def draw_curve(axes: "Axes", name: str, steps: Sequence[float], values: Sequence[float]) -> None:
    """Draw one metric: points where they are few, and a running mean over a noisy line where they are many."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    color = PALETTE.get(prefix(name), GREY)
    many, few, log = len(values) > 100, len(values) <= 25, needs_log(values)
    axes.plot(steps, values, "o-" if few else "-", color=color, markersize=3, linewidth=0.8 if many else 1.4)
    if many:
        axes.lines[0].set_alpha(0.35)
        seen = np.log(values) if log else np.asarray(values)  # averaged as it is seen
        mean = running_mean(seen, len(values) // 25)
        axes.plot(steps, np.exp(mean) if log else mean, color=color, linewidth=1.6)
    if log:
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter("{x:.7g}")  # matplotlib's own puts a common factor where the title stands
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    dress(axes, name)


def dress(axes: "Axes", name: str) -> None:
    """Give a panel its title, which shrinks to fit, and quiet axes."""
    axes.set_title(name, fontsize=9.5 * 44 / max(44, len(name)), color=INK, loc="left", pad=6, parse_math=False)
    axes.set_xlabel("updates", fontsize=7.5, color=GREY, loc="right", labelpad=1)
    axes.tick_params(which="both", labelsize=7.5, colors=GREY, length=2.5, width=0.6)
    axes.grid(color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=RULE, linewidth=0.8)


def running_mean(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Average each value (N,) with up to ``reach`` neighbours on either side; the ends have fewer."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means


def needs_log(values: Sequence[float]) -> bool:
    """Whether a linear axis would hide most of the curve. Shares, which are at most 1, keep the axis that they are read on."""
    return min(values) > 0 and max(values) > max(1, 50 * min(values))


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty white figure of so many inches, with a canvas of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def picture_of(figure: "Figure") -> Tensor:
    """Render a figure: uint8 (3, H, W)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a class name in a script that the font lacks: boxes, no noise
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]  # type: ignore[no-untyped-call]  # (H, W, 3)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()
