"""How sure a share is that was counted, and a mean of a few values."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, stdev

import torch

Count = tuple[int, int]
"""So many of so many."""


def wilson(count: Count, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share (Wilson 1927), in [0, 1].

    Unlike the normal approximation it keeps its coverage for few answers and for shares near 0 and 1.

    Args:
        count: how many of how many, (k, n) with 0 <= k <= n; of none the interval is all of [0, 1].
        confidence: probability with which such intervals hold the true share, in (0, 1).
    """
    k, n = count
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(k * (n - k) / n + z**2 / 4)
    return (max(0.0, middle - half) if k else 0.0), (min(1.0, middle + half) if k < n else 1.0)


T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""The 97.5 % quantiles of Student's t with 1 to 30 degrees of freedom."""


def student(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval by Student's t; NaN for the half where there is one value."""
    if len(values) < 2:
        return fmean(values), math.nan
    degrees = len(values) - 1
    quantile = T95[degrees - 1] if degrees <= len(T95) else 1.96 + 2.5 / degrees
    return fmean(values), quantile * stdev(values) / math.sqrt(len(values))


def clopper_pearson(count: Count, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper & Pearson 1934), in [0, 1], which never holds it too rarely.

    Args:
        count: how many of how many, (k, n) with 0 <= k <= n and n > 0.
        confidence: probability with which such intervals at least hold the true share, in (0, 1).
    """
    k, n = count
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else solved(lambda p: 1 - at_most(k - 1, n, p) - tail)
    high = 1.0 if k == n else solved(lambda p: tail - at_most(k, n, p))
    return low, high


def at_most(k: int, n: int, p: float) -> float:
    """Return the probability of at most ``k`` successes of ``n``, each of probability ``p`` in (0, 1)."""
    i = torch.arange(k + 1, dtype=torch.float64)
    top = torch.lgamma(torch.tensor(n + 1.0, dtype=torch.float64))
    ways = top - torch.lgamma(i + 1) - torch.lgamma(n - i + 1)
    return float((ways + i * math.log(p) + (n - i) * math.log1p(-p)).logsumexp(0).exp())


def solved(rising: Callable[[float], float]) -> float:
    """Return where a rising function of a share is zero, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
