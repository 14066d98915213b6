"""What makes the density of a continuous model a likelihood of 8-bit pixels: uniform dequantization, and bits."""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from condgen.spaces import to_float, to_uint8

LEVELS = 256
"""Values that a pixel can have."""


class Likelihood(nn.Module):
    """-log P of 8-bit pixels by a continuous density q on [0, 1]^D (Theis et al. 2016, section 3.1).

    A pixel v in 0..255 becomes w = (v + u) / 256 with u uniform in [0, 1). As P(v) is the integral of q over the pixels' cells,
    -log q(w) + D log 256 is, on average over u, at least -log P(v), and equal to it where q is constant within each cell.

    With a ``margin`` a > 0 the model sees y = logit(a + (1 - 2a) w) (Dinh et al. 2017, section 4.1), with a = 0 y = 2 w - 1.

    Args:
        margin: a, in [0, 0.5): the smaller, the more of the model's range is left to the blackest and whitest levels.
    """

    def __init__(self, margin: Annotated[float, Ge(0), Lt(0.5)] = 0.05):
        super().__init__()
        self.margin = margin

    def dequantize(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Spread pixels over their cells.

        Args:
            x: images in [-1, 1] (B, *shape), rounded to their 256 levels.
            u: uniform noise in [0, 1), of the same shape; decides the type of what is returned.

        Returns:
            y (B, *shape) and log |det dy/dw| of each sample, (B,).
        """
        v = to_uint8(x).to(u.dtype)
        if not self.margin:
            y = (v + u) * (2 / LEVELS) - 1
            return y, torch.full_like(y[:, 0].flatten(1)[:, 0], y[0].numel() * math.log(2))
        scale = 1 - 2 * self.margin
        below = (scale / LEVELS * (v + u) + self.margin).log()
        above = (scale / LEVELS * ((LEVELS - 1 - v) + (1 - u)) + self.margin).log()  # log(1 - p), and no digit of it is lost
        return below - above, (math.log(scale) - below - above).flatten(1).sum(1)

    def quantize(self, y: Tensor) -> Tensor:
        """Return the images in [-1, 1], on their 256 levels, in whose cells ``y`` (B, *shape) lies."""
        w = (y.sigmoid() - self.margin) / (1 - 2 * self.margin) if self.margin else (y + 1) / 2
        return to_float((w * LEVELS).floor().clamp(0, LEVELS - 1))

    def forward(self, log_density: Tensor, log_determinant: Tensor, size: int) -> Tensor:
        """Return -log P of each sample in nats, (B,), or its bound.

        Args:
            log_density: log-density of y, (B,).
            log_determinant: of `dequantize`, (B,).
            size: values in a sample.
        """
        return size * math.log(LEVELS) - log_density - log_determinant


def bits(nats: Tensor, size: int) -> Tensor:
    """Turn nats a sample into bits per dimension, of which a sample has ``size``."""
    return nats / (size * math.log(2))


def log_normal(z: Tensor, mean: Tensor | float = 0.0, log_variance: Tensor | float = 0.0) -> Tensor:
    """Return the log-density of z (B, D) under independent Gaussians, (B,): standard normal ones where no more is given."""
    log_variance = torch.as_tensor(log_variance, device=z.device)
    return -0.5 * ((z - mean).square() * (-log_variance).exp() + log_variance + math.log(2 * math.pi)).sum(1)
