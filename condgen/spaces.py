"""What a sample is: its shape, its range and how to show it. Models see a ``Space``, never a data set."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from condgen.errors import CondgenError


class Space(Protocol):
    """The samples of a data set. Images are the first; points, audio and text are others."""

    shape: tuple[int, ...]

    def config(self) -> dict[str, Any]:
        """Return what rebuilds this space: a plain dict with a ``_target_``."""
        ...

    def grid(self, samples: Tensor, columns: int) -> Tensor:
        """Arrange ``samples`` (N, *shape) row by row into one picture, uint8 (3, H, W)."""
        ...


class Images:
    """Images as float32 (B, C, H, W) in [-1, 1].

    Args:
        shape: (C, H, W), with C = 1 (grey) or 3 (colour).
        mean: mean of each channel over the training images, in [-1, 1].
        deviation: standard deviation of each channel, same units.
    """

    def __init__(self, shape: Sequence[int], mean: Sequence[float] | None = None, deviation: Sequence[float] | None = None):
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise CondgenError(
                f"An image space needs a shape (channels, height, width) with 1 or 3 channels, not {tuple(shape)}."
            )
        self.shape: tuple[int, ...] = tuple(int(n) for n in shape)
        self.mean = tuple(mean) if mean is not None else (0.0,) * self.shape[0]
        self.deviation = tuple(deviation) if deviation is not None else (1.0,) * self.shape[0]

    def __str__(self) -> str:
        return "x".join(str(n) for n in self.shape)

    def config(self) -> dict[str, Any]:
        """Return what rebuilds this space: a plain dict with a ``_target_``."""
        return {
            "_target_": "condgen.spaces.Images",
            "shape": list(self.shape),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
        }

    def grid(self, samples: Tensor, columns: int) -> Tensor:
        """Arrange ``samples`` (N, C, H, W) in [-1, 1] row by row, two pixels apart, into uint8 (3, height, width)."""
        images = to_uint8(samples).cpu()
        count, channels, height, width = images.shape
        rows = -(-count // columns)
        canvas = torch.full((channels, rows * (height + 2) + 2, columns * (width + 2) + 2), 255, dtype=torch.uint8)
        for i, image in enumerate(images):
            top, left = i // columns * (height + 2) + 2, i % columns * (width + 2) + 2
            canvas[:, top : top + height, left : left + width] = image
        return canvas.expand(3, -1, -1)


def window(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Cut (B, C, height, width) out of ``images`` (B, C, H, W), of each at its own place ``top`` and ``left``, int64 (B,)."""
    batch, channels = images.shape[:2]
    rows = top[:, None] + torch.arange(height, device=images.device)  # (B, height)
    columns = left[:, None] + torch.arange(width, device=images.device)  # (B, width)
    places = rows[:, :, None] * images.shape[-1] + columns[:, None, :]  # in the flat image
    places = places.view(batch, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, places).view(batch, channels, height, width)


def to_uint8(x: Tensor) -> Tensor:
    """Round float images in [-1, 1] to uint8 0..255. Truncating would move 63 of the 256 levels by one."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(x: Tensor) -> Tensor:
    """Map uint8 0..255 to float32 [-1, 1]; ``to_uint8(to_float(x)) == x``."""
    return x.to(torch.float32).div_(127.5).sub_(1)
