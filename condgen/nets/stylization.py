"""The image transformation network of Johnson et al. 2016 (supplement), its norms set by the style (Dumoulin et al. 2017)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.nets.conv import sides
from condgen.nets.layers import MakeEmbedding, embedding_of
from condgen.nets.norms import ConditionalInstanceNorm
from condgen.spaces import Space
from condgen.types import OddInt, PositiveInt


class StyleNetwork(nn.Module):
    """Map an image (B, C, H, W) and a style to the image in that style, in (-1, 1).

    Two halvings, residual blocks, two doublings by nearest neighbours; borders are reflected, so that styles have no frame.

    Args:
        condition: an image, and a vector that says the style.
        space: what an image is.
        width: channels at full size; doubled at each halving.
        blocks: residual blocks at the smallest size.
        embedding: how the style enters the norms.
        kernel: side of the first and the last convolution.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        width: PositiveInt,
        blocks: PositiveInt,
        embedding: MakeEmbedding,
        kernel: OddInt = 9,
    ):
        super().__init__()
        channels, *_ = sides(space, 2)
        if condition.map_shape is None or not condition.width:
            raise CondgenError("model=stylization draws an image in a style: choose condition=style.")
        self.condition = condition
        self.embed = embedding_of(condition, embedding, maps=True)
        style, widths = self.embed.width, [width, 2 * width, 4 * width]
        self.first = Convolution(condition.map_shape[0], width, kernel, style)
        self.down = nn.ModuleList(Convolution(i, o, 3, style, stride=2) for i, o in pairwise(widths))
        self.blocks = nn.ModuleList(ResidualBlock(widths[-1], style) for _ in range(blocks))
        self.up = nn.ModuleList(Convolution(i, o, 3, style) for i, o in pairwise(reversed(widths)))
        self.last = nn.Conv2d(width, channels, kernel, padding=kernel // 2, padding_mode="reflect")

    def forward(self, condition: Tensor) -> Tensor:
        """Draw the images of encoded conditions (B, ...): (B, C, H, W)."""
        v = self.embed(condition)
        h = F.relu(self.first(self.condition.map(condition), v))
        for layer in self.down:
            h = F.relu(layer(h, v))
        for block in self.blocks:
            h = block(h, v)
        for layer in self.up:
            h = F.relu(layer(F.interpolate(h, scale_factor=2.0, mode="nearest"), v))
        drawn: Tensor = self.last(h).tanh()
        return drawn


class Convolution(nn.Module):
    """Convolve with reflected borders, then `ConditionalInstanceNorm`.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: side of the filters, odd.
        style: length of the style's vector.
        stride: step of the filters.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, style: int, stride: int = 1):
        super().__init__()
        self.convolve = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, padding_mode="reflect")
        self.norm = ConditionalInstanceNorm(outputs, style)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Map (B, inputs, H, W) and v (B, style) to (B, outputs, H / stride, W / stride)."""
        y: Tensor = self.norm(self.convolve(x), v)
        return y


class ResidualBlock(nn.Module):
    """Two convolutions, added to what they see, without an activation after the sum.

    Args:
        channels: channels of x.
        style: length of the style's vector.
    """

    def __init__(self, channels: int, style: int):
        super().__init__()
        self.one, self.two = Convolution(channels, channels, 3, style), Convolution(channels, channels, 3, style)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        return x + torch.as_tensor(self.two(F.relu(self.one(x, v)), v))
