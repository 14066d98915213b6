"""Gaussians on a circle in the plane: the smallest data on which a generative model can miss modes or ignore its condition."""

import math

import torch
from torch import Tensor

from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.errors import CondgenError
from condgen.randomness import generator
from condgen.types import NonNegative, Positive, PositiveInt


class Ring:
    """Points from ``modes`` equal, isotropic Gaussians whose centres lie evenly on a circle; a class owns one or more of them.

    Class k owns the modes k, k + K, k + 2 K, ... of K classes, counted anticlockwise from the right, so that those of one
    class lie as far apart as can be.

    Args:
        modes: number of Gaussians.
        per_class: how many of them a class owns; divides ``modes``.
        radius: of the circle; points lie in [-1, 1] x [-1, 1].
        sigma: standard deviation of each Gaussian in both directions, same units.
        samples: number of points, shared evenly by the modes.
        seed: decides the points.
    """

    def __init__(
        self,
        modes: PositiveInt = 8,
        per_class: PositiveInt = 1,
        radius: NonNegative = 0.75,
        sigma: Positive = 0.05,
        samples: PositiveInt = 10000,
        seed: int = 0,
    ):
        if modes % per_class:
            raise CondgenError(
                f"data.source.per_class={per_class} must divide data.source.modes={modes}: each class owns as many modes."
            )
        if radius + 5 * sigma > 1:
            raise CondgenError(
                f"data.source.radius={radius} and data.source.sigma={sigma} must have radius + 5 sigma of at most 1, "
                "so that points stay within [-1, 1]."
            )
        if samples < modes:
            raise CondgenError(f"data.source.samples={samples} must be at least data.source.modes={modes}, a point for each.")
        self.modes, self.per_class, self.radius, self.sigma = modes, per_class, radius, sigma
        self.samples, self.seed = samples, seed

    @property
    def centres(self) -> Tensor:
        """Centres of the modes, float32 (modes, 2)."""
        angle = 2 * math.pi * torch.arange(self.modes) / self.modes
        return self.radius * torch.stack([angle.cos(), angle.sin()], dim=1)

    @property
    def owners(self) -> Tensor:
        """The class that owns each mode, int64 (modes,)."""
        return torch.arange(self.modes) % (self.modes // self.per_class)

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Draw all points, float32 (samples, 2); raises CondgenError if images are asked for."""
        if decoding.image_size is not None or decoding.channels is not None:
            raise CondgenError("data.image_size and data.channels change images, and a ring has points: leave both at null.")
        mode = torch.arange(self.samples) % self.modes
        noise = torch.randn(self.samples, 2, generator=generator(self.seed, "ring"))
        points = (self.centres[mode] + self.sigma * noise).clamp(-1, 1)
        classes = self.modes // self.per_class
        return Tables(Table(points, self.owners[mode]), None, [str(k) for k in range(classes)])
