"""Statistics of uint8 images, a few megabytes at a time."""

import torch
from torch import Tensor

CHUNK_BYTES = 2**22


def chunks(rows: Tensor, images: Tensor) -> tuple[Tensor, ...]:
    """Split ``rows`` (N,) so that the ``images`` (M, C, H, W) of each chunk take a few megabytes."""
    return torch.split(rows, max(1, CHUNK_BYTES // images[0].nbytes))


def statistics(images: Tensor, rows: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and (population) standard deviation of each channel in [-1, 1], over ``images[rows]``.

    Counting the 256 levels makes both exact: no float sum over millions of pixels, and no float copy of the set.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for some in chunks(rows, images):
        planes = images[some].transpose(0, 1).flatten(1)  # (C, n * H * W)
        counts += torch.stack([torch.bincount(plane, minlength=256) for plane in planes])
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    shares = counts / counts.sum(1, keepdim=True)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(1)
    return mean.tolist(), variance.sqrt().tolist()
