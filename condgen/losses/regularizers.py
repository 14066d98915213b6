"""Regularizers of the discriminator: what is added to its loss, besides the game.

    loss of D + sum of weight * every * penalty, each in every ``every``-th turn of D

A penalty that is applied in one of ``every`` turns is multiplied by ``every``, so that its mean gradient stays the same (Karras
et al. 2020, StyleGAN2, appendix B; there it has an optimizer step of its own, here it joins the step of the loss, whose
settings can stay).

A penalty on D's slope sees each sample's own gradient only if D judges each sample by itself: batch norm in D excludes it
(Gulrajani et al. 2017, section 4).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from condgen.errors import CondgenError

Judge = Callable[[Tensor, Tensor], Tensor]
"""D behind the augmentation of its input: from samples (B, ...) and conditions (B, ...) to logits (B,), of patches (B, P)."""


@dataclass(frozen=True)
class Turn:
    """A turn of D as its regularizers see it."""

    number: int
    real: Tensor
    condition: Tensor
    fake: Tensor
    """Generated samples, without a gradient to G, in the real ones' dtype."""
    asked: Tensor
    real_logits: Tensor
    fake_logits: Tensor
    judge: Judge
    judge_eagerly: Judge
    """The same without torch.compile, whose result cannot be differentiated twice."""
    uniform: Callable[[str, int], Tensor]
    """Uniform random numbers (B, n) of this turn, by purpose and n; a function of seed and step."""
    mean: Callable[[Tensor], Tensor]
    """The mean over all processes, of a tensor without gradient."""


class Regularizer(nn.Module, ABC):
    """A penalty on the discriminator.

    Args:
        weight: its factor, as published; 10 in most papers.
        every: the number of D's turns of which one is penalized, ``every`` times as much.
    """

    changes_samples = False
    """Whether it shows D samples that were changed, though not the images that they were made of."""
    of_slope = False
    """Whether it looks at the gradient of D by its input, which takes a second derivative and a D without batch norm."""
    bounds_slope = False
    """Whether it keeps D's slope bounded between real and generated samples, as a Wasserstein critic needs."""

    def __init__(self, weight: float = 10.0, every: int = 1):
        super().__init__()
        if weight < 0 or every < 1:
            raise CondgenError(
                f"model.regularizers: {type(self).__name__} needs a weight of at least 0 and every of at least 1, "
                f"not {weight} and {every}."
            )
        self.weight = weight
        self.every = every

    @abstractmethod
    def penalty(self, turn: Turn) -> Tensor:
        """Return the penalty, without its weight: a scalar."""


class Regularizers(nn.ModuleDict):
    """Several regularizers, by the names under which their penalties are recorded."""

    def __init__(self, regularizers: Mapping[str, Regularizer]):
        super().__init__(regularizers)
        self._named = dict(regularizers)
        self.bound_slope = any(r.bounds_slope and r.weight > 0 for r in regularizers.values())

    def forward(self, turn: Turn) -> tuple[dict[str, Tensor], Tensor | float]:
        """Return the penalties that are due, each without its weight, and the sum that D's loss is charged."""
        penalties: dict[str, Tensor] = {}
        charge: Tensor | float = 0.0
        for name, regularizer in self._named.items():
            if turn.number % regularizer.every == 0:
                penalties[f"penalty_{name}"] = penalty = regularizer.penalty(turn)
                charge = charge + regularizer.weight * regularizer.every * penalty
        return penalties, charge


def slope(turn: Turn, x: Tensor, condition: Tensor) -> Tensor:
    """Return the gradient of D's logit by each sample (B, D), which can itself be differentiated by D's parameters.

    Where D judges patches, a sample's logit is their mean.
    """
    x = x.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention have no second derivative
        logits = turn.judge_eagerly(x, condition)
    if logits.dim() > 1:
        logits = logits.mean(1)
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)  # each sample has its own logit
    return gradient.flatten(1)


class R1(Regularizer):
    """Zero-centred gradient penalty on real samples (Mescheder et al. 2018, equation 9).

    weight * 1/2 E |grad D(x)|^2 over real x; their gamma is the weight.
    """

    of_slope = True

    def penalty(self, turn: Turn) -> Tensor:
        return 0.5 * slope(turn, turn.real, turn.condition).square().sum(1).mean()


