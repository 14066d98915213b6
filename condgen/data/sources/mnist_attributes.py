"""MNIST's digits turned, coloured and drawn with pens of three widths: several attributes at once, each known exactly."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.conditions import Attributes
from condgen.conditions.fields import Category, Field, Number
from condgen.data import cache
from condgen.data.captions import Wordings
from condgen.data.sources.idx import MNIST
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.randomness import generator
from condgen.types import PositiveInt

COLOURS = {"red": (255, 70, 60), "green": (60, 205, 90), "blue": (75, 125, 255), "yellow": (250, 215, 60), "white": (255,) * 3}
"""Red, green and blue of the ink, on black."""
PENS = {"thin": 1.0, "medium": 2.5, "thick": 4.0}
"""Radius of the pen, in half pixels."""
DEGREES = 45.0
FINE = 2
"""Digits are drawn at that many times their size and then made small."""
BLOCK = 1000
"""Images that are drawn at a time."""
VERSION = 1
"""Counts how often the drawing has changed."""


class MNISTAttributes:
    """Each image of MNIST once, (3, 28, 28), with attributes that a seed draws, each uniformly and by itself.

    ``digit`` is also the class. ``rotation`` is in degrees, anticlockwise, from a digit that was set upright first.
    ``colour`` and ``thickness`` are those of the pen that goes along the middle of the strokes. Captions say these, see
    `condgen.data.captions`.

    Args:
        unseen: combinations of categories that are left out of the training part, such as ``"digit=3,colour=red"``.
        samples: take so many images of each part of MNIST, the first ones; None: all.
        seed: decides rotation, colour and thickness of each image.
    """

    about = replace(MNIST.about, name="MNIST, its digits turned, coloured and redrawn by condgen", hub="")

    def __init__(self, unseen: Sequence[str] = (), samples: PositiveInt | None = None, seed: int = 0):
        self.digits = MNIST()
        self.fields: list[Field] = [
            Category("digit", tuple(self.digits.classes)),
            Number("rotation", -DEGREES, DEGREES),
            Category("colour", tuple(COLOURS)),
            Category("thickness", tuple(PENS)),
        ]
        self.combinations = Attributes(self.fields, ["digit", "colour", "thickness"])
        self.unseen = [self.combinations.parse(text) for text in unseen]  # each (M, width), open where it says nothing
        self.samples = samples
        self.seed = seed

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Draw both parts, or take them from the cache."""
        published = self.digits.load()
        assert published.test is not None
        train = self._table("train", published.train, self.unseen, decoding)
        test = self._table("test", published.test, [], decoding)
        return Tables(train, test, self.digits.classes, self.fields)

    def _table(self, part: str, digits: Table, left_out: Sequence[Tensor], decoding: Decoding) -> Table:
        u = torch.rand(len(digits), 3, generator=generator(self.seed, "attributes", part))
        rotation, colour, thickness = (2 * u[:, 0] - 1) * DEGREES, u[:, 1] * len(COLOURS), u[:, 2] * len(PENS)
        values = torch.stack([digits.labels.float(), rotation, colour.floor(), thickness.floor()], dim=1)
        rows = self._rows(values[: self.samples], left_out)
        values, images = values[rows], digits.images

        def fill(pixels: cache.Pixels) -> None:
            for start in range(0, len(rows), BLOCK):
                some = slice(start, start + BLOCK)
                pixels[some] = draw(images[rows[some]], values[some]).numpy()

        shape = (len(rows), 3, 28, 28)
        key = cache.name("mnist-attributes", VERSION, part, self.seed, rows.tolist())
        pixels = cache.keep(key, shape, fill, decoding.memory_share, costly=True)
        return Table(pixels, digits.labels[rows], values, Wordings(values, rows, len(digits), self.seed, part))

    def _rows(self, values: Tensor, left_out: Sequence[Tensor]) -> Tensor:
        """Return the rows of ``values`` (N, 4) that show none of the combinations, int64."""
        vectors = self.combinations.from_data(values, values)
        keep = torch.ones(len(values), dtype=torch.bool)
        for combination in (one for several in left_out for one in several):
            keep &= ((vectors - combination).nan_to_num(0.0) != 0).any(1)
        return keep.nonzero()[:, 0]


def draw(digits: Tensor, values: Tensor) -> Tensor:
    """Draw uint8 digits (N, 1, 28, 28) anew with their attributes (N, 4): uint8 (N, 3, 28, 28)."""
    _, rotation, colour, thickness = values.unbind(1)
    ink = torch.zeros(len(digits), 1, 28 * FINE, 28 * FINE)
    lines = thin(turn(digits.float() / 255, rotation)[:, 0] > 0.4)[:, None].float()
    for pen, radius in enumerate(PENS.values()):
        mine = thickness == pen
        ink[mine] = dilate(lines[mine], radius)
    ink = F.avg_pool2d(ink, 2 * FINE, FINE, FINE // 2)  # windows that overlap: soft edges
    return (ink * torch.tensor(list(COLOURS.values()))[colour.long()][:, :, None, None]).round().to(torch.uint8)


def turn(images: Tensor, degrees: Tensor) -> Tensor:
    """Set grey images (N, 1, H, W) upright and turn each anticlockwise, at `FINE` times their size.

    Upright: sheared until the covariance of x and y is 0 (deslanting, LeCun et al. 1998, section III.A).
    """
    count, _, height, width = images.shape
    y, x = (torch.arange(side) - (side - 1) / 2 for side in (height, width))
    mass = images[:, 0]
    slant = (mass * y[:, None] * x).sum((1, 2)) / (mass * y[:, None].square()).sum((1, 2)).clamp(min=1e-6)
    sin, cos = degrees.deg2rad().sin(), degrees.deg2rad().cos()
    inverse = torch.stack([cos + slant * sin, slant * cos - sin, 0 * sin, sin, cos, 0 * sin], 1).view(-1, 2, 3)
    grid = F.affine_grid(inverse, [count, 1, FINE * height, FINE * width], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def thin(ink: Tensor) -> Tensor:
    """Thin strokes, bool (N, H, W), to lines one pixel wide (Zhang & Suen 1984)."""
    while True:
        before = ink
        for sides in ((0, 1, 2, 3), (2, 3, 0, 1)):
            around = neighbours(ink)  # clockwise from above
            count = torch.stack(around).sum(0, dtype=torch.uint8)
            ends = torch.stack([~a & b for a, b in zip(around, [*around[1:], around[0]], strict=True)])
            north, east, south, west = (around[2 * side] for side in sides)
            outer = ~(east & south & (north | west))
            ink = ink & ~((count >= 2) & (count <= 6) & (ends.sum(0, dtype=torch.uint8) == 1) & outer)
        if torch.equal(ink, before):
            return ink


def neighbours(ink: Tensor) -> list[Tensor]:
    """Return the eight neighbours of each pixel, clockwise from the one above, each (N, H, W)."""
    height, width = ink.shape[1:]
    padded = F.pad(ink, (1, 1, 1, 1))
    places = [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]
    return [padded[:, top : top + height, left : left + width] for top, left in places]


def dilate(lines: Tensor, radius: float) -> Tensor:
    """Return where a disc of ``radius`` pixels on a line reaches, (N, 1, H, W) of 0 and 1."""
    reach = int(radius)
    at = torch.arange(-reach, reach + 1.0)
    disc = (at.square() + at[:, None].square() <= radius**2).float()
    return (F.conv2d(lines, disc[None, None], padding=reach) > 0.5).float()
