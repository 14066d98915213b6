"""A small U-Net as a velocity field of images (Ronneberger et al. 2015; its blocks after Dhariwal & Nichol 2021, section 3).

Time and condition set gain and bias of its group norms. With ``patch`` 2 it works on images of half the sides and four times
the channels, which is what a CPU can afford: 28 pixels are 14 and 7 inside, 32 are 16 and 8.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import gcd
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.nets.layers import MakeEmbedding
from condgen.nets.velocity import Signal
from condgen.spaces import Images, Space
from condgen.types import PositiveInt, Share, Widths

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)
GROUPS = 8
"""Groups of a group norm, where they divide the channels."""
HEAD = 32
"""Channels of one head of attention, where they divide the channels."""


class UNet(nn.Module):
    """Map images (B, C, H, W), times and conditions to velocities of the same shape.

    A condition that is an image enters as further channels.

    Args:
        condition: what can be asked for.
        space: what an image is.
        widths: channels at each size, from the largest images to the smallest; sides halve from one to the next.
        blocks: residual blocks at each size on the way down, and as many on the way up, where each sees one of those too.
        patch: side of the squares of pixels that become channels at the input, and pixels again at the output.
        attention: side of the images up to which self-attention follows each block; None for none.
        signal: length of the vector of time and condition.
        embedding: how the condition enters it; None keeps it out.
        dropout: probability, within each block.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        widths: Widths,
        blocks: PositiveInt,
        patch: PositiveInt,
        attention: PositiveInt | None,
        signal: PositiveInt,
        embedding: MakeEmbedding | None,
        dropout: Share = 0.0,
    ):
        super().__init__()
        channels, side = check_sides(space, widths, patch)
        self.patch = patch
        self.signal = Signal(condition, signal, embedding, maps=True)
        self.condition = condition
        more = condition.map_shape[0] if condition.map_shape else 0
        self.blank = nn.Parameter(torch.zeros(more, 1, 1)) if more else None  # where an image is dropped
        self.input = nn.Conv2d((channels + more) * patch**2, widths[0], 3, padding=1)

        def level(entering: int, width: int, depth: int, beside: int) -> nn.ModuleList:
            attends = attention is not None and side >> depth <= attention
            inputs = [entering, *[width] * (blocks - 1)]
            return nn.ModuleList(Block(i + beside, width, signal, dropout, attends) for i in inputs)

        self.down = nn.ModuleList(level(i, o, n, 0) for n, (i, o) in enumerate(pairwise([widths[0], *widths])))
        self.middle = level(widths[-1], widths[-1], len(widths) - 1, 0)[0]
        pairs = list(enumerate(pairwise([*widths, widths[-1]])))
        self.up = nn.ModuleList(level(below, here, n, here) for n, (here, below) in reversed(pairs))
        self.norm = nn.GroupNorm(gcd(GROUPS, widths[0]), widths[0])
        self.out = start_at_zero(nn.Conv2d(widths[0], channels * patch**2, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, dropped: Tensor) -> Tensor:
        """Return velocities (B, C, H, W), for times (B,), encoded conditions and which of these are dropped, bool (B,)."""
        v = F.silu(self.signal(t, condition, dropped))
        if self.blank is not None:
            shown = self.condition.map(condition).to(x.dtype)
            x = torch.cat([x, torch.where(dropped[:, None, None, None], self.blank.to(x.dtype), shown)], dim=1)
        h = self.input(F.pixel_unshuffle(x, self.patch))
        seen: list[Tensor] = []
        for depth, blocks in enumerate(self.down):
            h = F.avg_pool2d(h, 2) if depth else h
            for block in blocks:  # type: ignore[attr-defined]
                seen.append(h := block(h, v))
        h = self.middle(h, v)
        for height, blocks in enumerate(self.up):
            h = F.interpolate(h, scale_factor=2.0, mode="nearest") if height else h
            for block in blocks:  # type: ignore[attr-defined]
                h = block(torch.cat([h, seen.pop()], dim=1), v)
        velocity: Tensor = self.out(F.silu(self.norm(h)))
        return F.pixel_shuffle(velocity, self.patch)


class Block(nn.Module):
    """norm, SiLU, convolve, adaptive norm, SiLU, convolve; beside a 1x1 convolution, or nothing where channels are equal.

    The adaptive group norm is (1 + A v) * GroupNorm(x) + B v (Dhariwal & Nichol 2021, section 3.1). A, B and the second
    convolution start at zero: the block begins as its shortcut.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        signal: length of v.
        dropout: probability, before the second convolution.
        attends: self-attention follows.
    """

    def __init__(self, inputs: int, outputs: int, signal: int, dropout: float, attends: bool):
        super().__init__()
        self.norm1 = nn.GroupNorm(gcd(GROUPS, inputs), inputs)
        self.norm2 = nn.GroupNorm(gcd(GROUPS, outputs), outputs, affine=False)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = start_at_zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.set = start_at_zero(nn.Linear(signal, 2 * outputs))
        self.drop = nn.Dropout(dropout)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attend = Attention(outputs) if attends else nn.Identity()

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Map (B, inputs, H, W) and v (B, signal) to (B, outputs, H, W)."""
        gain, bias = self.set(v)[:, :, None, None].chunk(2, dim=1)
        h = self.first(F.silu(self.norm1(x)))
        h = F.silu(torch.addcmul(bias, self.norm2(h), 1 + gain))
        y: Tensor = self.attend(self.shortcut(x) + self.second(self.drop(h)))
        return y


class Attention(nn.Module):
    """Multi-head self-attention over the places of an image (Vaswani et al. 2017, section 3.2); begins as the identity.

    Args:
        channels: channels of x.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.heads = channels // gcd(HEAD, channels)
        self.norm = nn.GroupNorm(gcd(GROUPS, channels), channels)
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.out = start_at_zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        size = x.shape[2] * x.shape[3]
        parts = self.project(self.norm(x)).reshape(x.shape[0], 3, self.heads, -1, size).mT  # (B, 3, heads, HW, C / heads)
        query, key, value = parts.unbind(1)
        found = F.scaled_dot_product_attention(query, key, value).mT  # (B, heads, C / heads, HW)
        y: Tensor = x + self.out(found.reshape(x.shape))
        return y


def start_at_zero(layer: Layer) -> Layer:
    """Return the layer with weight and bias at zero."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def check_sides(space: Space, widths: Sequence[int], patch: int) -> tuple[int, int]:
    """Return the images' channels and their larger side inside; raises CondgenError if they cannot be halved so often."""
    if not isinstance(space, Images):
        raise CondgenError(f"A U-Net needs images, not {type(space).__name__.lower()}: set model=flow_points.")
    channels, *size = space.shape
    unit = patch * 2 ** (len(widths) - 1)
    if size[0] % unit or size[1] % unit:
        raise CondgenError(
            f"A U-Net with model.generator.network.patch={patch} and {len(widths)} widths needs sides that are multiples of "
            f"{unit}, not {size[0]}x{size[1]}: set data.image_size to one, patch to 1, or fewer widths."
        )
    return channels, max(size) // patch
