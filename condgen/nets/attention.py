"""Self-attention over the places of an image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Each place of an image takes in what it finds at all others (Zhang et al. 2019, SAGAN, section 3).

        y_i = x_i + gamma * O sum_j softmax_j(<Q x_i, K x_j>) V x_j

    As in the authors' code, keys and values are the maxima of 2x2 places, and the products are not scaled. gamma starts at
    zero: the layer begins as the identity.

    Args:
        channels: channels of x; queries and keys have an eighth of them, values half.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner, half = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.out = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        query = self.query(x).flatten(2)  # (B, C / 8, HW)
        key = F.max_pool2d(self.key(x), 2).flatten(2)  # (B, C / 8, HW / 4)
        value = F.max_pool2d(self.value(x), 2).flatten(2)  # (B, C / 2, HW / 4)
        # Written out, because fused attention has no second derivative, which gradient penalties need.
        weights = (query.mT @ key).softmax(dim=2)  # (B, HW, HW / 4)
        found = value @ weights.mT  # (B, C / 2, HW)
        y: Tensor = x + self.gamma * self.out(found.unflatten(2, x.shape[2:]))
        return y
