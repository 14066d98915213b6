"""Membership inference: how well training images are told from unseen ones by what a model shows of each.

An attack gives every image a score that is larger where it takes it for a member. What counts is not only the area under its
curve but how many members it finds with hardly a false alarm (Carlini et al. 2022, arXiv:2112.03570). A pair of rates bounds
the epsilon of any differentially private training from below (Jagielski et al. 2020, arXiv:2006.07709; Nasr et al. 2021):

    epsilon >= log((TPR - delta) / FPR),    epsilon >= log((1 - FPR - delta) / (1 - TPR))
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from condgen.metrics.intervals import Count, clopper_pearson, wilson

Interval = tuple[float, float]
RATES = (0.01, 0.001)
"""False-positive rates at which the true-positive rate is told."""
FEWEST = 20
"""Images of a kind below which no attack is judged."""


@dataclass(frozen=True)
class Attack:
    """What an attack found.

    Attributes:
        name: what it looks at.
        auc: probability that a member's score is above a non-member's, in 0..1; 0.5 is chance.
        auc_interval: 95 % (Hanley & McNeil 1982).
        rates: (false-positive rate, true-positive rate, its exact 95 % interval) at each of `RATES`.
        epsilon: lower bound of epsilon at 95 %, at a threshold chosen on the other half of the images.
    """

    name: str
    auc: float
    auc_interval: Interval
    rates: list[tuple[float, float, Interval]]
    epsilon: float

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def attack(name: str, members: Tensor, others: Tensor, delta: float) -> Attack:
    """Judge an attack by its scores.

    Args:
        name: what it looks at.
        members: scores (N,) of training images, in random order.
        others: scores (M,) of unseen images, in random order.
        delta: of the guarantee that its bound is of.
    """
    area = auc(members, others)
    n, m = len(members), len(others)
    # Hanley & McNeil 1982, equation 1: the variance for exponential scores, which is on the safe side.
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m)
    half = NormalDist().inv_cdf(0.975) * math.sqrt(max(0.0, variance))
    rates = []
    for rate in RATES:
        threshold = others.sort(descending=True).values[min(m - 1, int(rate * m))]
        found = int((members > threshold).sum())
        rates.append((rate, found / n, clopper_pearson((found, n))))
    return Attack(name, area, (max(0.0, area - half), min(1.0, area + half)), rates, epsilon_bound(members, others, delta))


def auc(members: Tensor, others: Tensor) -> float:
    """Return the area under the curve of true over false positives, ties counted half."""
    ordered = others.double().sort().values.contiguous()
    below = torch.searchsorted(ordered, members.double().contiguous())
    upto = torch.searchsorted(ordered, members.double().contiguous(), right=True)
    return float((below + upto).double().mean() / (2 * len(others)))


def epsilon_bound(members: Tensor, others: Tensor, delta: float, confidence: float = 0.95) -> float:
    """Return a lower bound of epsilon that holds with ``confidence``; 0 where nothing was found.

    The threshold is chosen on the first halves and judged on the second, so that the choice makes no bound too large.
    """
    (chosen_in, judged_in), (chosen_out, judged_out) = (scores.double().tensor_split(2) for scores in (members, others))
    if min(len(chosen_in), len(chosen_out)) < 1:
        return 0.0
    thresholds = torch.cat([chosen_in, chosen_out]).quantile(torch.linspace(0, 1, 201, dtype=torch.float64)).tolist()
    bound = [bounds(chosen_in, chosen_out, t, delta, wilson) for t in thresholds]  # quick, and only to choose by
    first, side = max((value, (place, side)) for place, pair in enumerate(bound) for side, value in enumerate(pair))[1]
    exact = partial(clopper_pearson, confidence=confidence)
    return max(0.0, bounds(judged_in, judged_out, thresholds[first], delta, exact)[side])


def bounds(
    members: Tensor, others: Tensor, threshold: float, delta: float, interval: Callable[[Count], Interval]
) -> tuple[float, float]:
    """Return both bounds at a threshold, each from two one-sided intervals: together they hold as a two-sided one does."""
    n, m = len(members), len(others)
    hits, alarms = int((members > threshold).sum()), int((others > threshold).sum())
    tpr, fpr = interval((hits, n)), interval((alarms, m))
    sides = (tpr[0] - delta, fpr[1]), (1 - fpr[1] - delta, 1 - tpr[0])
    first, second = (math.log(over / under) if over > 0 and under > 0 else -math.inf for over, under in sides)
    return first, second
