"""DCGAN: strided convolutions without pooling, batch norm, widths that double as sides halve.

Radford et al. 2016, sections 3 and 4 and figure 1. Kernels are 4x4 as in all later code (the paper's are 5x5, which an even
stride lays over the image unevenly).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.nets.conv import depth_of, sides
from condgen.nets.layers import Discriminator, Head, MakeEmbedding, beside, embedding_of
from condgen.nets.norms import ConditionalBatchNorm
from condgen.nets.weights import Init, initialize, normalize_spectra
from condgen.spaces import Space
from condgen.types import PositiveInt


class DCGANGenerator(nn.Module):
    """Map noise (B, latent) and conditions to images (B, C, H, W) in (-1, 1) by transposed convolutions.

    Args:
        latent: length of the noise.
        condition: what can be asked for.
        space: what an image is.
        width: channels of the last hidden layer; doubled at each halving of the sides.
        depth: number of doublings of the sides; None: from 4 pixels, or an odd number (7 for 28 pixels).
        embedding: how the condition enters beside the noise; None keeps it out.
        norm_embedding: how the condition sets gain and bias of the batch norms; None keeps it out.
        spectral_norm: see `normalize_spectra`.
        init: how weights start, see `initialize`.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition: Condition,
        space: Space,
        width: PositiveInt,
        depth: PositiveInt | None = None,
        embedding: MakeEmbedding | None = None,
        norm_embedding: MakeEmbedding | None = None,
        spectral_norm: bool = False,
        init: Init = "normal",
    ):
        super().__init__()
        depth = depth_of(space, depth, smallest=4)
        channels, height, width_px = sides(space, depth)
        widths = [width * 2**i for i in reversed(range(depth))]  # from the smallest image to the largest
        self.embed, self.norm_embed = embedding_of(condition, embedding), embedding_of(condition, norm_embedding)
        self.seed_shape = (widths[0], height >> depth, width_px >> depth)
        # A bias before a norm would be taken away again.
        self.seed = nn.Linear(latent + self.embed.width, torch.Size(self.seed_shape).numel(), bias=False)
        self.norms = nn.ModuleList(ConditionalBatchNorm(inner, self.norm_embed.width) for inner in widths)
        hidden = [nn.ConvTranspose2d(i, o, 4, stride=2, padding=1, bias=False) for i, o in pairwise(widths)]
        self.ups = nn.ModuleList([*hidden, nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)])
        initialize(self, init)
        if spectral_norm:
            normalize_spectra(self)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Generate images (B, C, H, W)."""
        embedded = self.norm_embed(condition)
        x: Tensor = self.seed(torch.cat([z, self.embed(condition)], dim=1)).view(-1, *self.seed_shape)
        for norm, up in zip(self.norms, self.ups, strict=True):
            x = up(F.relu(norm(x, embedded)))
        return x.tanh()


class DCGANDiscriminator(Discriminator):
    """Map images and conditions to logits (B,), positive for real, by strided convolutions.

    Args:
        condition: what can be asked for.
        space: what an image is.
        width: channels after the first halving; doubled at each further one.
        depth: number of halvings of the sides; None: to 4 pixels, or an odd number (7 for 28 pixels).
        embedding: how the condition enters as constant extra channels of the image; None keeps it out.
        projection: the condition enters by an inner product with the features.
        norm: batch norm in all layers but the first.
        spectral_norm: see `normalize_spectra`.
        init: how weights start, see `initialize`.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        width: PositiveInt,
        depth: PositiveInt | None = None,
        embedding: MakeEmbedding | None = None,
        projection: bool = False,
        norm: bool = True,
        spectral_norm: bool = False,
        init: Init = "normal",
    ):
        super().__init__()
        depth = depth_of(space, depth, smallest=4)
        channels, height, width_px = sides(space, depth)
        self.embed = embedding_of(condition, embedding)
        widths = [width * 2**i for i in range(depth)]
        layers: list[nn.Module] = [nn.Conv2d(channels + self.embed.width, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for outer, inner in pairwise(widths):
            layers += [nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=not norm)]
            layers += [nn.BatchNorm2d(inner)] if norm else []
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = Head(widths[-1] * (height >> depth) * (width_px >> depth), condition, projection)
        initialize(self, init)
        if spectral_norm:
            normalize_spectra(self)

    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return what the head judges, (B, channels * height * width of the last layer)."""
        h: Tensor = self.layers(beside(x, self.embed(condition)))
        return h
