"""Where on their paths samples are looked at: how often which time in [0, 1], from noise at 0 to data at 1."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from condgen.types import Positive


class Times(ABC):
    """A distribution of times, given by its quantiles."""

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """Map uniform numbers in (0, 1) to times in (0, 1), in their order."""


class Uniform(Times):
    """Each time as often as any other."""

    def __call__(self, u: Tensor) -> Tensor:
        return u


class LogitNormal(Times):
    """The logistic function of N(mean, deviation^2): less of both ends (Esser et al. 2024, section 3.1).

    Args:
        mean: below 0 prefers noise, above 0 data.
        deviation: the smaller, the more the middle is preferred.
    """

    def __init__(self, mean: float = 0.0, deviation: Positive = 1.0):
        self.mean, self.deviation = mean, deviation

    def __call__(self, u: Tensor) -> Tensor:
        normal = torch.special.ndtri(u.double().clamp(1e-6, 1 - 1e-6))
        return torch.sigmoid(self.mean + self.deviation * normal).to(u.dtype)


def stratified(count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` uniform numbers, one in each of as many equal parts of [0, 1), in random order.

    (The estimate of a mean over times varies less than from independent ones; Kingma et al. 2021, appendix I.1.)
    """
    parts = torch.randperm(count, generator=generator)
    return (parts + torch.rand(count, generator=generator)) / count