class R2(Regularizer):
    """Zero-centred gradient penalty on generated samples (Mescheder et al. 2018, equation 10).

    weight * 1/2 E |grad D(x)|^2 over generated x.
    """

    of_slope = True

    def penalty(self, turn: Turn) -> Tensor:
        return 0.5 * slope(turn, turn.fake, turn.asked).square().sum(1).mean()


class GradientPenalty(Regularizer):
    """Slope ``target`` between real and generated samples (WGAN-GP, Gulrajani et al. 2017, equation 3).

    weight * E (|grad D(y)| - target)^2 over y = e x + (1 - e) G(z), e ~ U[0, 1], with the real sample's condition.
    """

    of_slope = True
    bounds_slope = True

    def __init__(self, weight: float = 10.0, every: int = 1, target: float = 1.0):
        super().__init__(weight, every)
        self.target = target

    def penalty(self, turn: Turn) -> Tensor:
        mix = turn.uniform("interpolation", 1).view(-1, *[1] * (turn.real.dim() - 1))
        between = torch.lerp(turn.fake, turn.real, mix.to(turn.real.dtype))
        # vector_norm has gradient 0 at 0, where the square root of a sum of squares has none.
        length: Tensor = torch.linalg.vector_norm(slope(turn, between, turn.condition), dim=1)
        return (length - self.target).square().mean()


class Augmentation(Protocol):
    """Changes samples (B, ...) by ``u`` (B, draws), uniform in [0, 1), as those of condgen.augment.images do."""

    draws: int

    def __call__(self, x: Tensor, u: Tensor) -> Tensor: ...


class Consistency(Regularizer):
    """D should say the same of a real sample and of its augmented self (CR-GAN, Zhang et al. 2020, equation 2).

    weight * E (D(x) - D(T(x)))^2 over real x.

    Args:
        augment: T, one after the other.
    """

    changes_samples = True

    def __init__(self, augment: Sequence[Augmentation], weight: float = 10.0, every: int = 1):
        super().__init__(weight, every)
        self.augment = tuple(augment)

    def penalty(self, turn: Turn) -> Tensor:
        x = turn.real
        u = turn.uniform("consistency", sum(augmentation.draws for augmentation in self.augment))
        for augmentation, part in zip(self.augment, torch.split(u, [a.draws for a in self.augment], 1), strict=True):
            x = augmentation(x, part)
        return (turn.real_logits - turn.judge(x, turn.condition)).square().mean()


class LeCam(Regularizer):
    """Keep D's logits near running means of those on the other side (Tseng et al. 2021, section 3, for scarce data).

    weight * (E relu(D(x) - a_F)^2 + E relu(a_R - D(G(z)))^2), with a_R and a_F the running means of D's logits of real and of
    generated samples. The rectifiers are the authors' code's (github.com/google/lecam-gan): only D's being right is penalized.

    Args:
        decay: weight of the past in the running means; in the first penalized turns they are plain means.
    """

    real_anchor: Tensor
    fake_anchor: Tensor
    turns: Tensor

    def __init__(self, weight: float = 0.3, every: int = 1, decay: float = 0.99):
        super().__init__(weight, every)
        if not 0 <= decay < 1:
            raise CondgenError(f"model.regularizers: the decay of LeCam lies in [0, 1), not {decay}.")
        self.decay = decay
        for name in ("real_anchor", "fake_anchor", "turns"):  # buffers, so that a resumed run goes on with them
            self.register_buffer(name, torch.zeros(()))

    def penalty(self, turn: Turn) -> Tensor:
        decay = (self.turns / (self.turns + 1)).clamp(max=self.decay)
        self.turns += 1
        for anchor, logits in ((self.real_anchor, turn.real_logits), (self.fake_anchor, turn.fake_logits)):
            anchor.lerp_(turn.mean(logits.detach().mean()).to(anchor.dtype), 1 - decay)
        above = (turn.real_logits - self.fake_anchor).relu().square().mean()
        below = (self.real_anchor - turn.fake_logits).relu().square().mean()
        return above + below
