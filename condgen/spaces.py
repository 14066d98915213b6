"""What a sample is: its shape, its range and how to show it. Models see a ``Space``, never a data set."""

import colorsys
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from condgen.errors import CondgenError

ORIGIN = "condgen"
"""Keyword of the text in a file that says where its samples come from, see `condgen.origin`."""


class Space(Protocol):
    """The samples of a data set: images, points, sound."""

    shape: tuple[int, ...]
    suffix: str
    """Ending of the file that one sample is written to, such as ``.png``; empty where one sample alone is no file."""

    def config(self) -> dict[str, Any]:
        """Return what rebuilds this space: a plain dict with a ``_target_``."""
        ...

    def layout(self, conditions: int, count: int | None = None) -> tuple[int, int]:
        """Return how many samples of each of several conditions (or ``count``) `grid` shows well, and in how many columns."""
        ...

    def grid(self, samples: Tensor, columns: int) -> Tensor:
        """Arrange ``samples`` (N, *shape) row by row into one picture, uint8 (3, H, W)."""
        ...

    def export(self, samples: Tensor) -> tuple[str, Tensor]:
        """Return the name and the values under which an .npz keeps ``samples`` (N, *shape)."""
        ...

    def file(self, samples: Tensor, about: Mapping[str, str] | None = None) -> bytes:
        """Return the bytes of a file of ``samples`` (N, *shape), which ends in `suffix`; several stand one after another.

        Args:
            samples: one of them, or several.
            about: what the file says beside them where its format can, texts by keyword: `ORIGIN` says where they come from.
        """
        ...


@runtime_checkable
class Viewed(Protocol):
    """A space whose samples can be looked at and measured as images."""

    @property
    def view(self) -> "Images":
        """The space of these images."""
        ...

    def viewed(self, samples: Tensor) -> Tensor:
        """Return the images, float (N, *view.shape), of ``samples`` (N, *shape)."""
        ...


@runtime_checkable
class Readable(Protocol):
    """A space whose samples are read."""

    def texts(self, samples: Tensor) -> list[str]:
        """Return the text of each of ``samples`` (N, *shape)."""
        ...


class Rows(Protocol):
    """Samples (N, *shape) of which some can be had at a time: a tensor, or images that are decoded when they are asked for."""

    @property
    def shape(self) -> torch.Size:
        """(N, *shape)."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the samples are."""
        ...

    def __getitem__(self, rows: Any, /) -> Tensor:
        """Return the samples of ``rows``."""
        ...


