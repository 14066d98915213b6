"""Statistics of uint8 images, a few megabytes at a time."""

import math

import torch
from torch import Tensor

from condgen.spaces import Rows

CHUNK_BYTES = 2**22


def chunks(rows: Tensor, images: Rows) -> tuple[Tensor, ...]:
    """Split ``rows`` (N,) so that the ``images`` (M, C, H, W) of each chunk take a few megabytes."""
    return torch.split(rows, max(1, CHUNK_BYTES // images[0].nbytes))


def statistics(images: Rows, rows: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and (population) standard deviation of each channel in [-1, 1], over ``images[rows]``.

    Counting the 256 levels makes both exact: no float sum over millions of pixels, and no float copy of the set.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for some in chunks(rows, images):
        planes = images[some].transpose(0, 1).flatten(1)  # (C, n * H * W)
        counts += torch.stack([torch.bincount(plane, minlength=256) for plane in planes])
    levels = torch.arange(256)
    moments = torch.stack([(counts * levels).sum(1), (counts * levels**2).sum(1)], dim=1)  # (C, 2)
    return from_moments(moments.tolist(), int(counts[0].sum()))


def from_moments(moments: list[list[int]], count: int) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel in [-1, 1], both exact but for the last rounding.

    Args:
        moments: (C, 2), sums over all pixels of their levels 0..255, and of the squares of these.
        count: pixels.
    """
    means = [total / count / 127.5 - 1 for total, _ in moments]
    return means, [math.sqrt((count * squares - total**2) / count**2) / 127.5 for total, squares in moments]
