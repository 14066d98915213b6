"""Residual networks for conditional GANs: SNGAN, cGAN with projection discriminator, and BigGAN, by their arguments.

- SNGAN (Miyato et al. 2018, table 4): batch norm in G, spectral norm in D.
- cGAN with projection (Miyato & Koyama 2018, section 4): ``norm_embedding`` one-hot in G, ``projection`` in D.
- BigGAN (Brock et al. 2019, appendix B): ``split``, a learned ``norm_embedding``, ``spectral_norm`` in G too, ``attention``.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.nets.attention import SelfAttention
from condgen.nets.conv import depth_of, sides
from condgen.nets.layers import Discriminator, Head, MakeEmbedding, beside, embedding_of, per_stage
from condgen.nets.norms import ConditionalBatchNorm
from condgen.nets.weights import Init, initialize, normalize_spectra
from condgen.spaces import Space
from condgen.types import PositiveInt, Widths

LAYERS = "for a generator of the seed and each block, for a discriminator of each block"
"""Whose widths are given, in words."""


class ResNetGenerator(nn.Module):
    """Map noise (B, latent) and conditions to images (B, C, H, W) in (-1, 1): a linear seed, then an `UpBlock` a doubling.

    Args:
        latent: length of the noise.
        condition: what can be asked for.
        space: what an image is.
        width: channels of seed and blocks; or a list, of the seed and of each block.
        depth: number of blocks; None: until the seed's sides are 4, or odd (7 for 28 pixels).
        embedding: how the condition enters beside the noise; None keeps it out.
        norm_embedding: how the condition sets gain and bias of the blocks' batch norms; None keeps it out.
        split: cut the noise into depth + 1 chunks, one for the seed and one for the norms of each block.
        attention: self-attention after the block whose images are the largest with sides up to this; None for none.
        spectral_norm: see `normalize_spectra`.
        init: how weights start, see `initialize`.
    """

    def __init__(
        self,
        latent: PositiveInt,
        condition: Condition,
        space: Space,
        width: PositiveInt | Widths,
        depth: PositiveInt | None = None,
        embedding: MakeEmbedding | None = None,
        norm_embedding: MakeEmbedding | None = None,
        split: bool = False,
        attention: PositiveInt | None = None,
        spectral_norm: bool = False,
        init: Init = "xavier",
    ):
        super().__init__()
        depth = depth_of(space, depth, smallest=4)
        channels, *size = sides(space, depth)
        widths = per_stage("width", width, depth + 1, LAYERS)
        self.chunks = depth + 1 if split else 1
        noises = [len(chunk) for chunk in torch.arange(latent).tensor_split(self.chunks)]  # 80 in 3: 27, 27, 26
        self.embed, self.norm_embed = embedding_of(condition, embedding), embedding_of(condition, norm_embedding)
        self.seed_shape = (widths[0], size[0] >> depth, size[1] >> depth)
        self.seed = nn.Linear(noises[0] + self.embed.width, torch.Size(self.seed_shape).numel())
        vectors = [self.norm_embed.width + noise for noise in noises[1:] or [0] * depth]
        self.blocks = nn.ModuleList(UpBlock(i, o, v) for (i, o), v in zip(pairwise(widths), vectors, strict=True))
        self.attend = attentions(widths[1:], [max(size) >> depth - i for i in range(1, depth + 1)], attention)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.out = nn.Conv2d(widths[-1], channels, 3, padding=1)
        prepare(self, init, spectral_norm)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Generate images (B, C, H, W)."""
        first, *chunks = z.tensor_split(self.chunks, dim=1)
        embedded = self.norm_embed(condition)
        vectors = [torch.cat([embedded, chunk], dim=1) for chunk in chunks] or [embedded] * len(self.blocks)
        x = self.seed(torch.cat([first, self.embed(condition)], dim=1)).view(-1, *self.seed_shape)
        for block, attend, v in zip(self.blocks, self.attend, vectors, strict=True):
            x = attend(block(x, v))
        images: Tensor = self.out(F.relu(self.norm(x))).tanh()
        return images


