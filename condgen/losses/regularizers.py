"""Regularizers: what is added to the adversarial loss of one of a GAN's two players.

    loss of D + sum of weight * every * penalty(D),    each in every ``every``-th update of D
    loss of G + sum of weight * distance(G(z, c), x)   (Isola et al. 2017, equation 4; see `condgen.losses.paired`)

A penalty that is applied in one of ``every`` updates is multiplied by ``every``, so that its mean gradient stays the same
(Karras et al. 2020, StyleGAN2, appendix B; there it has an optimizer step of its own, here it joins the step of the loss, whose
settings can stay).

A penalty on D's gradient by a sample needs a D that sees each sample by itself: batch norm in D excludes it (Gulrajani et al.
2017, section 4).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from condgen.types import BelowOne, NonNegative, PositiveInt


@dataclass(frozen=True)
class DiscriminatorStep:
    """What the regularizers of D may look at in an update of D.

    Attributes:
        index: number of the batch in the run, from 0.
        real: samples of the data (B, *shape).
        condition: their encoded conditions (B, ...).
        fake: generated samples (B, *shape), without a gradient to G, in the real ones' dtype.
        fake_condition: the encoded conditions that these were asked for (B, ...).
        real_logits: D's logits of the real samples (B,), of patches (B, P).
        fake_logits: D's logits of the generated samples, likewise.
        discriminator: D behind the augmentation of its input, from samples and encoded conditions to logits.
        eager_discriminator: the same without torch.compile, whose result cannot be differentiated twice.
        uniform: draws uniform random numbers (B, n) by purpose and n; a function of seed and batch.
        mean: the mean over all processes, of a tensor without gradient.
    """

    index: int
    real: Tensor
    condition: Tensor
    fake: Tensor
    fake_condition: Tensor
    real_logits: Tensor
    fake_logits: Tensor
    discriminator: Callable[[Tensor, Tensor], Tensor]
    eager_discriminator: Callable[[Tensor, Tensor], Tensor]
    uniform: Callable[[str, int], Tensor]
    mean: Callable[[Tensor], Tensor]


class Regularizer(nn.Module, ABC):
    """A term in the loss of one player.

    Args:
        weight: its factor, as published.
    """

    player: Literal["discriminator", "generator"]
    """Whose loss it is added to."""

    def __init__(self, weight: NonNegative):
        super().__init__()
        self.weight = weight


class DiscriminatorRegularizer(Regularizer):
    """A penalty on the discriminator.

    Args:
        weight: its factor, as published; 10 in most papers.
        every: the number of updates of D of which one is penalized, ``every`` times as much.
    """

    player = "discriminator"
    changes_samples = False
    """Whether it shows D samples that were changed, though not the images that they were made of."""
    needs_gradient = False
    """Whether it looks at the gradient of D by its input, which takes a second derivative and a D without batch norm."""
    bounds_gradient = False
    """Whether it keeps that gradient bounded between real and generated samples, as a Wasserstein critic needs."""

    def __init__(self, weight: NonNegative = 10.0, every: PositiveInt = 1):
        super().__init__(weight)
        self.every = every

    @abstractmethod
    def penalty(self, step: DiscriminatorStep) -> Tensor:
        """Return the penalty, without its weight: a scalar."""


class GeneratorRegularizer(Regularizer):
    """A distance between generated samples and the real ones whose conditions they were asked for."""

    player = "generator"

    @abstractmethod
    def distance(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the distance between samples (B, *shape), without its weight: a scalar."""


class Regularizers(nn.ModuleDict):
    """Several regularizers, by the names under which they are recorded."""

    def __init__(self, regularizers: Mapping[str, Regularizer]):
        super().__init__(regularizers)
        self.of_discriminator = {n: r for n, r in regularizers.items() if isinstance(r, DiscriminatorRegularizer)}
        self.of_generator = {n: r for n, r in regularizers.items() if isinstance(r, GeneratorRegularizer)}

    @property
    def bounds_gradient(self) -> bool:
        """Whether one of them keeps D's gradient bounded."""
        return any(r.bounds_gradient and r.weight > 0 for r in self.of_discriminator.values())

    def penalties(self, step: DiscriminatorStep) -> tuple[dict[str, Tensor], Tensor | float]:
        """Return the penalties on D that are due, each without its weight, and their weighted sum."""
        found: dict[str, Tensor] = {}
        total: Tensor | float = 0.0
        for name, regularizer in self.of_discriminator.items():
            if step.index % regularizer.every == 0:
                found[f"penalty_{name}"] = penalty = regularizer.penalty(step)
                total = total + regularizer.weight * regularizer.every * penalty
        return found, total

    def distances(self, fake: Tensor, real: Tensor) -> tuple[dict[str, Tensor], Tensor | float]:
        """Return the distances of G's samples from real ones, each without its weight, and their weighted sum."""
        found = {name: regularizer.distance(fake, real) for name, regularizer in self.of_generator.items()}
        total: Tensor | float = 0.0
        for name, regularizer in self.of_generator.items():
            total = total + regularizer.weight * found[name]
        return found, total


