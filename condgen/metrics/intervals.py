"""How sure a share is that was counted."""

import math
from statistics import NormalDist

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
