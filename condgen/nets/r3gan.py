"""R3GAN: residual networks without normalization (Huang et al. 2024, section 4, configuration E, and appendix).

Both networks are stages of equal sides, each of inverted bottlenecks with grouped convolutions; between stages the sides double
or halve with a low-pass filter. Where paper and code differ, this follows the authors' code (github.com/brownvc/R3GAN).
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions import Condition, LearnedEmbedding
from condgen.errors import CondgenError
from condgen.nets.conv import depth_of, sides
from condgen.nets.layers import Discriminator, Head, MakeEmbedding, beside, embedding_of, per_stage
from condgen.spaces import Space
from condgen.types import PositiveInt, Widths

SLOPE = 0.2
"""Of the leaky ReLUs, where their input is negative."""
GAIN = (2 / (1 + SLOPE**2)) ** 0.5
"""What keeps the variance through a leaky ReLU (He et al. 2015, equation 15)."""
GROUP = 16
"""Channels of a group where the cardinality is left open: the published networks for CIFAR-10 have 96 groups in 2 x 768."""

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class R3GANGenerator(nn.Module):
    """Map noise (B, latent) and conditions to images (B, C, H, W): a learned basis, scaled by channel, then stages of blocks.

    As published there is no tanh: in training images are unbounded; in eval mode they are cut to [-1, 1], which the authors do
    when they write an image.

    Args:
        latent: length of the noise.
        condition: what can be asked for.
        space: what an image is.
        width: channels; or a list, of each stage, the smallest images first.
        depth: number of doublings of the sides; None: from 4 pixels, or an odd number (7 for 28 pixels).
        blocks: number of residual blocks; or a list, of each stage.
        cardinality: groups of the 3x3 convolutions, or a list; None: groups of `GROUP` channels, or few more.
        expansion: how many times wider the blocks are inside.
        embedding: how the condition enters beside the noise; None keeps it out.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition: Condition,
        space: Space,
        width: PositiveInt | Widths,
        depth: PositiveInt | None = None,
        blocks: PositiveInt | Widths = 2,
        cardinality: PositiveInt | Widths | None = None,
        expansion: PositiveInt = 2,
        embedding: MakeEmbedding | None = None,
    ):
        super().__init__()
        depth = depth_of(space, depth, smallest=4)
        channels, *size = sides(space, depth)
        widths = per_stage("width", width, depth + 1)
        self.embed = embedding_of(condition, embedding)
        if isinstance(self.embed, LearnedEmbedding) and self.embed.width:  # the authors' is a linear layer like all others
            nn.init.normal_(self.embed.table, std=condition.width**-0.5)
        self.scale = start(nn.Linear(latent + self.embed.width, widths[0], bias=False))
        self.basis = nn.Parameter(torch.randn(widths[0], size[0] >> depth, size[1] >> depth))
        self.stages = stages(widths, blocks, cardinality, expansion, lambda i, o: [*change(i, o), Double()])
        self.out = start(nn.Conv2d(widths[-1], channels, 1, bias=False))

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Generate images (B, C, H, W)."""
        scale: Tensor = self.scale(torch.cat([z, self.embed(condition)], dim=1))
        images: Tensor = self.out(self.stages(self.basis * scale[:, :, None, None]))
        return images if self.training else images.clamp(-1, 1)


class R3GANDiscriminator(Discriminator):
    """Map images and conditions to logits (B,), positive for real: stages of blocks, a filter a channel, and a `Head`.

    The authors judge D(x, c) = (V c).h. The head's w.h + b + (V c).h is the same function of a class, but that w is shared; w
    and b start at zero, so that D starts as theirs does. Without a condition D is theirs, but for b, which a relativistic loss
    does not see.

    Args:
        condition: what can be asked for.
        space: what an image is.
        width: channels; or a list, of each stage, the image's own size first.
        depth: number of halvings of the sides; None: to 4 pixels, or an odd number (7 for 28 pixels).
        blocks, cardinality, expansion: as for `R3GANGenerator`; lists in the order of ``width``.
        embedding: how the condition enters as constant extra channels of the image; None keeps it out.
        projection: the condition enters by an inner product with the features.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        width: PositiveInt | Widths,
        depth: PositiveInt | None = None,
        blocks: PositiveInt | Widths = 2,
        cardinality: PositiveInt | Widths | None = None,
        expansion: PositiveInt = 2,
        embedding: MakeEmbedding | None = None,
        projection: bool = True,
    ):
        super().__init__()
        depth = depth_of(space, depth, smallest=4)
        channels, *size = sides(space, depth)
        widths = per_stage("width", width, depth + 1)
        last = widths[-1]
        self.embed = embedding_of(condition, embedding)
        self.input = start(nn.Conv2d(channels + self.embed.width, widths[0], 1, bias=False))
        self.stages = stages(widths, blocks, cardinality, expansion, lambda i, o: [Halve(), *change(i, o)])
        self.basis = start(nn.Conv2d(last, last, (size[0] >> depth, size[1] >> depth), groups=last, bias=False))
        self.head = Head(last, condition, projection)
        self.mix: nn.Module = nn.Identity()  # a second linear map before the head's own would add nothing
        start(self.head.linear, gain=0.0 if self.head.project else 1.0)
        if self.head.project:
            self.mix = start(nn.Linear(last, last, bias=False))
            start(self.head.project, gain=last**-0.5)

    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return what the head judges, (B, channels of the last stage)."""
        x = self.stages(self.input(beside(x, self.embed(condition))))
        h: Tensor = self.mix(self.basis(x).flatten(1))
        return h


class Block(nn.Module):
    """Beside the identity: 1x1 convolution to more channels, grouped 3x3 convolution, 1x1 convolution back that starts at zero.

    Args:
        width: channels in and out.
        inside: channels between.
        groups: of the 3x3 convolution.
        total: number of blocks in the network; the deeper it is, the smaller its branches start (Zhang et al. 2019, Fixup:
            total to the power of -1 / (2 m - 2) for m = 3 layers).
    """

    def __init__(self, width: int, inside: int, groups: int, total: int):
        super().__init__()
        gain = GAIN * total**-0.25
        self.widen = start(nn.Conv2d(width, inside, 1), gain)
        self.grouped = start(nn.Conv2d(inside, inside, 3, padding=1, groups=groups), gain)
        self.narrow = start(nn.Conv2d(inside, width, 1, bias=False), gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        h = F.leaky_relu(self.widen(x), SLOPE)
        y: Tensor = x + self.narrow(F.leaky_relu(self.grouped(h), SLOPE))
        return y


class LowPass(nn.Module):
    """Holds the filter [1, 3, 3, 1] / 8 by itself, which resamples by two: bilinear, but for zeros outside of the image."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(line, line), persistent=False)

    def kernels(self, x: Tensor) -> Tensor:
        """Repeat the filter for each channel of ``x``, (C, 1, 4, 4)."""
        return self.kernel.expand(x.shape[1], 1, 4, 4)


