"""The loss of a language model: how surprised it is by each character of a text."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from condgen.types import BelowOne

BIT = math.log(2)
"""Nats in a bit."""


class NextToken(nn.Module):
    """-log p(x_t | x_<t, c) in nats.

    Args:
        smoothing: share of the target that all tokens have alike (Szegedy et al. 2016, section 7), in training alone.
    """

    def __init__(self, smoothing: BelowOne = 0.0):
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss (N,) of each of ``target``, int64 (N,), by logits (N, tokens)."""
        smoothing = self.smoothing if self.training else 0.0
        return F.cross_entropy(logits.float(), target, reduction="none", label_smoothing=smoothing)
