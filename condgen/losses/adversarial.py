"""Adversarial losses on the discriminator's logits (B,), or (B, P) of patches. Each is what its player minimizes.

`discriminator_loss(real, fake)` and `generator_loss(fake)` return scalars, means over the batch. A paired loss compares each
generated sample with a real one; its generator's loss needs D's logits of these too, `generator_loss(fake, real)`.
"""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

from condgen.types import NonNegative


class AdversarialLoss(ABC):
    """The two objectives of a GAN.

    Args:
        scale: factor of the discriminator's loss; some authors halve it.
    """

    undecided: float | None = 0.0
    """The logit of a sample that D cannot place; larger ones mean real. None: there is none (a Wasserstein critic)."""
    paired = False
    """Whether G's loss needs D's logits of real samples; what does not need them does not pay for them."""
    unbounded = False
    """Whether D can lower its loss forever by growing steeper, so that something else has to bound its slope."""

    def __init__(self, scale: NonNegative = 1.0):
        self.scale = scale

    @abstractmethod
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of D for its logits of real and of generated samples, each (B,)."""

    @abstractmethod
    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Loss of G for D's logits of generated samples (B,) and, where `paired`, of real ones."""


class SeparateLoss(AdversarialLoss):
    """A loss in which D judges real and generated samples each by themselves."""

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The sum of D's losses on real and on generated samples."""
        return self.scale * (self.real_loss(real) + self.fake_loss(fake))

    @abstractmethod
    def real_loss(self, real: Tensor) -> Tensor:
        """D's loss on real samples."""

    @abstractmethod
    def fake_loss(self, fake: Tensor) -> Tensor:
        """D's loss on generated samples."""


class BCE(SeparateLoss):
    """Cross-entropy with the non-saturating generator (Goodfellow et al. 2014, section 3).

    D: -log s(real) - log(1 - s(fake));  G: -log s(fake), with s the sigmoid; softplus(-l) = -log s(l).
    """

    def real_loss(self, real: Tensor) -> Tensor:
        return F.softplus(-real).mean()

    def fake_loss(self, fake: Tensor) -> Tensor:
        return F.softplus(fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return F.softplus(-fake).mean()


class Minimax(BCE):
    """The zero-sum game (Goodfellow et al. 2014, equation 1): G minimizes log(1 - s(fake)), which saturates early."""

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -F.softplus(fake).mean()


class LSGAN(SeparateLoss):
    """Least squares with targets 1 for real, 0 for fake and 1 for G (Mao et al. 2017, equation 9 for scale = 1/2)."""

    undecided = 0.5  # halfway between the targets

    def real_loss(self, real: Tensor) -> Tensor:
        return (real - 1).square().mean()

    def fake_loss(self, fake: Tensor) -> Tensor:
        return fake.square().mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return (fake - 1).square().mean()


class Hinge(SeparateLoss):
    """Margins of 1 around 0 for D, none for G (Lim & Ye 2017; Miyato et al. 2018, equations 16 and 17).

    D: max(0, 1 - real) + max(0, 1 + fake);  G: -fake.
    """

    def real_loss(self, real: Tensor) -> Tensor:
        return F.relu(1 - real).mean()

    def fake_loss(self, fake: Tensor) -> Tensor:
        return F.relu(1 + fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Wasserstein(SeparateLoss):
    """The difference of means (Arjovsky et al. 2017, equation 2): the Wasserstein-1 distance if D is 1-Lipschitz.

    D: fake - real;  G: -fake. Without a bound on D's slope neither has an optimum: multiplying D by ten wins tenfold.
    """

    undecided = None  # only differences of logits mean anything
    unbounded = True

    def real_loss(self, real: Tensor) -> Tensor:
        return -real.mean()

    def fake_loss(self, fake: Tensor) -> Tensor:
        return fake.mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class RelativisticPaired(AdversarialLoss):
    """Is the real sample of a pair the more real one? (Jolicoeur-Martineau 2018; R3GAN, Huang et al. 2024, equation 2.)

    D: softplus(fake - real);  G: softplus(real - fake), logits paired by their place in the batch. R3GAN's convergence proof
    asks for R1 and R2 beside it.
    """

    undecided = None
    paired = True

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.scale * F.softplus(fake - real).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert real is not None
        return F.softplus(real - fake).mean()