class Double(LowPass):
    """Double the sides of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, 4 * self.kernels(x), stride=2, padding=1, groups=x.shape[1])


class Halve(LowPass):
    """Halve the sides of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernels(x), stride=2, padding=1, groups=x.shape[1])


def stages(
    widths: Sequence[int],
    blocks: PositiveInt | Widths,
    cardinality: PositiveInt | Widths | None,
    expansion: int,
    between: Callable[[int, int], list[nn.Module]],
) -> nn.Sequential:
    """Return the residual blocks of all stages, with what ``between`` makes of the channels before and after in between.

    Raises:
        CondgenError: a list is of the wrong length, or channels cannot be cut into the groups that are asked for.
    """
    counts = per_stage("blocks", blocks, len(widths))
    inside = [width * times for width, times in zip(widths, per_stage("expansion", expansion, len(widths)), strict=True)]
    groups = groups_of(cardinality, inside)
    layers: list[nn.Module] = []
    for n, count in enumerate(counts):
        layers += between(widths[n - 1], widths[n]) if n else []
        layers += [Block(widths[n], inside[n], groups[n], sum(counts)) for _ in range(count)]
    return nn.Sequential(*layers)


def change(inputs: int, outputs: int) -> list[nn.Module]:
    """Return what changes the channels between stages: a 1x1 convolution, or nothing where they stay."""
    return [start(nn.Conv2d(inputs, outputs, 1, bias=False))] if inputs != outputs else []


def groups_of(cardinality: PositiveInt | Widths | None, inside: Sequence[int]) -> list[int]:
    """Return how many groups the ``inside`` channels of each stage are cut into; raises CondgenError if they cannot be."""
    if cardinality is None:
        return [next(n for n in range(max(1, width // GROUP), 0, -1) if width % n == 0) for width in inside]
    groups = per_stage("cardinality", cardinality, len(inside))
    for count, width in zip(groups, inside, strict=True):
        if width % count:
            raise CondgenError(
                f"cardinality={count}, of model.generator.network or model.discriminator, does not divide the {width} "
                f"channels inside a block (expansion times width): give a divisor of {width}, or null "
                f"for groups of about {GROUP} channels."
            )
    return groups


def start(layer: Layer, gain: float = 1.0) -> Layer:
    """Draw weights from N(0, gain^2 / fan-in), set biases to zero, and return the layer."""
    nn.init.normal_(layer.weight, std=gain / layer.weight[0].numel() ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
