"""How good a classifier is on classes of different sizes, and whether one is better than another."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.metrics.intervals import student

BINS = 15
"""Of the confidences, in the calibration error."""


@dataclass(frozen=True)
class Figures:
    """What a classifier makes of images.

    Attributes:
        balanced_accuracy: the mean of the recalls, in 0..1.
        accuracy: share that is recognized, in 0..1.
        recall: of each class, share of its images that are recognized; NaN where it has none.
        ece: expected calibration error, in 0..1.
    """

    balanced_accuracy: float
    accuracy: float
    recall: list[float]
    ece: float


def figures(logits: Tensor, labels: Tensor) -> Figures:
    """Return the figures of ``logits`` (N, K) for images of the classes ``labels`` (N,)."""
    right = logits.argmax(1) == labels
    counts = torch.bincount(labels, minlength=logits.shape[1]).double()
    recall = torch.bincount(labels[right], minlength=logits.shape[1]) / counts
    return Figures(
        balanced_accuracy=float(recall.nanmean()),
        accuracy=float(right.double().mean()),
        recall=recall.tolist(),
        ece=calibration_error(logits, labels),
    )


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error (Guo et al. 2017, equation 3), with 15 bins of equal width.

    It is the mean distance between how sure the classifier is, of what it names, and how often it is right, in 0..1.
    """
    confidence, named = logits.double().softmax(1).max(1)
    right = (named == labels).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gap = torch.zeros(BINS, dtype=torch.double).index_add_(0, bins, right - confidence)
    return float(gap.abs().sum() / len(labels))


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval, which is NaN on both sides of a single seed."""

    mean: float
    low: float
    high: float

    def text(self, scale: float = 100, digits: int = 1) -> tuple[str, str]:
        """Return mean and half width as texts, in percent by default."""
        half = (self.high - self.low) / 2 * scale
        return f"{self.mean * scale:.{digits}f}", "" if math.isnan(half) else f" ± {half:.{digits}f}"


def estimate(values: list[float]) -> Estimate:
    """Return mean and interval of the figures of several seeds, or of their paired differences."""
    mean, half = student(values)
    return Estimate(mean, mean - half, mean + half)
