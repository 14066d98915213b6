"""How learning rates fall: their factor as a function of the share of the training that is over.

A pure function of where the training stands has no state of its own, so a resumed run goes on exactly.
"""

import math
from abc import ABC, abstractmethod

from condgen.types import BelowOne, Share


class Schedule(ABC):
    """1 until ``start``, then falling to ``end``.

    Args:
        start: share of the training after which rates fall, in [0, 1).
        end: the factor at the end of the training, in [0, 1].
    """

    def __init__(self, start: BelowOne = 0.0, end: Share = 0.0):
        self.start, self.end = start, end

    def __call__(self, progress: float) -> float:
        """Return the factor where the share ``progress`` of the training lies behind."""
        fall = self.fall(max(0.0, progress - self.start) / (1 - self.start))
        return self.end + (1 - self.end) * fall

    @abstractmethod
    def fall(self, t: float) -> float:
        """From 1 at t = 0 to 0 at t = 1."""


class Linear(Schedule):
    """A straight line."""

    def fall(self, t: float) -> float:
        return 1 - t


class Cosine(Schedule):
    """Half a cosine (Loshchilov & Hutter 2017, equation 5)."""

    def fall(self, t: float) -> float:
        return (1 + math.cos(math.pi * t)) / 2
