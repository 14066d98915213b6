"""Style images: patterns that are drawn, so that style transfer has something to learn without any file, or a user's files."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from condgen.errors import CondgenError
from condgen.images import Picture, decode
from condgen.randomness import generator
from condgen.spaces import to_float

Plane = Callable[[Tensor, Tensor], Tensor]
"""From coordinates y and x (H, W), in units of about a period, to how much of the second colour there is, in [0, 1]."""


def mosaic(y: Tensor, x: Tensor) -> Tensor:
    """Fields around scattered points, each in its own shade (Voronoi)."""
    count = 2 * max(4, int(y.max()))
    points = torch.rand(count, 2, generator=generator("mosaic")) * torch.tensor([float(y.max()), float(x.max())])
    nearest = torch.cdist(torch.stack([y.flatten(), x.flatten()], dim=1), points).argmin(1)
    return torch.linspace(0, 1, count)[nearest].view_as(y)


PATTERNS: dict[str, tuple[Plane, tuple[float, float, float], tuple[float, float, float]]] = {
    "stripes": (lambda y, x: 0.5 + 0.5 * torch.sin(math.pi * (x + y)), (0.98, 0.85, 0.15), (0.6, 0.3, 0.05)),
    "checks": (lambda y, x: 0.5 + 0.5 * torch.sin(math.pi * y) * torch.sin(math.pi * x), (0.9, 0.15, 0.15), (0.98, 0.95, 0.9)),
    "dots": (lambda y, x: (torch.sin(math.pi * y) * torch.sin(math.pi * x)) ** 2, (0.1, 0.55, 0.45), (1.0, 0.8, 0.85)),
    "waves": (
        lambda y, x: 0.5 + 0.5 * torch.sin(2 * math.pi * (y + 0.35 * torch.sin(2.5 * x))),
        (0.05, 0.2, 0.5),
        (0.8, 0.95, 1),
    ),
    "mosaic": (mosaic, (0.55, 0.2, 0.6), (0.95, 0.75, 0.3)),
}
"""Each drawn pattern, and its two colours as red, green and blue in [0, 1].

Edges are soft: hard ones make Gram matrices of up to sixty times the size, and a network that also has to keep the photo, at a
cost that grows with them, then draws nothing of the style.
"""


def style_image(style: str, channels: int, side: int) -> Tensor:
    """Return a style as an image, float32 (channels, side, side) in [-1, 1].

    Args:
        style: name of a pattern, or an image file.
        channels: 1 or 3.
        side: in pixels.

    Raises:
        CondgenError: there is no such pattern or file.
    """
    path = Path(style)
    if path.is_file():
        return to_float(decode(Picture(style, path.read_bytes), side, channels))
    if style not in PATTERNS:
        raise CondgenError(f"condition.said.styles: {style!r} is neither an image file nor one of {', '.join(PATTERNS)}.")
    plane, first, second = PATTERNS[style]
    at = torch.arange(side, dtype=torch.float32) / 8  # a period of eight pixels
    share = plane(*torch.meshgrid(at, at, indexing="ij"))
    colours = [(1 - share) * a + share * b for a, b in zip(first, second, strict=True)]
    image = torch.stack(colours if channels == 3 else [torch.stack(colours).mean(0)])
    return image * 2 - 1
