"""How sure a share is that was counted, and a mean of a few values."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

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
