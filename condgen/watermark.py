"""An invisible watermark: a pattern that only a key knows, hidden in the pixels of samples, and how it is found again.

A marked image is y = x + s a(x) p, with p a pattern in the middle frequencies of the discrete cosine transform (spread
spectrum, Cox et al. 1997) whose coefficients are Gaussian numbers made from the key. The amplitude a(x) follows the local
contrast, where the eye does not see noise (Podilchuk & Zeng 1998). Samples take turns in their sign s = 1, -1, so that what
many of them share, such as the frame of a grid, cancels in their signed sum.

It is found without the unmarked image (Piva et al. 1997), by the correlation c of the key's d coefficients with those of the
image after its contrast is made even. To an image without the mark the key is a direction drawn at random, whatever the image
is: c exceeds a bound with the share of the sphere in d dimensions that lies in the cap (Miller & Bloom 1999). This probability
of a false alarm is exact, and times the number of places where the mark was looked for it is what `Found` gives.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.errors import CondgenError
from condgen.images import LUMA
from condgen.spaces import to_float, to_uint8

BAND = (0.3, 0.8)
"""Radial frequencies of the pattern, as shares of the highest along an axis."""
STRENGTH, FLOOR, MOST = 0.2, 8.0, 8.0
"""Amplitude as a share of the local contrast, what is added to that contrast, and the greatest amplitude; levels of 255."""
WINDOW = 5
"""Pixels along a side of the neighbourhood whose contrast counts."""
GAP = 2
"""White pixels between the samples of a grid, see `condgen.spaces.Images.grid`."""
SIDES = (16, 1024)
"""Pixels along a side of an image that can be marked."""
SURE = 1e-4
"""Probability of a false alarm up to which the mark counts as found."""


@dataclass(frozen=True)
class Found:
    """What a search for a key's mark came to.

    Attributes:
        score: the correlation in units of its spread where there is no mark.
        exponent: decimal logarithm of the probability that a key that marked nothing scores as high somewhere.
    """

    score: float
    exponent: float

    @property
    def there(self) -> bool:
        """Whether the mark is there, with a probability of a false alarm of at most `SURE`."""
        return self.exponent <= math.log10(SURE)


@dataclass(frozen=True)
class Pattern:
    """What a key decides for images of one size.

    Attributes:
        coefficients: Gaussian numbers (d,).
        pixels: the pattern (H, W), of a mean square of about 1.
        rows, columns: matrices of the cosine transform, (H, H) and (W, W).
        band: which coefficients belong to it, bool (H, W).
    """

    coefficients: Tensor
    pixels: Tensor
    rows: Tensor
    columns: Tensor
    band: Tensor


def check_key(key: str) -> None:
    """Raise CondgenError if ``key`` is empty."""
    if not key.strip():
        raise CondgenError("The key of a watermark is empty: give a text that only you know.")


def check_markable(height: int, width: int) -> None:
    """Raise CondgenError if images of this size cannot carry a mark."""
    if not all(SIDES[0] <= side <= SIDES[1] for side in (height, width)):
        raise CondgenError(
            f"A watermark is for images of {SIDES[0]} to {SIDES[1]} pixels along a side, not {height} x {width}: leave it out."
        )


@lru_cache(maxsize=32)
def pattern(key: str, height: int, width: int) -> Pattern:
    """Make the pattern of a key for images (height, width): the same on every machine."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width) / width
    radius = (y**2 + x**2).sqrt()
    band = (radius >= BAND[0]) & (radius < BAND[1])
    count = int(band.sum())
    secret = hashlib.shake_256(f"condgen watermark {height} {width} {key}".encode(errors="surrogateescape"))
    uniform = (np.frombuffer(secret.digest(8 * count), "<u8") >> 11) * 2.0**-53 + 2.0**-54  # in (0, 1)
    coefficients = torch.special.ndtri(torch.from_numpy(uniform)).float()
    rows, columns = cosines(height), cosines(width)
    spectrum = torch.zeros(height, width)
    spectrum[band] = coefficients
    pixels = rows.T @ spectrum @ columns
    return Pattern(coefficients, (pixels / pixels.square().mean().sqrt()).clamp(-2, 2), rows, columns, band)


