"""Adversarial losses on the discriminator's logits (B,). Each is what its player minimizes.

`generator_loss(fake)` and `discriminator_loss(real, fake)` return scalars, means over the batch.
"""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor


class AdversarialLoss(ABC):
    """The two objectives of a GAN.

    Args:
        scale: factor of the discriminator's loss; some authors halve it.
    """

    undecided: float | None = 0.0
    """The logit of a sample that D cannot place; larger ones mean real. None: there is none (a Wasserstein critic)."""

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of D for its logits of real and of generated samples, each (B,)."""
        return self.scale * (self.real_loss(real) + self.fake_loss(fake))

    @abstractmethod
    def real_loss(self, real: Tensor) -> Tensor:
        """D's loss on real samples."""

    @abstractmethod
    def fake_loss(self, fake: Tensor) -> Tensor:
        """D's loss on generated samples."""

    @abstractmethod
    def generator_loss(self, fake: Tensor) -> Tensor:
        """Loss of G for D's logits of generated samples."""


class BCE(AdversarialLoss):
    """Cross-entropy with the non-saturating generator (Goodfellow et al. 2014, section 3).

    D: -log s(real) - log(1 - s(fake));  G: -log s(fake), with s the sigmoid; softplus(-l) = -log s(l).
    """

    def real_loss(self, real: Tensor) -> Tensor:
        return F.softplus(-real).mean()

    def fake_loss(self, fake: Tensor) -> Tensor:
        return F.softplus(fake).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()


class Minimax(BCE):
    """The zero-sum game (Goodfellow et al. 2014, equation 1): G minimizes log(1 - s(fake)), which saturates early."""

    def generator_loss(self, fake: Tensor) -> Tensor:
        return -F.softplus(fake).mean()


class LSGAN(AdversarialLoss):
    """Least squares with targets 1 for real, 0 for fake and 1 for G (Mao et al. 2017, equation 9 for scale = 1/2)."""

    undecided = 0.5  # halfway between the targets

    def real_loss(self, real: Tensor) -> Tensor:
        return (real - 1).square().mean()

    def fake_loss(self, fake: Tensor) -> Tensor:
        return fake.square().mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        return (fake - 1).square().mean()


class Hinge(AdversarialLoss):
    """Margins of 1 around 0 for D, none for G (Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17).

    D: max(0, 1 - real) + max(0, 1 + fake);  G: -fake.
    """

    def real_loss(self, real: Tensor) -> Tensor:
        return F.relu(1 - real).mean()

    def fake_loss(self, fake: Tensor) -> Tensor:
        return F.relu(1 + fake).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        return -fake.mean()
