"""Losses of a velocity field: how far a predicted velocity is from that of the path."""

from torch import Tensor, nn


class VelocityLoss(nn.Module):
    """Mean of squared differences over the values of a sample (Lipman et al. 2023, equation 14)."""

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample (B,), of velocities (B, *shape); with noise for a target of N(0, I) it is about 1."""
        return (predicted.float() - target).square().flatten(1).mean(dim=1)