def cosines(size: int) -> Tensor:
    """Return the orthonormal matrix (size, size) of the discrete cosine transform, DCT-II."""
    frequency, place = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size) + 0.5
    matrix = torch.cos(math.pi * frequency * place / size) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def contrast(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the brightness (N, H, W) of levels (N, C, H, W) less its local mean, and its local deviation."""
    weights = torch.tensor(LUMA).view(3, 1, 1)
    grey = levels if levels.shape[1] == 1 else (levels * weights).sum(1, keepdim=True)
    padded = F.pad(grey, [WINDOW // 2] * 4, mode="replicate")
    mean = F.avg_pool2d(padded, WINDOW, 1)
    deviation = (F.avg_pool2d(padded.square(), WINDOW, 1) - mean.square()).clamp(min=0).sqrt()
    return (grey - mean)[:, 0], deviation[:, 0]


def mark(samples: Tensor, key: str, first: int = 0) -> Tensor:
    """Return samples (N, C, H, W) in [-1, 1] with the mark of ``key``, rounded to the 256 levels of files.

    Args:
        samples: on the CPU, numbers ``first``, ``first`` + 1, ... of what is drawn.
        key: a secret text.
        first: decides their signs.
    """
    levels = to_uint8(samples).float()
    hidden = pattern(key, *samples.shape[2:]).pixels
    amplitude = (STRENGTH * (contrast(levels)[1] + FLOOR)).clamp(max=MOST)  # (N, H, W)
    moved = levels + (signs(len(samples), first)[:, None, None] * amplitude * hidden)[:, None]
    return to_float(moved.round().clamp(0, 255))


def signs(count: int, first: int = 0) -> Tensor:
    """Return the signs 1, -1, 1, ... (count,) of samples from number ``first`` on."""
    return 1.0 - 2.0 * ((torch.arange(count) + first) % 2)


def find_in_samples(images: Tensor, key: str) -> Found:
    """Look for the mark of ``key`` in images, uint8 (N, C, H, W), that were drawn one after the other."""
    check_markable(*images.shape[2:])
    votes = (signs(len(images))[:, None] * evidence(images, key)).sum(0)
    return likeliest([(votes, images.shape[2], images.shape[3])], key)


def find_in_picture(picture: Tensor, key: str) -> Found:
    """Look for the mark of ``key`` in a picture, uint8 (C, H, W): one sample, or a grid of samples."""
    height, width = picture.shape[1:]
    votes = []
    if all(SIDES[0] <= side <= SIDES[1] for side in (height, width)):
        votes.append((evidence(picture[None], key)[0], height, width))
    for cells in grids(picture):
        rows, columns, side = cells.shape[0], cells.shape[1], cells.shape[-1]
        found = evidence(cells.flatten(0, 1), key).view(rows, columns, -1)
        votes.append(((signs(rows * columns).view(rows, columns, 1) * found).sum((0, 1)), side, side))
        if rows > 1 and columns > 1:  # each row begins with the image that its samples start from
            rest = signs(rows * (columns - 1)).view(rows, columns - 1, 1) * found[:, 1:]
            votes.append((rest.sum((0, 1)), side, side))
    if not votes:
        raise CondgenError(
            f"A picture of {height} x {width} pixels is neither a sample with a watermark nor a grid of them: was it cut?"
        )
    return likeliest(votes, key)


def grids(picture: Tensor) -> Iterator[Tensor]:
    """Yield the square samples (rows, columns, C, side, side) of each grid that a picture, uint8 (C, H, W), can be."""
    height, width = (size - GAP for size in picture.shape[1:])
    for period in range(SIDES[0] + GAP, min(height, width, SIDES[1]) + 1):
        if height % period or width % period:
            continue
        gaps = torch.ones(picture.shape[1:], dtype=torch.bool)
        inner = gaps[GAP:, GAP:].view(height // period, period, width // period, period)
        inner[:, : period - GAP, :, : period - GAP] = False
        if picture[:, gaps].float().mean() > 0.6 * 255:
            cells = picture[:, GAP:, GAP:].unfold(1, period, period).unfold(2, period, period)  # (C, rows, columns, ...)
            yield cells[..., : period - GAP, : period - GAP].permute(1, 2, 0, 3, 4)


def evidence(images: Tensor, key: str) -> Tensor:
    """Return the coefficients (N, d) of images, uint8 (N, C, H, W), in a pattern's band, after their contrast is made even."""
    hidden = pattern(key, *images.shape[2:])
    difference, deviation = contrast(images.float())
    return (hidden.rows @ (difference / (deviation + FLOOR)) @ hidden.columns.T)[:, hidden.band]


def likeliest(votes: list[tuple[Tensor, int, int]], key: str) -> Found:
    """Return the best match of ``key`` with any of several (coefficients (d,), height, width), of either sign."""
    found = []
    for vector, height, width in votes:
        expected = pattern(key, height, width).coefficients
        length = float(vector.norm() * expected.norm())
        correlation = abs(float(vector @ expected)) / length if length else 0.0
        found.append(Found(correlation * math.sqrt(len(expected)), chance(correlation, len(expected))))
    best = min(found, key=lambda one: one.exponent)
    return Found(best.score, min(0.0, best.exponent + math.log10(2 * len(votes))))


def chance(correlation: float, dimensions: int) -> float:
    """Return the decimal logarithm of the probability that a direction drawn at random correlates more: a cap of a sphere."""

    theta = np.linspace(0, math.acos(min(max(correlation, 0.0), 1 - 1e-12)), 4001)[1:]
    logs = (dimensions - 2) * np.log(np.sin(theta))
    top = float(logs.max())
    cap = top + math.log((np.exp(logs - top).sum() - 0.5 * math.exp(logs[-1] - top)) * theta[0])  # the trapezoidal rule
    sphere = math.log(math.pi) / 2 + math.lgamma((dimensions - 1) / 2) - math.lgamma(dimensions / 2)
    return (cap - sphere) / math.log(10)
