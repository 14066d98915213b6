"""Differentiable augmentation of what D sees (DiffAugment, Zhao et al. 2020; ADA, Karras et al. 2020).

    D judges T(x) and T(G(z)), and G learns through T (Zhao et al., figure 4)

Augmenting the real samples alone would teach G to draw augmented ones. Images are (B, C, H, W) in [-1, 1] with C = 1 or 3. Each
operation takes its random numbers as an argument, ``u`` (B, draws) uniform in [0, 1), one row for each sample.
"""

from collections.abc import Callable
from typing import TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.spaces import window
from condgen.types import PositiveInt, Share

Operation = Callable[[Tensor, Tensor, float], Tensor]


def flip(x: Tensor, u: Tensor, strength: float) -> Tensor:
    """Mirror left and right with probability ``strength``."""
    return torch.where(column(u < strength), x.flip(-1), x)


def brightness(x: Tensor, u: Tensor, strength: float) -> Tensor:
    """Add a number in [-strength, strength]."""
    return x + column((2 * u - 1) * strength).to(x.dtype)


def saturation(x: Tensor, u: Tensor, strength: float) -> Tensor:
    """Multiply the distance from grey by a number in [1 - strength, 1 + strength]; grey images stay as they are."""
    grey = x.mean(1, keepdim=True)
    return x + (x - grey) * column((2 * u - 1) * strength).to(x.dtype)


def contrast(x: Tensor, u: Tensor, strength: float) -> Tensor:
    """Multiply the distance from the image's mean by a number in [1 - strength, 1 + strength]."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return x + (x - mean) * column((2 * u - 1) * strength).to(x.dtype)


def translation(x: Tensor, u: Tensor, strength: float) -> Tensor:
    """Shift by whole pixels, up to ``strength`` of a side either way; what comes in from outside is 0, as published."""
    height, width = x.shape[-2:]
    down, right = round(height * strength), round(width * strength)
    padded = F.pad(x, (right, right, down, down))
    top = (u[:, 0] * (2 * down + 1)).long()
    left = (u[:, 1] * (2 * right + 1)).long()
    return window(padded, top, left, height, width)


def cutout(x: Tensor, u: Tensor, strength: float) -> Tensor:
    """Set a rectangle to 0 whose sides are ``strength`` of the image's; its centre lies anywhere in the image."""
    inside = []  # of the rectangle, along (H) and across (W)
    for axis, side in enumerate(x.shape[2:]):
        size = round(side * strength)
        first = (u[:, axis] * (side + 1 - size % 2)).long() - size // 2
        place = torch.arange(side, device=x.device)
        inside.append((place >= first[:, None]) & (place < first[:, None] + size))  # (B, side)
    return x.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)


def column(u: Tensor) -> Tensor:
    """Give numbers (B, 1) the dimensions of images (B, 1, 1, 1)."""
    return u[:, :, None, None]


class DiffAugment(nn.Module):
    """The published operations, one after the other, on every sample. A strength of 0 leaves its operation out.

    Args:
        flip: probability of mirroring; not among the published ones.
        brightness: largest change, where black is -1 and white 1.
        saturation: largest relative change of the distance from grey.
        contrast: largest relative change of the distance from the image's mean.
        translation: largest shift, as a share of a side.
        cutout: side of the rectangle that is cut out, as a share of the image's.
    """

    def __init__(
        self,
        flip: Share = 0.0,
        brightness: Share = 0.5,
        saturation: Share = 1.0,
        contrast: Share = 0.5,
        translation: Share = 0.125,
        cutout: Share = 0.5,
    ):
        super().__init__()
        strengths = [flip, brightness, saturation, contrast, translation, cutout]
        chosen = zip(OPERATIONS, strengths, strict=True)
        self.operations = [(operation, draws, strength) for (operation, draws), strength in chosen if strength]
        self.draws = sum(draws for _, draws, _ in self.operations)  # uniform numbers for each sample

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Augment images (B, C, H, W) by ``u`` (B, draws)."""
        for operation, draws, strength in self.operations:
            x, u = operation(x, u[:, :draws], strength), u[:, draws:]
        return x

    def adapt(self, margin: Tensor, turn: int, mean: Callable[[Tensor], Tensor], size: int) -> dict[str, Tensor]:
        """Learn how D's last turn went; return what is to be recorded. `ADA` does, this one never changes.

        Args:
            margin: by how much D took real samples for real (B,), without gradient.
            turn: number of D's turn.
            mean: the mean over all processes, of a tensor without gradient.
            size: real samples in the turn, all processes together.
        """
        return {}


OPERATIONS: list[tuple[Operation, int]] = [
    (flip, 1),
    (brightness, 1),
    (saturation, 1),
    (contrast, 1),
    (translation, 2),
    (cutout, 2),
]
"""In their order, with the random numbers that each needs."""


class Strengths(TypedDict, total=False):
    """The arguments of `DiffAugment`."""

    flip: Share
    brightness: Share
    saturation: Share
    contrast: Share
    translation: Share
    cutout: Share


class ADA(DiffAugment):
    """Each operation with a probability p, which follows how far D overfits (Karras et al. 2020, section 3, with the
    operations above instead of its 18).

    The sign of overfitting is r = E sign(D(T(x))) over real samples (equation 1): 1 where D knows them all. Every ``interval``
    turns p moves one step up where r is above ``target``, else down; so many images take it from 0 to 1.

    Args:
        target: the r to hold.
        images: real samples that take p from 0 to 1.
        interval: turns of D over which r is measured.
        **strengths: as for `DiffAugment`.
    """

    probability: Tensor
    signs: Tensor

    def __init__(
        self,
        target: float = 0.6,
        images: PositiveInt = 500_000,
        interval: PositiveInt = 4,
        **strengths: Unpack[Strengths],
    ):
        super().__init__(**strengths)
        self.target, self.images, self.interval = target, images, interval
        self.draws += len(self.operations)  # whether each is applied
        for name in ("probability", "signs"):  # buffers, so that a resumed run goes on with them
            self.register_buffer(name, torch.zeros(()))

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Augment images (B, C, H, W) by ``u`` (B, draws)."""
        for operation, draws, strength in self.operations:
            applied, own, u = u[:, :1] < self.probability, u[:, 1 : 1 + draws], u[:, 1 + draws :]
            x = torch.where(column(applied), operation(x, own, strength), x)
        return x

    def adapt(self, margin: Tensor, turn: int, mean: Callable[[Tensor], Tensor], size: int) -> dict[str, Tensor]:
        """Move p."""
        self.signs += mean(margin.sign().mean()) / self.interval
        if (turn + 1) % self.interval == 0:
            step = size * self.interval / self.images
            self.probability.add_(step * (self.signs - self.target).sign()).clamp_(0, 1)
            self.signs.zero_()
        return {"augment_probability": self.probability.clone()}
