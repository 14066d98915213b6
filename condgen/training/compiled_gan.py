"""Both players' updates of a GAN as one compiled function (`condgen.training.compiled`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from condgen.augment.diffaugment import ADA
from condgen.errors import CondgenError
from condgen.training.alternation import MicroBatch, Player
from condgen.training.compiled import ADVICE, CompiledStep, compiled

if TYPE_CHECKING:
    from condgen.training.gan import GAN

PLACES: dict[Player, int] = {"generator": 0, "discriminator": 1}
"""Where a player's optimizer stands."""
AUGMENTED: dict[Player, tuple[str, ...]] = {"generator": ("generator", "paired"), "discriminator": ("real", "fake")}
"""The images that D sees augmented in a player's update."""


class CompiledPlayers(CompiledStep):
    """The updates of a GAN on one batch.

    Args:
        gan: what is trained.
        optimizers: G's, then D's.

    Raises:
        CondgenError: the GAN does what a compiled step does not.
    """

    def __init__(self, gan: "GAN", optimizers: Sequence[Optimizer]):
        super().__init__(optimizers, gan.ema, gan.options.gradient_clip)
        for wrong, sentence in (
            (len(gan.regularizers), "regularizers, whose period and second derivatives are not: set regularizer=none"),
            (isinstance(gan.augment, ADA), "what follows D from turn to turn: set discriminator_augment=diffaugment"),
            (gan.alternation.micro_batches > 1, "micro-batches: set model.alternation.micro_batches=1"),
        ):
            if wrong:
                raise CondgenError(f"model.options.compile=step does not compile {sentence}, or {ADVICE}.")
        self.gan = gan
        self.step = compiled(self.run)

    def __call__(self, order: list[Player], x: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Update the players in their ``order`` on a batch, and return their losses."""
        gan, turns = self.gan, self.gan.alternation
        drawn = [gan.drawn(x, condition, "noise")]
        if len(order) == 2 and not turns.reuse_fake:
            drawn.append(gan.drawn(x, condition, "second noise"))
        uniform = {}
        if gan.augment:
            purposes = [f"augment {seen}" for player in order for seen in AUGMENTED[player]]
            uniform = {purpose: gan.uniform(len(x), gan.augment.draws, purpose) for purpose in purposes}
        gan._logits = []
        rates = [self.moments[PLACES[player]].rates() for player in order]
        losses, gradients = self.step(tuple(order), x, condition, drawn, uniform, rates, self.share(gan.counts.updates + 1))
        for player, found in zip(order, gradients, strict=True):
            for parameter, gradient in zip(self.moments[PLACES[player]].parameters, found, strict=True):
                parameter.grad = gradient  # for the statistics
        return losses

    def run(
        self,
        order: tuple[Player, ...],
        x: Tensor,
        condition: Tensor,
        drawn: list[tuple[Tensor, Tensor]],
        uniform: dict[str, Tensor],
        rates: list[Tensor],
        share: Tensor,
    ) -> tuple[dict[str, Tensor], list[Sequence[Tensor]]]:
        """Return the losses and each player's gradients, once all is updated: what is compiled."""
        losses: dict[str, Tensor] = {}
        gradients = []
        b: MicroBatch | None = None
        for place, player in enumerate(order):
            if b is None or len(drawn) > 1:
                z, fake_condition = drawn[place if len(drawn) > 1 else 0]
                with torch.set_grad_enabled("generator" in (order if len(drawn) == 1 else (player,))):
                    fake = self.gan.generator(z, fake_condition)
                b = MicroBatch(slice(0, len(x)), len(x), x, condition, fake, fake_condition, uniform)
            loss_of = self.gan.discriminator_loss if player == "discriminator" else self.gan.generator_loss
            loss, parts = loss_of(b)
            losses |= {name: part.detach() for name, part in parts.items()}
            gradients.append(self.descend(loss, PLACES[player], rates[place]))
            if player == "generator":
                self.follow(share)
        return losses, gradients
