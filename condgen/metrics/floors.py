"""What perfect looks like: figures of real images that neither the extractor nor the reference has seen, drawn like samples.

A floor stands beside a figure of N samples. Where fewer than N unseen images are left, what depends on their number is
brought to N:

- FID, intra-class FID and the inception score are smooth functions of means over N images, so their expectation is off by
  c / N + O(1 / N²) (Chong & Forsyth 2020, arXiv:1911.07023, section 3). As there, a straight line in 1 / N goes through what
  all unseen images and what halves of them get. There it is read at 1 / N = 0, here at the N of the samples, whose figures
  have that bias too.
- Coverage depends on the ratio of samples to reference images: it is measured at that ratio, against as much smaller a part
  of the reference.
- Recall falls slowly as samples become more and their neighbourhoods smaller, about as much with each doubling (measured, no
  theory): its line is one in log N.
- The others are means over images, or unbiased, and depend on no number of samples.

Where only the reference is unseen, each of its halves is compared with the other. Of M images only M / 2 are then the
reference of a FID; the bias in the number of these is the same, so the line is read at 1 / N + 1 / M - 2 / M.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from condgen.data import DataModule
from condgen.data.split import apportion, cut
from condgen.data.tables import Part
from condgen.metrics.authenticity import authenticity
from condgen.metrics.catalogue import METRICS, require_metrics
from condgen.metrics.extractors import Extractor
from condgen.metrics.features import Features
from condgen.metrics.states import CAPACITY
from condgen.metrics.suite import Known, measure
from condgen.randomness import generator

DRAWS = 5
FEWEST = 12
"""Unseen images below which there is no floor: halves of them are compared, and neighbourhoods need 6."""


def floors(
    unseen: Features | None,
    reference: Features,
    count: int,
    *,
    metrics: Sequence[str],
    train: Features | None = None,
    seed: int = 0,
    known: Known | None = None,
) -> dict[str, float]:
    """Return ``metrics`` of ``count`` unseen real images in the reference's proportions of classes, mean of `DRAWS` draws.

    Args:
        unseen: real images beside the reference; None: the reference is compared with itself, half by half.
        reference: the real images that samples are compared with.
        count: number of the samples.
        metrics: names from `METRICS`.
        train: training images, for ``authenticity``.
        seed: decides what is drawn.
        known: `Known.of` the reference, if it was computed before.
    """
    require_metrics(metrics)
    pairs = halves(reference, seed) if unseen is None else [(unseen, reference)]
    sides = [Side(one, other, count, len(reference), seed, known if unseen else None) for one, other in pairs]
    found = [side.figures(metrics) for side in sides if len(side.unseen) >= FEWEST]
    means = {name: sum(figures[name] for figures in found) / len(found) for name in (found[0] if found else {})}
    if "nearest" in metrics:
        means["nearest"] = 1.0  # unseen real images, by definition
    if "authenticity" in metrics and train is not None:
        means["authenticity"] = authenticity((unseen or reference).features, train.features)
    return means


def unseen_part(extractor: Extractor, data: DataModule, split: Literal["val", "test"]) -> tuple[Part | None, str]:
    """Return the images that are beside the reference ``split`` and unseen by ``extractor``, None for its halves; and its name.

    Of an extractor of a user's own nobody knows whether it has seen the validation images.
    """
    names = {"val": "validation images", "test": "test images"}
    if split == "val" and data.has_test:
        return data.test, names["test"]
    if split == "test" and data.classes is None and extractor.spares_validation(learned_from(data)):
        return data.val, names["val"]
    return None, f"halves of the {names[split]}"


def learned_from(data: DataModule) -> dict[str, Any]:
    """Describe what an extractor that is trained on ``data`` learns from, as its card does, see `Extractor.learned`."""
    return {"source": type(data.source).__name__, "split": data.split, "split_seed": data.split_seed}


def halves(reference: Features, seed: int) -> list[tuple[Features, Features]]:
    """Return both halves of ``reference``, each with the other, of every class half its images."""
    labels = torch.zeros(len(reference), dtype=torch.long) if reference.labels is None else reference.labels
    one, other = (reference[rows] for rows in cut(labels, len(labels) // 2, (seed, "halves")))
    return [(one, other), (other, one)]


@dataclass(frozen=True, eq=False)
class Side:
    """Unseen images in the place of samples.

    Attributes:
        unseen: real images.
        reference: what they are compared with.
        count: N, the number of the samples.
        whole: M, the number of the reference images that samples are compared with; more than here where these are a half.
        seed: decides what is drawn.
        known: `Known.of` the reference, or None.
    """

    unseen: Features
    reference: Features
    count: int
    whole: int
    seed: int
    known: Known | None = None

    def figures(self, metrics: Sequence[str]) -> dict[str, float]:
        """Return ``metrics`` as ``count`` images against ``whole`` would have them."""
        bias = {name: METRICS[name].bias for name in metrics}
        known = self.known or Known.of(self.reference)
        enough = self.kept <= most_alike(self.unseen, self.reference) and self.whole == len(self.reference)
        found, most = self.drawn(self.count, [name for name in metrics if enough or bias[name] != "ratio"], known)
        targets = {
            "samples": 1 / self.count,
            "samples and real": 1 / self.count + 1 / self.whole - 1 / len(self.reference),
            "logarithm": logarithm(self.count),
        }
        place = {kind: logarithm if kind == "logarithm" else inverse for kind in targets}
        lines = [name for name in found if (b := bias[name]) in targets and not math.isclose(targets[b], place[b](most))]
        half, fewer = self.drawn(most // 2, lines, known) if lines else ({}, 0)
        for name, value in half.items():
            target, x = targets[bias[name]], place[bias[name]]
            slope = (value - found[name]) / (x(fewer) - x(most))
            found[name] = max(0.0, found[name] + slope * (target - x(most)))
        if not enough:
            found |= self.at_ratio([name for name in metrics if bias[name] == "ratio"], most, known)
        return {name: found[name] for name in metrics if name in found}

    @property
    def kept(self) -> int:
        """How many of the samples metrics of single samples look at."""
        return min(self.count, CAPACITY)

    def at_ratio(self, metrics: Sequence[str], most: int, known: Known) -> dict[str, float]:
        """Return ``metrics`` of at most ``most`` images and a reference that is to them as ``whole`` is to ``count``."""
        share = min(most / self.kept, len(self.reference) / self.whole)
        real = round(share * self.whole)
        if not metrics or min(real, round(share * self.kept)) < FEWEST // 2:
            return {}
        return self.drawn(round(share * self.kept), metrics, known, real)[0]

    def drawn(self, count: int, metrics: Sequence[str], known: Known, real: int | None = None) -> tuple[dict[str, float], int]:
        """Return ``metrics``, means over draws of ``count`` unseen and ``real`` reference images; and how many were unseen."""
        count = min(count, most_alike(self.unseen, self.reference))
        parts = real is not None and real < len(self.reference)
        same = count > 0.9 * len(self.unseen) and not parts  # draws would hardly differ
        sums: dict[str, float] = {}
        draws = 1 if same else DRAWS
        for draw in range(draws):
            rows = stratified(self.unseen, self.reference, count, (self.seed, "floor", draw))
            reference, about = self.reference, known
            if real is not None and parts:
                reference = self.reference[stratified(reference, reference, real, (self.seed, "floor's reference", draw))]
                about = Known.of(reference)
            measured = measure(self.unseen[rows], reference, metrics=metrics, seed=self.seed, known=about)
            for name, value in measured.figures.items():
                sums[name] = sums.get(name, 0.0) + value
        return {name: total / draws for name, total in sums.items()}, len(rows)


def most_alike(images: Features, reference: Features) -> int:
    """Return how many of ``images`` can be drawn in the reference's proportions; all, if this would leave out most of them."""
    if images.labels is None or reference.labels is None:
        return len(images)
    wanted = torch.bincount(reference.labels)
    there = torch.bincount(images.labels, minlength=len(wanted))[: len(wanted)]
    alike = int((there[wanted > 0] / wanted[wanted > 0]).min() * len(reference))
    return alike if alike > len(images) / 2 else len(images)


def stratified(images: Features, reference: Features, count: int, key: Sequence[int | str]) -> Tensor:
    """Draw ``count`` rows of ``images`` without repetition, each class as frequent as in ``reference``.

    Of a class that ``images`` have too few of, all are taken, so that there can be less than ``count``.

    Args:
        images: where they are drawn from.
        reference: whose proportions of classes they have; without labels any rows are drawn.
        count: how many.
        key: decides which, by `randomness.generator`.
    """
    stream = generator(*key)
    if images.labels is None or reference.labels is None:
        return torch.randperm(len(images), generator=stream)[:count]
    quotas = apportion(torch.bincount(reference.labels), count)
    drawn = []
    for label, quota in enumerate(quotas):
        own = torch.where(images.labels == label)[0]
        drawn.append(own[torch.randperm(len(own), generator=stream)[:quota]])
    return torch.cat(drawn)


def inverse(count: int) -> float:
    """Return 1 / N, in which a bias is linear."""
    return 1 / count


def logarithm(count: int) -> float:
    """Return log N, of the samples that metrics of single samples look at."""
    return math.log(min(count, CAPACITY))
