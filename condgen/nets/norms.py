"""Norms whose gain and bias depend on a condition."""

import torch
from torch import Tensor, nn


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias are linear in a vector v, a condition's embedding (and, in BigGAN, part of the noise).

        y = (1 + A v) * (x - mean) / sqrt(variance + eps) + B v        (de Vries et al. 2017, equations 4 to 6)

    For a one-hot v the columns of A and B are one gain and bias a class (Dumoulin et al. 2017, equation 5).
    A and B start at zero, so that it begins as plain batch norm.

    Args:
        channels: channels of x.
        width: length of v; 0 makes it plain batch norm, whose gain and bias are parameters.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not width)
        self.gain = zero_map(width, channels) if width else None
        self.bias = zero_map(width, channels) if width else None

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Normalize x (B, channels, H, W), given v (B, width)."""
        x = self.norm(x)
        if self.gain is None or self.bias is None:
            return x
        return torch.addcmul(self.bias(v)[:, :, None, None], x, 1 + self.gain(v)[:, :, None, None])


def zero_map(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear map without bias that starts at zero."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.zeros_(layer.weight)
    return layer
