"""What a velocity field v(x, t, c) is told beside x, and the smallest such field: fully connected."""

import math
from math import prod
from typing import Unpack

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.nets.layers import Hidden, HiddenOptions, MakeEmbedding, embedding_of
from condgen.spaces import Space
from condgen.types import PositiveInt, Widths

FREQUENCIES = 32
"""Waves in which time is written, from one radian to a thousand over [0, 1]."""


class Signal(nn.Module):
    """Time and condition as one vector (B, width), which sets a network's norms or stands beside its input.

    Both are mapped to ``width`` and added (Dhariwal & Nichol 2021, section 3). Where a condition is dropped, a learned null
    stands in its embedding's place, for classifier-free guidance (Ho & Salimans 2022, section 3.2).

    Args:
        condition: what can be asked for.
        width: length of the vector.
        embedding: how the condition enters; None keeps it out.
        maps: the network sees a condition that is an image, in another way.
    """

    def __init__(self, condition: Condition, width: int, embedding: MakeEmbedding | None, maps: bool = False):
        super().__init__()
        self.embed = embedding_of(condition, embedding if condition.width else None, maps)
        self.null = nn.Parameter(torch.randn(self.embed.width)) if self.embed.width else None
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.from_condition = nn.Linear(self.embed.width, width) if self.embed.width else None

    def forward(self, t: Tensor, condition: Tensor, dropped: Tensor) -> Tensor:
        """Return the vector.

        Args:
            t: times in [0, 1], (B,).
            condition: encoded (B, ...).
            dropped: which of them the network must not see, bool (B,).
        """
        v: Tensor = self.time(waves(t))
        if self.from_condition is not None and self.null is not None:
            embedded = self.embed(condition)
            v = v + self.from_condition(torch.where(dropped[:, None], self.null.to(embedded.dtype), embedded))
        return v


def waves(t: Tensor) -> Tensor:
    """Write times (B,) as sines and cosines of `FREQUENCIES` frequencies (Vaswani et al. 2017, section 3.5): (B, 2 F)."""
    exponents = torch.linspace(0, 1, FREQUENCIES, device=t.device, dtype=t.dtype)
    angles = t[:, None] * torch.exp(math.log(1000.0) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class MLPVelocity(nn.Module):
    """Map samples (B, *shape), times and conditions to velocities of the same shape, with hidden layers alone.

    Args:
        condition: what can be asked for.
        space: what a sample is.
        hidden: widths of the hidden layers.
        signal: length of the vector that says time and condition, which stands beside the sample.
        embedding: how the condition enters; None keeps it out.
        **layers: as for `Hidden`: activation, norm, norm_last, dropout, plain_first.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        hidden: Widths,
        signal: PositiveInt,
        embedding: MakeEmbedding | None,
        **layers: Unpack[HiddenOptions],
    ):
        super().__init__()
        size = prod(space.shape)
        self.signal = Signal(condition, signal, embedding)
        self.layers = Hidden([size + signal, *hidden], **layers)
        self.out = nn.Linear(hidden[-1], size)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, dropped: Tensor) -> Tensor:
        """Return velocities (B, *shape), for times (B,), encoded conditions and which of these are dropped, bool (B,)."""
        h = torch.cat([x.flatten(1), self.signal(t, condition, dropped)], dim=1)
        velocity: Tensor = self.out(self.layers(h))
        return velocity.view_as(x)
