"""Size, colour and statistics of uint8 images."""

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, ITU-R BT.601."""
CHUNK_BYTES = 2**22


def recolour(images: Tensor, channels: int | None) -> Tensor:
    """Turn uint8 images (N, C, H, W) to grey (``channels`` = 1) or colour (3); None and equal ``channels`` change nothing."""
    if channels is None or channels == images.shape[1]:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).round_().to(torch.uint8)


def resize(images: Tensor, size: int | None) -> Tensor:
    """Crop uint8 images (N, C, H, W) to the centre square and resize it to (N, C, size, size), antialiased; None: as is."""
    height, width = images.shape[-2:]
    if size is None or height == width == size:
        return images
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[..., top : top + side, left : left + side].float()
    return F.interpolate(square, (size, size), mode="bilinear", antialias=True).round_().clamp_(0, 255).to(torch.uint8)


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
