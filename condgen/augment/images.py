"""Augmentations of whole batches. Their randomness is an argument: one row of uniform numbers for each sample.

So a batch is augmented the same way by one process or several, and before or after a restart.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from condgen.augment.libraries import PerImage
from condgen.spaces import window
from condgen.types import Count, Share

BACKGROUND = -1.0


class Augmentation(Protocol):
    """Changes images (B, C, H, W) in [-1, 1] by ``u`` (B, draws), uniform in [0, 1); their shape stays."""

    draws: int
    """How many uniform numbers a sample needs."""

    def __call__(self, x: Tensor, u: Tensor) -> Tensor: ...


class Compose:
    """Several augmentations, one after the other, those of other libraries among them."""

    def __init__(self, *augmentations: Any):
        self.augmentations = [own(augmentation) for augmentation in augmentations]
        self.draws = sum(augmentation.draws for augmentation in self.augmentations)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        for augmentation, part in zip(
            self.augmentations, torch.split(u, [a.draws for a in self.augmentations], 1), strict=True
        ):
            x = augmentation(x, part)
        return x


class Flip:
    """Mirror left and right.

    Args:
        p: probability.
    """

    draws = 1

    def __init__(self, p: Share = 0.5):
        self.p = p

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.where((u < self.p)[:, :, None, None], x.flip(-1), x)


class Crop:
    """Pad all sides, then cut the old size at a random place.

    Args:
        padding: pixels added to each side, smaller than the image.
        reflect: pad with the mirrored image instead of with -1 (black).
    """

    draws = 2

    def __init__(self, padding: Count, reflect: bool = False):
        self.padding = padding
        self.reflect = reflect

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        sides = (self.padding,) * 4
        padded = F.pad(x, sides, "reflect") if self.reflect else F.pad(x, sides, value=BACKGROUND)
        top, left = (u * (2 * self.padding + 1)).long().unbind(1)
        return window(padded, top, left, *x.shape[-2:])


class Rotate:
    """Turn around the centre, bilinear; what comes in from outside is -1 (black).

    Args:
        degrees: the angle is uniform in [-degrees, degrees].
    """

    draws = 1

    def __init__(self, degrees: Annotated[float, Ge(0), Le(180)]):
        self.radians = math.radians(degrees)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        angle = (2 * u[:, 0] - 1) * self.radians
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        # In the grid's units a side has length 2 whatever its pixels, hence the ratios.
        inverse = torch.stack([cos, -sin * (height / width), zero, sin * (width / height), cos, zero], 1).view(-1, 2, 3)
        grid = F.affine_grid(inverse, list(x.shape), align_corners=False)
        return F.grid_sample(x - BACKGROUND, grid, align_corners=False) + BACKGROUND


def compose(augment: Augmentation | Callable[..., Any] | Sequence[Any] | None) -> Augmentation | None:
    """Make one augmentation of none, one or a list; what is not condgen's own is applied to each image alone."""
    if augment is None:
        return None
    if isinstance(augment, Sequence) and not isinstance(augment, str):
        return Compose(*augment)
    return own(augment)


def own(augment: Any) -> Augmentation:
    """Return an augmentation as it is, and a transform of another library as one; see `PerImage`."""
    made: Augmentation = augment if hasattr(augment, "draws") else PerImage(augment)
    return made


def one_by_one(augment: Augmentation | None) -> bool:
    """Whether an augmentation, or one of several, is another library's, which takes long."""
    return isinstance(augment, PerImage) or (isinstance(augment, Compose) and any(map(one_by_one, augment.augmentations)))
