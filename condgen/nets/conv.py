"""Small convolutional networks for images whose sides halve ``depth`` times (28 = 7 x 2 x 2, 32 = 4 x 2 x 2 x 2).

After Radford et al. 2016 (DCGAN): strided convolutions, batch norm in the generator, widths that double as sides halve.
Upsampling is a 3x3 convolution followed by a pixel shuffle (Shi et al. 2016), the cheapest on a CPU.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.nets.layers import Discriminator, Head, MakeEmbedding, beside, embedding_of, input_layer, per_stage
from condgen.spaces import Images, Space
from condgen.types import Count, PositiveInt, Share


def sides(space: Space, depth: int, key: str = "depth") -> tuple[int, int, int]:
    """Return channels, height and width of images that can be halved ``depth`` times, a number that stands under ``key``.

    Raises:
        CondgenError: the samples are no images, or a side cannot be halved ``depth`` times.
    """
    if not isinstance(space, Images):
        raise CondgenError(f"A convolutional network needs images, not {type(space).__name__.lower()}: set model=gan_points.")
    channels, height, width = space.shape
    if height % 2**depth or width % 2**depth:
        raise CondgenError(
            f"A network of {key} {depth} halves each side {depth} times, which {height}x{width} images do not allow: "
            f"set {key} to a number whose power of two divides both sides, or data.image_size to a multiple of {2**depth}."
        )
    return channels, height, width


def depth_of(space: Space, depth: int | None, smallest: int) -> int:
    """Return ``depth`` or, where it is None, how often the sides halve (at least once) without falling below ``smallest``."""
    if depth is not None or not isinstance(space, Images):
        return 1 if depth is None else depth
    found = 1
    while all(side % 2 ** (found + 1) == 0 and side >> (found + 1) >= smallest for side in space.shape[1:]):
        found += 1
    return found


Residuals = Count | Sequence[Count]
"""Further convolutions at each size, the smallest images first; one number is of the smallest, and the others have none."""


def residuals(wanted: Residuals, depth: int) -> list[int]:
    """Return ``wanted`` for each of ``depth`` sizes; raises CondgenError where it is a list of another length."""
    return per_stage("residual", [wanted, *[0] * (depth - 1)] if isinstance(wanted, int) else wanted, depth)


class Residual(nn.Sequential):
    """Layers whose result is added to what they see (He et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        h: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + h


class Upsampler(nn.Module):
    """From a vector (B, inputs) to images (B, C, H, W), unbounded.

    Args:
        inputs: length of the vector.
        space: what an image is.
        width: channels of the last hidden layer; doubled at each halving.
        depth: number of doublings of the sides.
        norm: makes a norm for a number of channels; None for none.
        residual: further convolutions at each size, each added to what it sees, see `Residuals`.
    """

    def __init__(
        self,
        inputs: int,
        space: Space,
        width: PositiveInt,
        depth: PositiveInt,
        norm: Callable[[int], nn.Module] | None,
        residual: Residuals = 0,
    ):
        super().__init__()
        channels, height, width_px = sides(space, depth)
        widths = [width * 2**i for i in reversed(range(depth))]  # from the smallest image to the largest
        self.seed_shape = (widths[0], height >> depth, width_px >> depth)
        self.seed = nn.Linear(inputs, widths[0] * self.seed_shape[1] * self.seed_shape[2])
        layers: list[nn.Module] = []
        for inner, outer, further in zip(widths, [*widths[1:], channels], residuals(residual, depth), strict=True):
            for _ in range(further):
                dressed = [norm(inner)] if norm else []
                layers += [Residual(*dressed, nn.ReLU(), nn.Conv2d(inner, inner, 3, padding=1))]
            layers += [norm(inner)] if norm else []
            layers += [nn.ReLU(), nn.Conv2d(inner, 4 * outer, 3, padding=1), nn.PixelShuffle(2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, h: Tensor) -> Tensor:
        """Map vectors (B, inputs) to (B, C, H, W)."""
        images: Tensor = self.layers(self.seed(h).view(-1, *self.seed_shape))
        return images


class Downsampler(nn.Module):
    """From images (B, C, H, W) with a condition's embedding as constant extra channels to features (B, outputs).

    Args:
        condition: what can be asked for.
        space: what an image is.
        width: channels after the first halving; doubled at each further one.
        depth: number of halvings of the sides.
        embedding: how the condition enters; None keeps it out.
        standardize: begin with the data set's own standardization.
        dropout: probability, of the features.
        residual: further convolutions at each size, each added to what it sees, see `Residuals`.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        width: PositiveInt,
        depth: PositiveInt,
        embedding: MakeEmbedding | None,
        standardize: bool = False,
        dropout: Share = 0.0,
        residual: Residuals = 0,
    ):
        super().__init__()
        channels, height, width_px = sides(space, depth)
        self.input = input_layer(space, standardize)
        self.embed = embedding_of(condition, embedding)
        widths = [channels + self.embed.width, *(width * 2**i for i in range(depth))]
        layers: list[nn.Module] = []
        for (outer, inner), further in zip(pairwise(widths), reversed(residuals(residual, depth)), strict=True):
            layers += [nn.Conv2d(outer, inner, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            layers += [Residual(nn.Conv2d(inner, inner, 3, padding=1), nn.LeakyReLU(0.2)) for _ in range(further)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout))
        self.outputs = widths[-1] * (height >> depth) * (width_px >> depth)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map images and conditions to (B, outputs)."""
        h: Tensor = self.layers(beside(self.input(x), self.embed(condition)))
        return h


class DownsamplingOptions(TypedDict, total=False):
    """The optional ones among the arguments of `Downsampler`."""

    standardize: bool
    dropout: Share
    residual: Residuals


class Downsampling(DownsamplingOptions):
    """The arguments of `Downsampler` that a configuration gives."""

    width: PositiveInt
    depth: PositiveInt
    embedding: MakeEmbedding | None


class ConvGenerator(nn.Module):
    """Map noise (B, latent) and conditions to images (B, C, H, W) in (-1, 1).

    Args: as for `Upsampler`, and ``latent``, the length of the noise, and ``embedding``, how the condition enters.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition: Condition,
        space: Space,
        width: PositiveInt,
        depth: PositiveInt,
        embedding: MakeEmbedding | None,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        residual: Residuals = 0,
    ):
        super().__init__()
        self.embed = embedding_of(condition, embedding)
        self.up = Upsampler(latent + self.embed.width, space, width, depth, norm, residual)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Generate images (B, C, H, W)."""
        images: Tensor = self.up(torch.cat([z, self.embed(condition)], dim=1))
        return images.tanh()


class ConvDiscriminator(Discriminator):
    """Map images and conditions to logits (B,), positive for real.

    Args: as for `Downsampler`, and ``projection``: the condition enters (also) by an inner product with the features.
    """

    def __init__(self, condition: Condition, space: Space, projection: bool = False, **layers: Unpack[Downsampling]):
        super().__init__()
        self.down = Downsampler(condition, space, **layers)
        self.head = Head(self.down.outputs, condition, projection)

    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return what the head judges, (B, channels * height * width of the last layer)."""
        h: Tensor = self.down(x, condition)
        return h


class ConvEncoder(nn.Module):
    """Map images and conditions to mean and log-variance of q(z | x, c). Args: as for `Downsampler`, and ``latent``."""

    def __init__(self, latent: PositiveInt, condition: Condition, space: Space, **layers: Unpack[Downsampling]):
        super().__init__()
        self.down = Downsampler(condition, space, **layers)
        self.out = nn.Linear(self.down.outputs, 2 * latent)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, latent)."""
        mean, log_variance = self.out(self.down(x, condition)).chunk(2, dim=1)
        return mean, log_variance


class ConvDecoder(nn.Module):
    """Map codes (B, latent) and conditions to raw outputs (B, C * H * W). Args: as for `ConvGenerator`."""

    def __init__(
        self,
        latent: PositiveInt,
        condition: Condition,
        space: Space,
        width: PositiveInt,
        depth: PositiveInt,
        embedding: MakeEmbedding | None,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        residual: Residuals = 0,
        extra: int = 0,
    ):
        super().__init__()
        if extra:
            raise CondgenError(
                "A convolutional decoder cannot decode the label too: set model.generator.decode_condition=false."
            )
        self.embed = embedding_of(condition, embedding)
        self.up = Upsampler(latent + self.embed.width, space, width, depth, norm, residual)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return raw outputs (B, C * H * W)."""
        outputs: Tensor = self.up(torch.cat([z, self.embed(condition)], dim=1))
        return outputs.flatten(1)