class Images:
    """Images as float32 (B, C, H, W) in [-1, 1].

    Args:
        shape: (C, H, W), with C = 1 (grey) or 3 (colour).
        mean: mean of each channel over the training images, in [-1, 1].
        deviation: standard deviation of each channel, same units.
    """

    suffix = ".png"

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

    def fitted(self, mean: Sequence[float], deviation: Sequence[float]) -> "Images":
        """Return this space with the mean and deviation of its samples."""
        return Images(self.shape, mean, deviation)

    @property
    def view(self) -> "Images":
        """Itself."""
        return self

    def viewed(self, samples: Tensor) -> Tensor:
        """Return ``samples`` as they are."""
        return samples

    def layout(self, conditions: int, count: int | None = None) -> tuple[int, int]:
        """A row of eight (or ``count``) for each condition; a square where there is one, 8 x 8."""
        count = count or (8 if conditions > 1 else 64)
        return count, min(100, count if conditions > 1 else math.ceil(math.sqrt(count)))

    def grid(self, samples: Tensor, columns: int) -> Tensor:
        """Arrange ``samples`` (N, C, H, W) in [-1, 1] row by row, two pixels apart, into uint8 (3, height, width)."""
        images = self.pixels(samples).cpu()
        count, channels, height, width = images.shape
        rows = -(-count // columns)
        canvas = torch.full((channels, rows * (height + 2) + 2, columns * (width + 2) + 2), 255, dtype=torch.uint8)
        for i, image in enumerate(images):
            top, left = i // columns * (height + 2) + 2, i % columns * (width + 2) + 2
            canvas[:, top : top + height, left : left + width] = image
        return canvas.expand(3, -1, -1)

    def pixels(self, samples: Tensor) -> Tensor:
        """Return what is seen of ``samples`` (N, C, H, W) in [-1, 1]: uint8 (N, 1 or 3, H, W)."""
        return to_uint8(samples)

    def file(self, samples: Tensor, about: Mapping[str, str] | None = None) -> bytes:
        """Return the PNG of an image (1, C, H, W) in [-1, 1], or of several in a square, with the texts of ``about``."""
        from condgen.images import to_png  # which stands on spaces

        several = len(samples) > 1
        picture = self.grid(samples, math.ceil(math.sqrt(len(samples)))) if several else self.pixels(samples)[0]
        return to_png(picture, about)

    def export(self, samples: Tensor) -> tuple[str, Tensor]:
        """``images``, uint8 (N, H, W, C)."""
        return "images", to_uint8(samples).permute(0, 2, 3, 1)


class Points:
    """Points in the plane as float32 (B, 2) in [-1, 1]: to the right, up."""

    shape: tuple[int, ...] = (2,)
    suffix = ""
    side = 264
    """Height and width of a picture in pixels."""

    def __str__(self) -> str:
        return "2-dimensional"

    def config(self) -> dict[str, Any]:
        """Return what rebuilds this space: a plain dict with a ``_target_``."""
        return {"_target_": "condgen.spaces.Points"}

    def layout(self, conditions: int, count: int | None = None) -> tuple[int, int]:
        """A row, which is a colour, for each condition; 2,000 points together, or ``count`` for each."""
        count = count or max(20, 2000 // conditions)
        return count, count

    def grid(self, samples: Tensor, columns: int) -> Tensor:
        """Draw ``samples`` (N, 2) into one panel, uint8 (3, 264, 264), each ``columns`` of them in a colour of their own.

        Where points meet their colours mix, and the more of them the stronger: no order decides who hides whom.
        """
        rows = -(-len(samples) // columns)
        hues = torch.tensor([colorsys.hsv_to_rgb(row / rows, 1.0, 0.8) for row in range(rows)])
        colour = hues[torch.arange(len(samples)) // columns]  # (N, 3)
        place = (samples.float().cpu().clamp(-1, 1) * torch.tensor([1.0, -1.0]) + 1) / 2 * (self.side - 3)
        left, top = (place.round().long() + 1).unbind(1)  # a pixel off each edge
        pixel = torch.cat([(top + i) * self.side + left + j for i in (-1, 0, 1) for j in (-1, 0, 1)])
        count = torch.zeros(self.side**2).index_add_(0, pixel, torch.ones(len(pixel)))[:, None]
        ink = torch.zeros(self.side**2, 3).index_add_(0, pixel, colour.repeat(9, 1)) / count.clamp(min=1)
        strength = 1 - 0.6**count
        canvas = (255 * (1 - strength + strength * ink)).round().to(torch.uint8).T.reshape(3, self.side, self.side)
        canvas[:, [0, -1]], canvas[:, :, [0, -1]] = 200, 200  # a thin frame
        return canvas

    def export(self, samples: Tensor) -> tuple[str, Tensor]:
        """``points``, float32 (N, 2)."""
        return "points", samples.float()

    def file(self, samples: Tensor, about: Mapping[str, str] | None = None) -> bytes:
        """Refuse: a point alone is no file."""
        raise CondgenError("Points have no files of their own: write them together, as .npz or .png.")


class TagSets:
    """Sets of tags as float32 (B, T): 1 for a tag that is in the set and -1 for one that is not; generated, above 0 and below.

    Args:
        tags: the names of the T tags.
    """

    suffix = ".txt"
    cell = 8
    """Side in pixels of the square that stands for a tag."""

    def __init__(self, tags: Sequence[str]):
        if len(tags) < 2 or len(set(tags)) < len(tags):
            raise CondgenError("A space of sets of tags needs at least two tags, each named once.")
        self.tags = [str(tag) for tag in tags]
        self.shape: tuple[int, ...] = (len(self.tags),)

    def __str__(self) -> str:
        return f"{len(self.tags)} tags"

    def config(self) -> dict[str, Any]:
        """Return what rebuilds this space: a plain dict with a ``_target_``."""
        return {"_target_": "condgen.spaces.TagSets", "tags": self.tags}

    def layout(self, conditions: int, count: int | None = None) -> tuple[int, int]:
        """Four sets (or ``count``) for each condition in a row; 4 x 4 where there is one."""
        count = count or (4 if conditions > 1 else 16)
        return count, min(4, count)

    def grid(self, samples: Tensor, columns: int) -> Tensor:
        """Draw each of ``samples`` (N, T) as a strip with a dark square for each tag in the set, uint8 (3, H, W)."""
        there = torch.nn.functional.pad((samples.cpu() > 0).float(), (0, 1))  # a blank behind each strip
        there = torch.cat([there, there.new_zeros(-len(there) % columns, there.shape[1])])
        light = 235 - 185 * there.reshape(-1, columns * there.shape[1])
        light.view(len(light), columns, -1)[:, :, -1] = 255
        large = light.repeat_interleave(self.cell, 0).repeat_interleave(self.cell, 1)
        large[:: self.cell], large[:, :: self.cell] = 255, 255
        return large.to(torch.uint8).expand(3, -1, -1)

    def texts(self, samples: Tensor) -> list[str]:
        """Name the tags of each of ``samples`` (N, T), with spaces between them."""
        return [" ".join(tag for tag, there in zip(self.tags, row, strict=True) if there) for row in (samples > 0).tolist()]

    def export(self, samples: Tensor) -> tuple[str, Tensor]:
        """``tags``, uint8 (N, T)."""
        return "tags", (samples > 0).to(torch.uint8)

    def file(self, samples: Tensor, about: Mapping[str, str] | None = None) -> bytes:
        """Return sets (N, T) in UTF-8, a line of tags for each; they say no more."""
        return "".join(f"{tags}\n" for tags in self.texts(samples)).encode()


def pictures(space: Space) -> TypeGuard[Images]:
    """Whether samples are looked at: images that are no sound."""
    return isinstance(space, Images) and space.suffix == ".png"


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


def floating(x: Tensor) -> Tensor:
    """Return samples as models see them: uint8 images as floats in [-1, 1], floats as they are, int16 tokens as int64."""
    if x.dtype == torch.int16:
        return x.long()
    return x if x.is_floating_point() else to_float(x)