class ResNetDiscriminator(Discriminator):
    """Map images and conditions to logits (B,), positive for real: `DownBlock`s, a sum over all places, and a `Head`.

    Args:
        condition: what can be asked for.
        space: what an image is.
        width: channels of the blocks; or a list, of each block.
        depth: number of blocks.
        halvings: how many of them, the first ones, halve the sides; None: until these are 8 (7 for 28 pixels).
        embedding: how the condition enters as constant extra channels of the image; None keeps it out.
        projection: the condition enters by an inner product with the features.
        attention, spectral_norm, init: as for `ResNetGenerator`.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        width: PositiveInt | Widths,
        depth: PositiveInt = 4,
        halvings: PositiveInt | None = None,
        embedding: MakeEmbedding | None = None,
        projection: bool = True,
        attention: PositiveInt | None = None,
        spectral_norm: bool = True,
        init: Init = "xavier",
    ):
        super().__init__()
        halvings = depth_of(space, halvings, smallest=7)
        channels, *size = sides(space, halvings, "halvings")
        if depth < halvings:
            raise CondgenError(
                f"model.discriminator.depth={depth} blocks cannot halve the sides {halvings} times: set depth to at least "
                f"{halvings}, or model.discriminator.halvings to fewer."
            )
        widths = per_stage("width", width, depth, LAYERS)
        self.embed = embedding_of(condition, embedding)
        pairs = pairwise([channels + self.embed.width, *widths])
        self.blocks = nn.ModuleList(DownBlock(i, o, n < halvings, n == 0) for n, (i, o) in enumerate(pairs))
        self.attend = attentions(widths, [max(size) >> min(n, halvings) for n in range(1, depth + 1)], attention)
        self.head = Head(widths[-1], condition, projection)
        prepare(self, init, spectral_norm)

    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return what the head judges, (B, channels of the last block)."""
        x = beside(x, self.embed(condition))
        for block, attend in zip(self.blocks, self.attend, strict=True):
            x = attend(block(x))
        return F.relu(x).sum(dim=(2, 3))


class UpBlock(nn.Module):
    """norm, ReLU, double the sides, convolve, norm, ReLU, convolve; beside a 1x1 convolution.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        vector: length of the vector that sets the norms.
    """

    def __init__(self, inputs: int, outputs: int, vector: int):
        super().__init__()
        self.norm1, self.norm2 = ConditionalBatchNorm(inputs, vector), ConditionalBatchNorm(outputs, vector)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Map (B, inputs, H, W) and (B, vector) to (B, outputs, 2 H, 2 W)."""
        h = self.first(double(F.relu(self.norm1(x, v))))
        h = self.second(F.relu(self.norm2(h, v)))
        # Published: first doubled, then convolved. For a 1x1 convolution that is the same, at four times the cost.
        y: Tensor = h + double(self.shortcut(x))
        return y


class DownBlock(nn.Module):
    """ReLU, convolve, ReLU, convolve, halve the sides by means; beside a 1x1 convolution, or nothing where shapes are equal.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        halve: halve the sides.
        first: it sees the image itself, so it does not begin with a ReLU.
    """

    def __init__(self, inputs: int, outputs: int, halve: bool, first: bool):
        super().__init__()
        self.halve, self.bare = halve, first
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if halve or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W), or to half its sides."""
        h = self.second(F.relu(self.first(x if self.bare else F.relu(x))))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)  # means and a 1x1 convolution commute too
        y: Tensor = h + self.shortcut(x)
        return y


def double(x: Tensor) -> Tensor:
    """Repeat each pixel of (B, C, H, W): (B, C, 2 H, 2 W)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def attentions(widths: Sequence[int], sizes: Sequence[int], attention: int | None) -> nn.ModuleList:
    """Return what follows each block: nothing, or self-attention after the first of those with the largest side that fits.

    Args:
        widths: channels after each block.
        sizes: side of the images after each block.
        attention: the largest side at which attention may stand; None for no attention.

    Raises:
        CondgenError: all sides are larger.
    """
    place = None
    if attention is not None:
        place = max(range(len(sizes)), key=lambda i: (sizes[i] <= attention, sizes[i]))  # the first of the largest that fit
        if sizes[place] > attention:
            raise CondgenError(
                f"attention={attention}, of model.generator.network or model.discriminator, is below the sides of the images "
                f"after its blocks, {', '.join(map(str, sizes))}: give one of these, or null."
            )
    return nn.ModuleList(SelfAttention(width) if i == place else nn.Identity() for i, width in enumerate(widths))


def prepare(network: nn.Module, init: Init, spectral_norm: bool) -> None:
    """Initialize the weights of ``network`` and, where asked for, hold their spectral norms."""
    initialize(network, init)
    if init == "xavier":  # twice the variance in the residual branches, as in Miyato's code
        with torch.no_grad():
            for block in network.modules():
                if isinstance(block, (UpBlock, DownBlock)):
                    block.first.weight.mul_(2**0.5)
                    block.second.weight.mul_(2**0.5)
    if spectral_norm:
        normalize_spectra(network)
