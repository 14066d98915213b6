"""The distance of two distributions as that of their mean embeddings (maximum mean discrepancy, Gretton et al. 2012).

    MMD(P, Q) = || E_{x ~ P} phi(x) - E_{x ~ Q} phi(x) ||,    k(x, y) = <phi(x), phi(y)>

phi are random Fourier features of Gaussian kernels (Rahimi & Recht 2007): of norm 1, so that one sample moves a mean over n by
at most 1 / n, whatever it is (DP-MERF, Harder et al. 2021, section 3).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from condgen.randomness import generator
from condgen.types import Positive, PositiveInt


class RandomFeatures:
    """Random Fourier features of a sum of Gaussian kernels, exp(-||x - y||^2 / (2 b^2)) for each bandwidth b.

    Args:
        features: length of phi, shared by the bandwidths alike.
        bandwidths: of the kernels, as distances between samples in [-1, 1].
        seed: decides the frequencies, which no data decide.
    """

    def __init__(self, features: PositiveInt, bandwidths: Sequence[Positive], seed: int = 0):
        self.each = max(1, features // 2 // len(bandwidths))
        self.bandwidths = list(bandwidths)
        self.seed = seed
        self._frequencies: dict[tuple[int, torch.device], Tensor] = {}

    @property
    def length(self) -> int:
        """The length of phi(x)."""
        return 2 * self.each * len(self.bandwidths)

    def frequencies(self, dimensions: int, device: torch.device) -> Tensor:
        """Return the frequencies (dimensions, length / 2) of samples of so many numbers."""
        if (dimensions, device) not in self._frequencies:
            drawn = [
                torch.randn(dimensions, self.each, generator=generator(self.seed, "random features", place)) / bandwidth
                for place, bandwidth in enumerate(self.bandwidths)
            ]
            self._frequencies[dimensions, device] = torch.cat(drawn, dim=1).to(device)
        return self._frequencies[dimensions, device]

    def __call__(self, x: Tensor) -> Tensor:
        """Return phi(x), (B, length) of norm 1, of samples (B, *shape)."""
        flat = x.flatten(1).float()
        angles = flat @ self.frequencies(flat.shape[1], x.device)
        return torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(angles.shape[1])
