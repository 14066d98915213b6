"""The outcome of a comparison: its table, its chart, and the sentence that says whether the generator was of use."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from condgen.downstream.figures import Estimate, Figures, estimate
from condgen.downstream.methods import METHODS, titled
from condgen.reporting.charts import GREY, INK, PALETTE, RULE, new_figure, picture_of
from condgen.reporting.tables import Cell, Column, markdown_table


@dataclass(frozen=True)
class Result:
    """What one method reached.

    Attributes:
        name: the method's, in `METHODS`.
        share: of the largest class, up to which others were filled; None where nothing is generated.
        chosen_by: balanced accuracy on validation images, mean over seeds, by which share and best were chosen.
        seeds: figures on test images, one a seed.
    """

    name: str
    share: float | None
    chosen_by: float
    seeds: list[Figures]

    @property
    def title(self) -> str:
        """What a table calls it."""
        return titled(self.name, self.share)

    def balanced_accuracy(self) -> Estimate:
        """Over seeds."""
        return estimate([figures.balanced_accuracy for figures in self.seeds])

    def recall(self, label: int) -> Estimate:
        """Of one class, over seeds."""
        return estimate([figures.recall[label] for figures in self.seeds])

    def rare_recall(self, rare: list[int]) -> Estimate:
        """Mean of the rare classes, over seeds."""
        return estimate([sum(figures.recall[k] for k in rare) / len(rare) for figures in self.seeds])

    def ece(self) -> Estimate:
        """Over seeds."""
        return estimate([figures.ece for figures in self.seeds])


@dataclass(frozen=True)
class Outcome:
    """All results, and what was compared.

    Attributes:
        results: one a method, in the order of `METHODS`.
        classes: names of the classes.
        counts: real training images of each.
        rare: labels of the rare classes.
    """

    results: list[Result]
    classes: list[str]
    counts: list[int]
    rare: list[int]

    def best(self, generates: bool) -> Result | None:
        """Return the method, with or without generated images, that validation images chose."""
        some = [result for result in self.results if METHODS[result.name].generates == generates]
        return max(some, key=lambda result: result.chosen_by, default=None)

    def differences(self) -> dict[str, Estimate]:
        """Return by how much the best method with generated images lies above the best without, paired by seed."""
        ours, theirs = self.best(True), self.best(False)
        if ours is None or theirs is None:
            return {}
        pairs = list(zip(ours.seeds, theirs.seeds, strict=True))
        found = {"balanced_accuracy": estimate([a.balanced_accuracy - b.balanced_accuracy for a, b in pairs])}
        for k in self.rare:
            found[f"recall of {self.classes[k]}"] = estimate([a.recall[k] - b.recall[k] for a, b in pairs])
        return found

    def sentence(self) -> str:
        """Say whether the generator beat the best baseline, by how much, and whether that could be chance."""
        ours, theirs = self.best(True), self.best(False)
        if ours is None or theirs is None:
            return "Nothing is compared: methods= names none with generated images, or none without."
        gap = self.differences()["balanced_accuracy"]
        mean, half = gap.text(digits=2)
        where = f"{ours.title} against {theirs.title}, the best baseline on validation images"
        much = f"{mean} points of balanced accuracy on test images"
        if not half:
            return f"One seed cannot tell chance from gain: {much}, {where}."
        told = f"{mean}{half} points of balanced accuracy on test images over {len(ours.seeds)} seeds (95 % interval, paired)"
        if gap.low > 0:
            return f"The generator beat the best baseline, and hardly by chance: {told}, {where}."
        if gap.high < 0:
            return f"The generator did not help, and lost by more than chance: {told}, {where}."
        return f"The generator did not beat the best baseline by more than chance: {told}, {where}."

    def table(self) -> str:
        """Return the table as Markdown, in percent, each mean with its 95 % interval over seeds."""
        columns = [Column("method", [Cell(result.title) for result in self.results])]
        columns.append(Column("balanced accuracy", [cell(result.balanced_accuracy()) for result in self.results], True))
        for k in self.rare:
            title = f"recall of {self.classes[k]} ({self.counts[k]} real)"
            columns.append(Column(title, [cell(result.recall(k)) for result in self.results], True))
        columns.append(Column("calibration error", [cell(result.ece()) for result in self.results], True))
        return "\n".join(markdown_table(columns))

    def chart(self) -> Tensor:
        """Draw each method as a dot with its interval, in three panels; uint8 (3, H, W)."""
        panels = {
            "balanced accuracy": [result.balanced_accuracy() for result in self.results],
            "recall of the rare classes, mean": [result.rare_recall(self.rare) for result in self.results],
            "calibration error": [result.ece() for result in self.results],
        }
        titles = [result.title for result in self.results]
        left, panel, height = 3.1, 2.9, 0.34 * len(titles) + 0.95  # inches
        figure = new_figure(left + panel * len(panels), height)
        places = range(len(titles))
        for i, (name, estimates) in enumerate(panels.items()):
            width = left + panel * len(panels)
            box = ((left + i * panel) / width, 0.5 / height, (panel - 0.25) / width, 1 - 0.95 / height)
            axes = figure.add_axes(box)
            for place, found in zip(places, estimates, strict=True):
                color = PALETTE["quality" if METHODS[self.results[place].name].generates else "train"]
                half = 100 * (found.high - found.low) / 2
                bar = [0.0 if math.isnan(half) else half]
                axes.errorbar([100 * found.mean], [place], xerr=bar, fmt="o", color=color, capsize=2)
            axes.set_yticks(list(places), titles if i == 0 else [""] * len(titles), fontsize=8.5, color=INK)
            axes.set_ylim(len(titles) - 0.5, -0.5)
            axes.set_title(f"{name}, %", fontsize=9, color=INK, loc="left")
            axes.tick_params(axis="x", labelsize=7.5, colors=GREY)
            axes.grid(color=RULE, linewidth=0.5)
            for side, spine in axes.spines.items():
                spine.set_visible(side == "bottom")
        return picture_of(figure)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "classes": self.classes,
            "counts": self.counts,
            "rare": [self.classes[k] for k in self.rare],
            "methods": {
                result.name: {
                    "title": result.title,
                    "share": result.share,
                    "validation_balanced_accuracy": result.chosen_by,
                    "balanced_accuracy": asdict(result.balanced_accuracy()),
                    "recall": {self.classes[k]: asdict(result.recall(k)) for k in range(len(self.classes))},
                    "ece": asdict(result.ece()),
                    "seeds": [asdict(figures) for figures in result.seeds],
                }
                for result in self.results
            },
            "differences": {name: asdict(found) for name, found in self.differences().items()},
            "sentence": self.sentence(),
        }


def cell(found: Estimate) -> Cell:
    """Return a cell of a table, in percent."""
    return Cell(*found.text())
