"""Norms whose gain and bias depend on a condition."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ConditionalNorm(nn.Module):
    """A norm whose gain and bias are linear in a vector v, a condition's embedding (and, in BigGAN, part of the noise).

        y = (1 + A v) * (x - mean) / sqrt(variance + eps) + B v        (de Vries et al. 2017, equations 4 to 6)

    For a one-hot v the columns of A and B are one gain and bias a class (Dumoulin et al. 2017, equation 5).
    A and B start at zero, so that it begins as the plain norm.

    Args:
        norm: makes the norm from ``channels``; ``affine`` says whether its gain and bias are parameters.
        channels: channels of x.
        width: length of v; 0 makes it the plain norm.
    """

    def __init__(self, norm: Callable[..., nn.Module], channels: int, width: int):
        super().__init__()
        self.norm = norm(channels, affine=not width)
        self.gain = zero_map(width, channels) if width else None
        self.bias = zero_map(width, channels) if width else None

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Normalize x (B, channels, H, W), given v (B, width)."""
        x = self.norm(x)
        if self.gain is None or self.bias is None:
            return x
        return torch.addcmul(self.bias(v)[:, :, None, None], x, 1 + self.gain(v)[:, :, None, None])


class ConditionalBatchNorm(ConditionalNorm):
    """`ConditionalNorm` over a batch: (channels, width)."""

    def __init__(self, channels: int, width: int):
        super().__init__(nn.BatchNorm2d, channels, width)


class ConditionalInstanceNorm(ConditionalNorm):
    """`ConditionalNorm` over the places of each image by itself (Dumoulin et al. 2017): (channels, width)."""

    def __init__(self, channels: int, width: int):
        super().__init__(nn.InstanceNorm2d, channels, width)


def zero_map(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear map without bias that starts at zero."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.zeros_(layer.weight)
    return layer
