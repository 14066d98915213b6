"""A lower bound of epsilon from one training: how many coins an auditor guesses right (Steinke et al. 2023, arXiv:2305.08846).

Each of m canaries is in the training set by a coin of its own. Of r guesses, made by the highest and the lowest scores, v are
right. Under (epsilon, delta)-differential privacy v is, but for delta, at most a binomial count of r at
e^epsilon / (1 + e^epsilon) (theorem 5.2); the largest epsilon under which v would be too many is the bound. Unlike one from
members and unseen images it holds however the guesses of one training depend on each other.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from condgen.metrics.intervals import solved

SHARES = (1.0, 0.3, 0.1, 0.03)
"""Shares of the canaries on which a guess is made; each gets its part of the probability to err."""
HIGHEST = 20.0
"""No larger epsilon is told: no number of canaries in use could."""


@dataclass(frozen=True)
class Guesses:
    """What was guessed of canaries.

    Attributes:
        name: of the attack whose scores were guessed by.
        canaries: m.
        guesses: r, of the share that gives the largest bound.
        right: v.
        epsilon: the bound, at 95 %.
    """

    name: str
    canaries: int
    guesses: int
    right: int
    epsilon: float

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def guessed(name: str, inside: Tensor, outside: Tensor, delta: float, confidence: float = 0.95) -> Guesses:
    """Guess by scores which canaries are in, for each of `SHARES`, and return what gives the largest bound.

    Args:
        name: of the attack.
        inside: scores (N,) of the canaries that are in, larger where an attack takes them for members.
        outside: scores (M,) of those that are not.
        delta: of the guarantee whose epsilon is bounded.
        confidence: with which the largest of the bounds holds.
    """
    count = len(inside) + len(outside)
    heads = torch.cat([torch.ones(len(inside), dtype=torch.bool), torch.zeros(len(outside), dtype=torch.bool)])
    # Ties, such as those of scores that saturate, may not be broken by what is to be guessed.
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    order = shuffled[torch.cat([inside, outside])[shuffled].argsort(descending=True, stable=True)]
    found = []
    for share in SHARES:
        side = max(1, round(share * count / 2))
        right = int(heads[order[:side]].sum() + (~heads[order[count - side :]]).sum())
        error = (1 - confidence) / len(SHARES)
        found.append(Guesses(name, count, 2 * side, right, bound(count, 2 * side, right, delta, error)))
    return max(found, key=lambda one: one.epsilon)


def bound(canaries: int, guesses: int, right: int, delta: float, error: float) -> float:
    """Return the largest epsilon under which so many right guesses have a probability below ``error``; 0 for none."""
    if chance(canaries, guesses, right, 0.0, delta) >= error:
        return 0.0
    return HIGHEST * solved(lambda share: chance(canaries, guesses, right, HIGHEST * share, delta) - error)


def chance(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Return the largest probability of so many right guesses under (epsilon, delta)-differential privacy.

    Args:
        canaries: m, each in with probability 1/2.
        guesses: r <= m.
        right: v <= r.
        epsilon: at least 0.
        delta: in [0, 1).
    """
    counts = torch.arange(guesses + 1, dtype=torch.float64)
    top = torch.lgamma(torch.tensor(guesses + 1.0, dtype=torch.float64))
    ways = top - torch.lgamma(counts + 1) - torch.lgamma(guesses - counts + 1)
    # log q and log (1 - q) of q = 1 / (1 + exp(-epsilon)), exact also where q is nearly 1
    log_right, log_wrong = -math.log1p(math.exp(-epsilon)), -epsilon - math.log1p(math.exp(-epsilon))
    mass = (ways + counts * log_right + (guesses - counts) * log_wrong).exp()
    reached = float(mass[right:].sum())
    below = mass[:right].flip(0).cumsum(0) / torch.arange(1, right + 1)  # P[v > Binomial >= v - i] / i
    slack = float(below.max()) if right else 0.0
    return min(1.0, reached + 2 * canaries * delta * slack)
