"""The distance of two distributions as that of their mean embeddings (maximum mean discrepancy, Gretton et al. 2012).

    MMD(P, Q) = || E_{x ~ P} phi(x) - E_{x ~ Q} phi(x) ||,    k(x, y) = <phi(x), phi(y)>

Every phi here has norm 1 at most, so that one sample moves a mean over n by at most 1 / n, whatever it is (DP-MERF, Harder et
al. 2021, section 3; DP-MEPF, Harder et al. 2023).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from condgen.errors import CondgenError
from condgen.randomness import generator
from condgen.types import Count, Positive, PositiveInt

FAINT = 0.01
"""Share of an empty image's norm below which what an image adds to it is taken for faint, and not scaled up to norm 1."""


class Features(ABC):
    """phi, which maps samples (B, *shape) in [-1, 1] to (B, length), of norm at most 1 whatever they are."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return phi(x), (B, length)."""

    def length(self, shape: Sequence[int]) -> int:
        """Return the length of phi(x) for samples of ``shape``; raises CondgenError for those that it cannot take."""
        with torch.device("cpu"), torch.no_grad():  # not where parameters are only counted
            return self(torch.zeros(1, *shape)).shape[1]


class RandomFeatures(Features):
    """Random Fourier features of a sum of Gaussian kernels, exp(-||x - y||^2 / (2 b^2)) for each bandwidth b.

    Rahimi & Recht 2007; their norm is 1.

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
        """See `Features`."""
        flat = x.flatten(1).float()
        angles = flat @ self.frequencies(flat.shape[1], x.device)
        return torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(angles.shape[1])


class LayerFeatures(Features):
    """What a network that was trained on public data sees in its layers (DP-MEPF, Harder et al. 2023).

    Each layer counts alike: what it makes of an image, minus what it makes of an empty one, scaled to norm 1 unless the image
    is as good as empty. All images share an empty border, say, and else that would take most of the norm, by which the noise
    is measured.

    Args:
        network: makes the network, which maps images (B, C, H, W) to a list of layers (B, C', H', W'). No private image may
            have trained it: nothing bounds what it knows of those that did.
        layers: indices of those that are taken.
        kernel: takes random features of the layers beside them, so that more than means is matched: bandwidths are distances
            between vectors of norm 1; None: none.
        background: what an empty image is filled with, in [-1, 1]: known without looking at the data.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module],
        layers: Sequence[Count],
        kernel: RandomFeatures | None = None,
        background: float = -1.0,
    ):
        self.make = network
        self.layers, self.kernel, self.background = list(layers), kernel, background
        self._network: nn.Module | None = None

    @property
    def network(self) -> nn.Module:
        """The frozen network, loaded when it is first needed, since sampling has no use for it."""
        if self._network is None:
            with torch.device("cpu"):
                self._network = self.make().eval().requires_grad_(False)
        return self._network

    def seen(self, x: Tensor) -> list[Tensor]:
        """Return the chosen layers (B, length) of images (B, C, H, W)."""
        layers: list[Tensor] = self.network.to(x.device)(x)
        if max(self.layers) >= len(layers):
            raise CondgenError(f"loss.layers={self.layers} are more than the {len(layers)} layers of the network, from 0.")
        return [layers[i].flatten(1).float() for i in self.layers]

    def __call__(self, x: Tensor) -> Tensor:
        """See `Features`."""
        with torch.no_grad():
            empty = self.seen(torch.full_like(x[:1], self.background))
        layers = [scaled(h - h0, FAINT * float(h0.norm())) for h, h0 in zip(self.seen(x), empty, strict=True)]
        vectors = torch.cat(layers, dim=1) / math.sqrt(len(layers))
        return vectors if self.kernel is None else torch.cat([vectors, self.kernel(vectors)], dim=1) / math.sqrt(2)


def scaled(h: Tensor, least: float) -> Tensor:
    """Return rows h (B, length) scaled to norm 1; those shorter than ``least`` stay shorter.

    Of an image that is as good as empty rounding alone is left, and that depends on the images beside it: blown up to norm 1 it
    would let these move more than their own part.
    """
    lengths: Tensor = h.norm(dim=1, keepdim=True)
    return h / lengths.clamp(min=max(least, 1e-6))
