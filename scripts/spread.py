"""How figures that a noisy machine gives are told: the median of some rounds, with the least and the largest."""

from collections.abc import Iterable
from statistics import median


def spread(values: Iterable[float]) -> str:
    """Return median, least and largest of some values, as ``0.97 (0.89-1.12)``."""
    found = list(values)
    return f"{median(found):.2f} ({min(found):.2f}-{max(found):.2f})"