def input_gradient(step: DiscriminatorStep, x: Tensor, condition: Tensor) -> Tensor:
    """Return the gradient of D's logit by each sample (B, D), which can itself be differentiated by D's parameters.

    Where D sees patches, a sample's logit is their mean.
    """
    x = x.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention have no second derivative
        logits = step.eager_discriminator(x, condition)
    if logits.dim() > 1:
        logits = logits.mean(1)
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)  # each sample has its own logit
    return gradient.flatten(1)


class R1(DiscriminatorRegularizer):
    """Zero-centred gradient penalty on real samples (Mescheder et al. 2018, equation 9).

    weight * 1/2 E |grad D(x)|^2 over real x; their gamma is the weight.
    """

    needs_gradient = True

    def penalty(self, step: DiscriminatorStep) -> Tensor:
        return 0.5 * input_gradient(step, step.real, step.condition).square().sum(1).mean()


class R2(DiscriminatorRegularizer):
    """Zero-centred gradient penalty on generated samples (Mescheder et al. 2018, equation 10).

    weight * 1/2 E |grad D(x)|^2 over generated x.
    """

    needs_gradient = True

    def penalty(self, step: DiscriminatorStep) -> Tensor:
        return 0.5 * input_gradient(step, step.fake, step.fake_condition).square().sum(1).mean()


class GradientPenalty(DiscriminatorRegularizer):
    """D's gradient has the length ``target`` between real and generated samples (WGAN-GP, Gulrajani et al. 2017, equation 3).

    weight * E (|grad D(y)| - target)^2 over y = e x + (1 - e) G(z), e ~ U[0, 1], with the real sample's condition.
    """

    needs_gradient = True
    bounds_gradient = True

    def __init__(self, weight: NonNegative = 10.0, every: PositiveInt = 1, target: NonNegative = 1.0):
        super().__init__(weight, every)
        self.target = target

    def penalty(self, step: DiscriminatorStep) -> Tensor:
        mix = step.uniform("interpolation", 1).view(-1, *[1] * (step.real.dim() - 1))
        between = torch.lerp(step.fake, step.real, mix.to(step.real.dtype))
        # vector_norm has gradient 0 at 0, where the square root of a sum of squares has none.
        length: Tensor = torch.linalg.vector_norm(input_gradient(step, between, step.condition), dim=1)
        return (length - self.target).square().mean()


class Augmentation(Protocol):
    """Changes samples (B, ...) by ``u`` (B, draws), uniform in [0, 1), as those of condgen.augment.images do."""

    draws: int

    def __call__(self, x: Tensor, u: Tensor) -> Tensor: ...


class Consistency(DiscriminatorRegularizer):
    """D should say the same of a real sample and of its augmented self (CR-GAN, Zhang et al. 2020, equation 2).

    weight * E (D(x) - D(T(x)))^2 over real x.

    Args:
        augment: T, one after the other.
    """

    changes_samples = True

    def __init__(self, augment: Sequence[Augmentation], weight: NonNegative = 10.0, every: PositiveInt = 1):
        super().__init__(weight, every)
        self.augment = tuple(augment)

    def penalty(self, step: DiscriminatorStep) -> Tensor:
        x = step.real
        u = step.uniform("consistency", sum(augmentation.draws for augmentation in self.augment))
        for augmentation, part in zip(self.augment, torch.split(u, [a.draws for a in self.augment], 1), strict=True):
            x = augmentation(x, part)
        return (step.real_logits - step.discriminator(x, step.condition)).square().mean()


class LeCam(DiscriminatorRegularizer):
    """Keep D's logits near running means of those on the other side (Tseng et al. 2021, section 3, for scarce data).

    weight * (E relu(D(x) - a_F)^2 + E relu(a_R - D(G(z)))^2), with a_R and a_F the running means of D's logits of real and of
    generated samples. The rectifiers are the authors' code's (github.com/google/lecam-gan): only D's being right is penalized.

    Args:
        decay: weight of the past in the running means; in the first penalized updates they are plain means.
    """

    real_anchor: Tensor
    fake_anchor: Tensor
    updates: Tensor

    def __init__(self, weight: NonNegative = 0.3, every: PositiveInt = 1, decay: BelowOne = 0.99):
        super().__init__(weight, every)
        self.decay = decay
        for name in ("real_anchor", "fake_anchor", "updates"):  # buffers, so that a resumed run goes on with them
            self.register_buffer(name, torch.zeros(()))

    def penalty(self, step: DiscriminatorStep) -> Tensor:
        decay = (self.updates / (self.updates + 1)).clamp(max=self.decay)
        self.updates += 1
        for anchor, logits in ((self.real_anchor, step.real_logits), (self.fake_anchor, step.fake_logits)):
            anchor.lerp_(step.mean(logits.detach().mean()).to(anchor.dtype), 1 - decay)
        above = (step.real_logits - self.fake_anchor).relu().square().mean()
        below = (self.real_anchor - step.fake_logits).relu().square().mean()
        return above + below
