"""Label accuracy: how many samples show the class that they were asked for."""

from typing import Any

import torch
from torch import Tensor

from condgen.metrics.states import Summed, require_classes


class LabelAccuracy(Summed):
    """The share of samples in which a classifier recognizes the class that was asked for.

    Args:
        classes: K, the number of classes.
        options: of `torchmetrics.Metric`.

    Attributes:
        confusion: counts, int64 (K, K + 1), of asked-for by recognized class, the last column any other.
    """

    confusion: Tensor

    def __init__(self, classes: int, **options: Any):
        super().__init__(**options)
        self.add_sum("confusion", classes, classes + 1, dtype=torch.int64)

    def update(self, recognized: Tensor, labels: Tensor) -> None:
        """Take in what was recognized and what was asked for, int64 (B,) both; a negative class is none of the K."""
        count = len(self.confusion)
        require_classes(labels, count)
        seen = torch.where((recognized >= 0) & (recognized < count), recognized, count)
        self.confusion += torch.bincount(labels * (count + 1) + seen, minlength=self.confusion.numel()).view_as(self.confusion)

    def compute(self) -> Tensor:
        """Return the share, in 0..1."""
        return self.confusion.diagonal().sum(dtype=torch.float64) / self.confusion.sum()
