"""pix2pix: from one image to another (Isola et al. 2017, section 3.2 and appendix 6.1).

    G: a U-Net, whose decoder sees the encoder's images of the same size.  D: judges patches of the two images side by side.

Noise and a vector of the condition enter at the innermost layer, which sees the whole image, as the paper's does. There noise
is dropout, in sampling too; here it is z, so that a sample is a function of its seed. Either way it changes little: G learns
that the image says almost all.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.nets.conv import depth_of, sides
from condgen.nets.layers import Discriminator, Head, MakeEmbedding, beside, embedding_of
from condgen.nets.weights import Init, initialize, normalize_spectra
from condgen.spaces import Space
from condgen.types import PositiveInt, Share

LARGEST = 8
"""Times the first width that a layer has at most."""


def map_channels(condition: Condition) -> int:
    """Return the channels of the image that is the condition; raises CondgenError where there is none."""
    if condition.map_shape is None:
        raise CondgenError(
            "pix2pix turns one image into another: choose condition=edges, inpaint, colorize or class_and_edges, "
            "or a model that starts from noise, such as model=cgan_conv."
        )
    return condition.map_shape[0]


class UNetGenerator(nn.Module):
    """Map noise (B, latent) and conditions that are images to images (B, C, H, W) in (-1, 1).

    Args:
        latent: length of the noise.
        condition: what can be asked for, an image (and more).
        space: what an image is.
        width: channels after the first halving; doubled at each further one, up to eight times.
        depth: number of halvings of the sides; None: to 4 pixels, or an odd number (7 for 28 pixels).
        embedding: how a condition that is also a vector enters beside the noise; None keeps that out.
        norm: makes a norm for a number of channels; None for none.
        dropout: probability, in training, of all layers of the decoder but the last.
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
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        dropout: Share = 0.5,
        init: Init = "normal",
    ):
        super().__init__()
        depth = depth_of(space, depth, smallest=4)
        channels, height, width_px = sides(space, depth)
        self.condition = condition
        self.embed = embedding_of(condition, embedding, maps=True)
        widths = [width * min(2**i, LARGEST) for i in range(depth)]  # from the largest image to the smallest

        def dressed(layer: nn.Module, channels: int, *more: nn.Module) -> nn.Sequential:
            return nn.Sequential(layer, *([norm(channels)] if norm else []), *more)

        plain = norm is None  # a bias before a norm would be taken away again
        self.first = nn.Conv2d(map_channels(condition), width, 4, stride=2, padding=1)
        downs = [nn.Conv2d(o, i, 4, stride=2, padding=1, bias=plain) for o, i in pairwise(widths)]
        self.downs = nn.ModuleList(dressed(down, inner) for down, inner in zip(downs, widths[1:], strict=True))
        self.inner = (widths[-1], height >> depth, width_px >> depth)
        size = torch.Size(self.inner).numel()
        self.code = nn.Linear(size, widths[-1])
        self.seed = nn.Linear(widths[-1] + latent + self.embed.width, size, bias=plain)
        self.start = dressed(nn.Unflatten(1, self.inner), widths[-1], nn.Dropout(dropout))
        ups = [nn.ConvTranspose2d(2 * i, o, 4, stride=2, padding=1, bias=plain) for o, i in pairwise(widths)]
        hidden = [dressed(up, outer, nn.Dropout(dropout)) for up, outer in zip(ups, widths, strict=False)]
        self.ups = nn.ModuleList(reversed(hidden))
        self.last = nn.ConvTranspose2d(2 * width, channels, 4, stride=2, padding=1)
        initialize(self, init)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Generate images (B, C, H, W)."""
        seen: list[Tensor] = [self.first(self.condition.map(condition).to(z.dtype))]
        for down in self.downs:
            seen.append(down(F.leaky_relu(seen[-1], 0.2)))
        code = self.code(F.leaky_relu(seen[-1], 0.2).flatten(1))
        said = [F.relu(code), z.to(code.dtype), self.embed(condition).to(code.dtype)]
        x: Tensor = self.start(self.seed(torch.cat(said, dim=1)))
        for up in [*self.ups, self.last]:
            x = up(F.relu(torch.cat([x, seen.pop()], dim=1)))
        return x.tanh()


class PatchDiscriminator(Discriminator):
    """Judge each patch of images beside the images that they were made of: logits (B, P) of P overlapping patches.

    After two halvings a patch has 22 pixels a side.

    Args:
        condition: what can be asked for, an image (and more).
        space: what an image is.
        width: channels after the first halving; doubled at each further layer, up to eight times.
        depth: number of halvings of the sides; one layer more follows that keeps them.
        embedding: how a condition that is also a vector enters, as constant extra channels; None keeps that out.
        projection: that vector enters by an inner product with each patch's features.
        norm: makes a norm for a number of channels, of all layers but the first; None for none.
        spectral_norm: see `normalize_spectra`.
        init: how weights start, see `initialize`.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        width: PositiveInt,
        depth: PositiveInt = 2,
        embedding: MakeEmbedding | None = None,
        projection: bool = False,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        spectral_norm: bool = False,
        init: Init = "normal",
    ):
        super().__init__()
        channels, _, _ = sides(space, depth)
        self.condition = condition
        self.embed = embedding_of(condition, embedding, maps=True)
        widths = [width * min(2**i, LARGEST) for i in range(depth + 1)]
        entering = channels + map_channels(condition) + self.embed.width
        layers: list[nn.Module] = [nn.Conv2d(entering, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i, (outer, inner) in enumerate(pairwise(widths), start=1):
            layers += [nn.Conv2d(outer, inner, 4, stride=2 if i < depth else 1, padding=1, bias=norm is None)]
            layers += [norm(inner)] if norm else []
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.head = Head(widths[-1], condition, projection)
        initialize(self, init)
        if spectral_norm:
            normalize_spectra(self)

    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return what the head judges: the features of each patch, (B, P, head.features)."""
        both = torch.cat([x, self.condition.map(condition).to(x.dtype)], dim=1)
        h: Tensor = self.layers(beside(both, self.embed(condition).to(x.dtype)))
        return h.flatten(2).mT

    def logits_and_features(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Judge images (B, C, H, W): logits of their patches (B, P), and the mean of the patches' features, (B, F)."""
        logits, h = super().logits_and_features(x, condition)
        return logits, h.mean(1)
