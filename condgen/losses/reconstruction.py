"""Reconstruction losses: negative log-likelihoods -log p(x | z) in nats, summed over the pixels of a sample.

Targets are in [0, 1]; `forward(outputs, target)` maps the decoder's raw outputs (B, D) and targets (B, D) to (B,), and
`mean(outputs)` to the decoded values in [0, 1].
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.types import Positive


class ReconstructionLoss(nn.Module, ABC):
    """How far a decoded sample is from its target."""

    density: str | None = None
    """What exp(-loss) is a probability of: "levels", the 256 of each pixel, or "bits", black or white pixels; None: nothing."""

    def observed(self, x: Tensor, uniform: Callable[[], Tensor]) -> Tensor:
        """Return what is reconstructed of samples ``x`` (B, *shape) in [-1, 1], with uniform numbers of the same shape."""
        return x

    @abstractmethod
    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample in nats, (B,)."""

    def mean(self, outputs: Tensor) -> Tensor:
        """Decode raw outputs to values in [0, 1]."""
        return outputs.sigmoid()


class Bernoulli(ReconstructionLoss):
    """Cross-entropy of grey values read as probabilities (Kingma & Welling 2014, appendix C.1).

    A likelihood on binary pixels only; on grey values it is the customary surrogate.

    Args:
        binarize: draw each pixel black or white, white with its grey value as probability, anew whenever an image is seen
            (Burda et al. 2016, section 5), which makes it a likelihood; encoder and decoder see the drawn pixels.
    """

    def __init__(self, binarize: bool = False):
        super().__init__()
        self.density = "bits" if binarize else None

    def observed(self, x: Tensor, uniform: Callable[[], Tensor]) -> Tensor:
        return torch.where(uniform() < (x + 1) / 2, 1.0, -1.0) if self.density else x

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, target, reduction="none").sum(1)


class SquaredError(ReconstructionLoss):
    """Sum of squared differences: a Gaussian of variance 1/2 without its constant."""

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return (outputs.sigmoid() - target).square().sum(1)


class Gaussian(ReconstructionLoss):
    """Gaussian with one learned standard deviation for all pixels (sigma-VAE, Rybkin et al. 2021, section 3).

    Args:
        sigma: standard deviation at the start, in units of the [0, 1] range.
        discretized: integrate the density over each of the 256 levels (edges over the tails), which makes it a
            likelihood of the 8-bit pixels (as Salimans et al. 2017, equation 2, with a Gaussian); bits/dim are then reported.
    """

    def __init__(self, sigma: Positive = 0.1, discretized: bool = False):
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))
        self.density = "levels" if discretized else None

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        mean = outputs.sigmoid()
        # The floor keeps the density of saturated pixels (MNIST's background) from growing without bound.
        log_sigma = self.log_sigma.clamp(min=-7.0 if self.density else math.log(1 / 255))
        if not self.density:
            squares = ((mean - target) / log_sigma.exp()).square()
            return (0.5 * squares + log_sigma + 0.5 * math.log(2 * math.pi)).sum(1)
        return -log_interval(target, mean, log_sigma.exp(), half=0.5 / 255).sum(1)


def log_interval(target: Tensor, mean: Tensor, sigma: Tensor, half: float) -> Tensor:
    """Log-probability that N(mean, sigma) falls within ``half`` of ``target``, with open ends at 0 and 1.

    The interval is mirrored to the left tail, where normal CDFs F keep their digits, and the difference is taken in
    logarithms: log(F(b) - F(a)) = log F(b) + log(1 - F(a) / F(b)).
    """
    below, above = (target - half - mean) / sigma, (target + half - mean) / sigma
    flip = below + above > 0
    low, high = torch.where(flip, -above, below), torch.where(flip, -below, above)
    log_high = torch.special.log_ndtr(high)
    ratio = (torch.special.log_ndtr(low) - log_high).clamp(max=-1e-6)
    inside = log_high + torch.log(-torch.expm1(ratio))
    inside = torch.where(target <= half, torch.special.log_ndtr(above), inside)
    return torch.where(target >= 1 - half, torch.special.log_ndtr(-below), inside)
