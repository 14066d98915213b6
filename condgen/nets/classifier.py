"""A small classifier that trains in minutes: the whitened network of airbench with a residual around each block's second half.

K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498, sections 3.1 and 3.2.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.nets.layers import Standardize
from condgen.spaces import Images
from condgen.types import PositiveInt, Widths

PATCH = 2
"""Side of the patches that the first convolution whitens."""


class Classifier(nn.Sequential):
    """Fixed whitening of 2x2 patches, then one `Block` a width, a maximum over what is left, and a linear layer.

    Args:
        space: the images, for their channels, side, mean and deviation.
        classes: number of classes K.
        widths: channels of each block; each block halves the side.
    """

    def __init__(self, space: Images, classes: PositiveInt, widths: Widths = (64, 256, 256)):
        channels, side = space.shape[0], space.shape[1]
        whitening = nn.Conv2d(channels, 2 * channels * PATCH**2, PATCH)
        whitening.weight.requires_grad = False
        blocks = [Block(i, o) for i, o in pairwise([whitening.out_channels, *widths])]
        left = nn.MaxPool2d((side - PATCH + 1) >> len(widths))
        head = nn.Linear(widths[-1], classes)
        super().__init__(Standardize(space), whitening, nn.GELU(), *blocks, left, nn.Flatten(), head)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (B, C, H, W) in [-1, 1]: logits (B, K)."""
        for layer in self:
            x = layer(x)
        return x / 9  # airbench's temperature: it sets the rate of the last layer

    def maps(self, x: Tensor, blocks: int | None = None) -> list[Tensor]:
        """Return what follows the whitening, and each of the first ``blocks`` blocks, of images (B, C, H, W) in [-1, 1]."""
        return maps(list(self)[:-3], x, blocks)

    def spatial(self, x: Tensor) -> Tensor:
        """Return what the first block says of each place, (B, widths[0], h, w)."""
        return self.maps(x, blocks=1)[-1]

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Set the first convolution to the principal directions, and their negatives, of patches of images (N, C, H, W)."""
        standardize, whitening = list(self)[:2]
        assert isinstance(whitening, nn.Conv2d)
        x = standardize(x)
        patches = F.unfold(x, PATCH).transpose(1, 2).flatten(0, 1)  # (N * places, C * PATCH**2)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (directions / (variances + 5e-4).sqrt()).T.flip(0).view(-1, x.shape[1], PATCH, PATCH)
        whitening.weight.copy_(torch.cat([filters, -filters]))


class Block(nn.Module):
    """Convolve, halve the side, convolve again around a residual.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first, self.second = convolution(inputs, outputs), convolution(outputs, outputs)
        self.norm1, self.norm2 = norm(outputs), norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H // 2, W // 2)."""
        x = F.gelu(self.norm1(F.max_pool2d(self.first(x), 2)))
        return x + F.gelu(self.norm2(self.second(x)))


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution whose first filters start by passing their channel through."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[: min(inputs, outputs)])
    return layer


def maps(layers: Iterable[nn.Module], x: Tensor, blocks: int | None) -> list[Tensor]:
    """Return what of ``layers`` the nonlinearity and each of the first ``blocks`` `Block`s make of ``x``; None: all of them."""
    found = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, (nn.GELU, Block)):
            found.append(x)
        if blocks is not None and len(found) > blocks:
            break
    return found


def norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch norm that shifts but does not scale."""
    layer = nn.BatchNorm2d(channels, momentum=0.4)
    layer.weight.requires_grad = False
    return layer
