"""Conditional generative adversarial networks (Goodfellow et al. 2014; conditional: Mirza & Osindero 2014, equation 2).

    min_G max_D  E_{x, c ~ data} log D(x, c) + E_{z ~ N(0, I), c} log(1 - D(G(z, c), c))

What replaces the two logarithms is the loss's business, how c enters is the networks', what else a player has to heed the
regularizers'. Who is updated when, and on which samples, is decided in `condgen.training.alternation`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from condgen.augment.diffaugment import DiffAugment
from condgen.conditions import Condition
from condgen.generators.gan import GANGenerator
from condgen.losses.adversarial import AdversarialLoss
from condgen.losses.auxiliary import Auxiliary
from condgen.losses.regularizers import DiscriminatorStep, Regularizer
from condgen.nets.layers import Discriminator
from condgen.spaces import Space
from condgen.training.alternation import Alternation, MicroBatch, Player
from condgen.training.base import Batch, MakeOptimizer, Training, check_optimizer
from condgen.training.gan_checks import check_augment, check_discriminator, check_loss, check_regularizers, check_start
from condgen.training.gan_statistics import gan_statistics
from condgen.training.options import Options


class GAN(Training):
    """The training of a (conditional) GAN.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: the two players' losses.
        generator: makes G from (space, condition), see `GANGenerator`.
        discriminator: makes D from (condition, space), see `condgen.nets.layers.Discriminator`.
        generator_optimizer: makes G's optimizer from its parameters.
        discriminator_optimizer: makes D's optimizer from its parameters.
        alternation: who is updated when, and on what; None: the defaults of `Alternation`.
        auxiliary: makes a second head of D from (features, condition), which says what a sample shows; None: none.
        regularizers: terms in the losses of D and of G, by names under which they are recorded.
        discriminator_augment: changes all samples that D sees, real and generated, in both players' updates; None: nothing.
        options: what every family can be told; None: the defaults of `Options`.
        seed: decides every random number of the training.

    Raises:
        CondgenError: parts that cannot be, or cannot be together.
    """

    generator: GANGenerator

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: AdversarialLoss,
        generator: Callable[..., GANGenerator],
        discriminator: Callable[..., Discriminator],
        generator_optimizer: MakeOptimizer,
        discriminator_optimizer: MakeOptimizer,
        alternation: Alternation | None = None,
        auxiliary: Callable[..., Auxiliary] | None = None,
        regularizers: Mapping[str, Regularizer | None] | None = None,
        discriminator_augment: DiffAugment | None = None,
        options: Options | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, options, seed)
        self.automatic_optimization = False
        self.loss = check_loss(loss)
        self.alternation = alternation or Alternation()
        self.batches_per_update = self.alternation.discriminator_steps
        self.generator = generator(space=space, condition=condition)
        self.discriminator = check_discriminator(discriminator(condition=condition, space=space), condition)
        self.auxiliary = auxiliary(features=self.discriminator.head.features, condition=condition) if auxiliary else None
        self.regularizers = check_regularizers(regularizers or {}, loss, self.discriminator, self.alternation)
        self.augment = check_augment(discriminator_augment, loss, space)
        check_start(condition, self.alternation, self.regularizers, self.augment)
        self.generator_optimizer = check_optimizer("generator_optimizer", generator_optimizer)
        self.discriminator_optimizer = check_optimizer("discriminator_optimizer", discriminator_optimizer)
        self._d_parameters = [*self.discriminator.parameters(), *(self.auxiliary.parameters() if self.auxiliary else ())]
        # One pass over real and generated samples together is faster, unless batch norm would mix their statistics.
        self._joint = not any(isinstance(module, _BatchNorm) for module in self.discriminator.modules())
        self._logits: tuple[Tensor, Tensor] | None = None  # of D's last update, for `statistics`
        self.keep_average()
        self.discriminate = self.discriminator.logits_and_features
        if self.options.compile:
            self.options.compiled(self.generator.network)
            self.discriminate = torch.compile(self.discriminate, mode=self.options.compile_mode)

    def configure_optimizers(self) -> list[Optimizer]:
        """G's optimizer, then D's."""
        return [self.generator_optimizer(self.generator.parameters()), self.discriminator_optimizer(self._d_parameters)]

    # --- a training step ---

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Update D, and G after every ``discriminator_steps`` batches (Goodfellow et al. 2014, algorithm 1)."""
        update = {"discriminator": self.update_discriminator, "generator": self.update_generator}
        losses: dict[str, Tensor] = {}
        for player, micro_batches in self.alternate(batch):
            losses |= update[player](micro_batches)
        self.record(**losses)

    def discriminator_loss(self, b: MicroBatch) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Return D's loss, its parts by name, and D's logits of real and of generated samples."""
        fake = b.fake.detach().to(b.real.dtype)  # under autocast G's samples are bf16, and so would penalties on them be
        x, x_fake = self.augmented(b, b.real, "real"), self.augmented(b, fake, "fake")
        (real_logits, real_features), (fake_logits, fake_features) = self.discriminate_both(x, x_fake, b)
        loss = self.loss.discriminator_loss(real_logits, fake_logits)
        parts = {"loss_d": loss}
        if self.auxiliary:
            found, extra = self.auxiliary.discriminator_losses(real_features, b.condition, fake_features, b.fake_condition)
            parts, loss = parts | found, loss + extra
        if self.regularizers.of_discriminator:
            found, penalty = self.regularizers.penalties(self.step(b, fake, real_logits, fake_logits))
            parts, loss = parts | found, loss + penalty
        return loss, parts, (real_logits.detach(), fake_logits.detach())

    def generator_loss(self, b: MicroBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return G's loss and its parts by name. Real samples matter only to a paired loss and to distances."""
        real_logits = self.discriminate(self.augmented(b, b.real, "paired"), b.condition)[0] if self.loss.paired else None
        fake_logits, features = self.discriminate(self.augmented(b, b.fake, "generator"), b.fake_condition)
        loss = self.loss.generator_loss(fake_logits, real_logits)
        parts = {"loss_g": loss}
        if self.auxiliary:
            parts["auxiliary_g"] = shown = self.auxiliary(features, b.fake_condition)
            loss = loss + self.auxiliary.generator_weight * shown
        if self.regularizers.of_generator:
            found, distance = self.regularizers.distances(b.fake, b.real)
            parts, loss = parts | found, loss + distance
        return loss, parts

    def update_discriminator(self, micro_batches: Iterable[MicroBatch]) -> dict[str, Tensor]:
        """Update D once and return its losses."""
        # The raw optimizer: only what the wrapper steps counts as an update, so that the step axis is G's.
        optimizer = self.optimizers(use_pl_optimizer=False)[1]  # type: ignore[index]
        optimizer.zero_grad()
        losses, logits = [], []
        for b in micro_batches:
            loss, parts, both = self.discriminator_loss(b)
            self.manual_backward(loss * b.share)
            losses.append((b.share, parts))
            logits.append(both)
        self.clip(self._d_parameters)
        optimizer.step()
        real_logits, fake_logits = (torch.cat(column) for column in zip(*logits, strict=True))
        self._logits = real_logits, fake_logits
        return mean_of(losses) | self.adapt(real_logits)

    def update_generator(self, micro_batches: Iterable[MicroBatch]) -> dict[str, Tensor]:
        """Update G once, and its average, and return its losses."""
        optimizer = self.optimizers()[0]  # type: ignore[index]
        optimizer.zero_grad()
        losses = []
        require_grad(self._d_parameters, False)  # D's own gradients are not needed: a third of its backward pass saved
        for b in micro_batches:
            loss, parts = self.generator_loss(b)
            self.manual_backward(loss * b.share)
            losses.append((b.share, parts))
        require_grad(self._d_parameters, True)
        self.clip(self.generator.parameters())
        optimizer.step()
        self.count_update()
        return mean_of(losses)

    # --- what a step stands on ---

    def alternate(self, batch: Batch) -> Iterator[tuple[Player, Iterable[MicroBatch]]]:
        """Return who is updated on a batch, in order, each with its micro-batches."""
        players = self.alternation.players(self.counts.index)
        shared = self.alternation.micro_batches == 1 and self.alternation.reuse_fake and len(players) == 2
        both = list(self.micro_batches(batch, "noise", with_gradient=True)) if shared else []
        for place, player in enumerate(players):
            purpose = "noise" if place == 0 or self.alternation.reuse_fake else "second noise"
            yield player, both or self.micro_batches(batch, purpose, with_gradient=player == "generator")

    def micro_batches(self, batch: Batch, purpose: str, with_gradient: bool) -> Iterator[MicroBatch]:
        """Generate beside each piece of the batch as many samples, only now that they are asked for."""
        x, condition = batch
        z = self.rows(self.generator.latents, len(x), purpose)
        fake_condition = condition
        if self.alternation.fake_condition == "random":
            fake_condition = self.rows(self.condition.draw, len(x), purpose + " condition")
        for rows in self.alternation.pieces(len(x)):
            with torch.set_grad_enabled(with_gradient):
                fake = self.generator(z[rows], fake_condition[rows])
            yield MicroBatch(rows, len(x), x[rows], condition[rows], fake, fake_condition[rows])

    def discriminate_both(self, x: Tensor, x_fake: Tensor, b: MicroBatch) -> Iterable[tuple[Tensor, Tensor]]:
        """Return D's logits and features of real samples, then those of generated ones."""
        if not self._joint:
            return self.discriminate(x, b.condition), self.discriminate(x_fake, b.fake_condition)
        both = self.discriminate(torch.cat([x, x_fake]), torch.cat([b.condition, b.fake_condition]))
        return zip(*(part.chunk(2) for part in both), strict=True)

    def step(self, b: MicroBatch, fake: Tensor, real_logits: Tensor, fake_logits: Tensor) -> DiscriminatorStep:
        """Return what the regularizers of D may look at in this update."""
        return DiscriminatorStep(
            index=self.counts.index,
            real=b.real,
            condition=b.condition,
            fake=fake,
            fake_condition=b.fake_condition,
            real_logits=real_logits,
            fake_logits=fake_logits,
            discriminator=lambda x, condition: self.discriminate(self.augmented(b, x, "real"), condition)[0],
            eager_discriminator=lambda x, condition: self.discriminator(self.augmented(b, x, "real"), condition),
            uniform=lambda purpose, draws: self.uniform(b, draws, purpose),
            mean=self.mean,
        )

    def augmented(self, b: MicroBatch, x: Tensor, purpose: str) -> Tensor:
        """Return samples as D gets to see them."""
        if self.augment is None:
            return x
        changed: Tensor = self.augment(x, self.uniform(b, self.augment.draws, "augment " + purpose))
        return changed

    def adapt(self, real_logits: Tensor) -> dict[str, Tensor]:
        """Let the augmentation follow how D stands; return what is to be recorded of it."""
        if self.augment is None:
            return {}
        margin, size = real_logits - (self.loss.undecided or 0.0), len(real_logits) * self.trainer.world_size
        return self.augment.adapt(margin, self.counts.index, self.mean, size)

    def uniform(self, b: MicroBatch, draws: int, purpose: str) -> Tensor:
        """Draw uniform numbers (B, draws) for a micro-batch: its rows of those that are drawn for the whole batch."""
        return self.rows(lambda count, stream: torch.rand(count, draws, generator=stream), b.size, purpose)[b.rows]

    def statistics(self) -> dict[str, Tensor]:
        """Return how the players stood in their last updates."""
        assert self._logits is not None
        return gan_statistics(self.generator, self.discriminator, self.loss, *self._logits)


def mean_of(losses: list[tuple[float, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Return the means of named scalars over the pieces of a batch, each with its share."""
    if len(losses) == 1:
        return losses[0][1]
    return {name: torch.stack([share * parts[name].detach() for share, parts in losses]).sum() for name in losses[0][1]}


def require_grad(parameters: list[nn.Parameter], required: bool) -> None:
    """Switch the gradients of all ``parameters`` on or off."""
    for parameter in parameters:
        parameter.requires_grad = required
