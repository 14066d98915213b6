"""Conditional generative adversarial networks (Goodfellow et al. 2014; conditional: Mirza & Osindero 2014, equation 2).

    min_G max_D  E_{x, c ~ data} log D(x, c) + E_{z ~ N(0, I), c} log(1 - D(G(z, c), c))

What replaces the two logarithms is the loss's business, how c enters is the networks', what else a player has to heed the
regularizers'. Who is updated when, and on which samples, `condgen.training.alternation` says.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise

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
from condgen.training.compiled_gan import CompiledPlayers
from condgen.training.gan_checks import (
    check_augment,
    check_discriminator,
    check_loss,
    check_private,
    check_regularizers,
    check_start,
)
from condgen.training.options import Options
from condgen.training.private import PrivateTraining, require_apart

Losses = tuple[Tensor, dict[str, Tensor]]
"""A player's loss, and the parts of it that are recorded, by name; scalars."""


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

    mechanism = "steps"
    steps_compile = True

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
        self._logits: list[tuple[Tensor, Tensor]] = []  # of real and generated samples in D's last update
        self.keep_average()
        self.discriminate = self.discriminator.logits_and_features
        self._players: CompiledPlayers | None = None  # where the whole step is compiled
        if self.options.networks_compiled:
            self.options.compiled(self.generator.network)
            self.discriminate = torch.compile(self.discriminate, mode=self.options.compile_mode)

    def configure_optimizers(self) -> list[Optimizer]:
        """G's optimizer, then D's."""
        return [self.generator_optimizer(self.generator.parameters()), self.discriminator_optimizer(self._d_parameters)]

    # --- a training step ---

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Update D, and G after every ``discriminator_steps`` batches (Goodfellow et al. 2014, algorithm 1)."""
        if self._players:
            self.record(**self.compiled_step(self._players, batch))
            return
        losses: dict[str, Tensor] = {}
        for player, micro_batches in self.turns(batch):
            update = self.update_discriminator if player == "discriminator" else self.update_generator
            losses |= update(micro_batches)
        self.record(**losses)

    def start_compiled(self) -> None:
        """See `Training.start_compiled`."""
        self._players = CompiledPlayers(self, self.optimizers(use_pl_optimizer=False))  # type: ignore[arg-type]

    def compiled_step(self, compiled: CompiledPlayers, batch: Batch) -> dict[str, Tensor]:
        """Do a whole step at once and return the losses; an update of G counts as Lightning's optimizer would count it."""
        order = players(self.alternation, self.counts.batches)
        counted = self.optimizers()[0] if "generator" in order else None  # type: ignore[index]
        if counted:
            counted._on_before_step()
        losses = compiled(order, *batch)
        if counted:
            counted._on_after_step()
            self.count_update()
        return losses

    def discriminator_loss(self, b: MicroBatch) -> Losses:
        """Return D's loss: the adversarial one, that of its second head, and the penalties."""
        fake = b.fake.detach().to(b.real.dtype)  # under autocast G's samples are bf16, and so would penalties on them be
        x, x_fake = self.augmented(b, b.real, "real"), self.augmented(b, fake, "fake")
        (real_logits, real_features), (fake_logits, fake_features) = self.discriminate_both(x, x_fake, b)
        self._logits.append((real_logits.detach(), fake_logits.detach()))
        loss = self.loss.discriminator_loss(real_logits, fake_logits)
        parts = {"loss_d": loss}
        if self.auxiliary:
            found, extra = self.auxiliary.discriminator_losses(real_features, b.condition, fake_features, b.fake_condition)
            parts, loss = parts | found, loss + extra
        if self.regularizers.of_discriminator:
            found, penalty = self.regularizers.penalties(self.step(b, fake, real_logits, fake_logits))
            parts, loss = parts | found, loss + penalty
        return loss, parts

    def generator_loss(self, b: MicroBatch) -> Losses:
        """Return G's loss: likewise. Real samples matter only to a paired loss and to distances."""
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
        self._logits = []
        if self.privacy:
            losses = self.private_gradients(micro_batches, self.privacy)
        else:
            losses = self.accumulate(self.discriminator_loss, micro_batches)
        self.average_over_processes(self._d_parameters)
        self.clip(self._d_parameters)
        optimizer.step()
        return losses | self.adapt_augment()

    def update_generator(self, micro_batches: Iterable[MicroBatch]) -> dict[str, Tensor]:
        """Update G once, and its average, and return its losses."""
        optimizer = self.optimizers()[0]  # type: ignore[index]
        optimizer.zero_grad()
        require_grad(self._d_parameters, False)  # D's own gradients are not needed: a third of its backward pass saved
        losses = self.accumulate(self.generator_loss, micro_batches)
        require_grad(self._d_parameters, True)
        self.average_over_processes(self.generator.parameters(), self.generator)
        self.clip(self.generator.parameters())
        optimizer.step()
        self.count_update()
        return losses

    # --- what a step stands on ---

    def turns(self, batch: Batch) -> Iterator[tuple[Player, Iterable[MicroBatch]]]:
        """Return who is updated on a batch, in order, each with its micro-batches."""
        order = players(self.alternation, self.counts.batches)
        public = self.privacy and self.privacy.placeholder(batch)  # G's update sees no image, not even how many there are
        shared = not public and self.alternation.micro_batches == 1 and self.alternation.reuse_fake and len(order) == 2
        both = list(self.micro_batches(batch, "noise", with_gradient=True)) if shared else []
        for place, player in enumerate(order):
            purpose = "noise" if place == 0 or self.alternation.reuse_fake else "second noise"
            seen = public if public and player == "generator" else batch
            yield player, both or self.micro_batches(seen, purpose, with_gradient=player == "generator")

    def micro_batches(self, batch: Batch, purpose: str, with_gradient: bool) -> Iterator[MicroBatch]:
        """Generate beside each piece of the batch as many samples, only now that they are asked for."""
        x, condition = batch
        z, fake_condition = self.drawn(x, condition, purpose)
        count = max(self.alternation.micro_batches, len(self.privacy.pieces(len(x))) if self.privacy else 1)
        for rows in pieces(len(x), count):
            with torch.set_grad_enabled(with_gradient):
                fake = self.generator(z[rows], fake_condition[rows])
            yield MicroBatch(rows, len(x), x[rows], condition[rows], fake, fake_condition[rows])

    def drawn(self, x: Tensor, condition: Tensor, purpose: str) -> tuple[Tensor, Tensor]:
        """Draw noise, and what is asked for, for as many samples as a batch has."""
        z = self.rows(self.generator.latents, len(x), purpose)
        if self.alternation.fake_condition == "random":
            return z, self.rows(self.condition.draw, len(x), purpose + " condition")
        return z, condition

    def accumulate(self, loss_of: Callable[[MicroBatch], Losses], micro_batches: Iterable[MicroBatch]) -> dict[str, Tensor]:
        """Add up the gradients of a loss over the micro-batches, each by its share, and return the means of its parts."""
        found = []
        for b in micro_batches:
            (loss, parts), share = loss_of(b), len(b.real) / b.size
            self.manual_backward(loss if share == 1 else loss * share)
            found.append((share, parts))
        if len(found) == 1:
            return found[0][1]
        return {name: torch.stack([share * parts[name].detach() for share, parts in found]).sum() for name in found[0][1]}

    def private_gradients(self, micro_batches: Iterable[MicroBatch], privacy: PrivateTraining) -> dict[str, Tensor]:
        """Give D noisy, clipped gradients, of each real sample together with the generated one beside it."""
        pieces = (partial(self.sample_losses, b) for b in micro_batches)
        gradients, loss = privacy.gradients(self._d_parameters, pieces)
        for parameter, gradient in zip(self._d_parameters, gradients, strict=True):
            parameter.grad = gradient
        return {"loss_d": loss}

    def sample_losses(self, b: MicroBatch) -> Tensor:
        """Return D's loss for each real sample and its generated neighbour, (B,)."""
        (real_logits, _), (fake_logits, _) = self.discriminate_both(b.real, b.fake.detach(), b)
        self._logits.append((real_logits.detach(), fake_logits.detach()))
        losses: Tensor = torch.vmap(self.loss.discriminator_loss)(real_logits[:, None], fake_logits[:, None])
        return losses

    def private_networks(self) -> list[nn.Module]:
        """See `Training.private_networks`: D alone; what G learns, it learns from D."""
        check_private(self.loss, self.regularizers, self.auxiliary, self.augment, self.alternation)
        require_apart([self.generator])  # G's batch norm would keep how many images a step sampled
        return [self.discriminator]

    def alone(self, x: Tensor, condition: Tensor, number: int = 0) -> Tensor:
        """See `Training.alone`: D's logit."""
        return self.discriminate(x, condition)[0]

    def discriminate_both(self, x: Tensor, x_fake: Tensor, b: MicroBatch) -> Iterable[tuple[Tensor, Tensor]]:
        """Return D's logits and features of real samples, then those of generated ones."""
        if not self._joint:
            return self.discriminate(x, b.condition), self.discriminate(x_fake, b.fake_condition)
        both = self.discriminate(torch.cat([x, x_fake]), torch.cat([b.condition, b.fake_condition]))
        return zip(*(part.chunk(2) for part in both), strict=True)

    def step(self, b: MicroBatch, fake: Tensor, real_logits: Tensor, fake_logits: Tensor) -> DiscriminatorStep:
        """Return what the regularizers of D may look at in this update."""
        return DiscriminatorStep(
            index=self.counts.batches - 1,
            real=b.real,
            condition=b.condition,
            fake=fake,
            fake_condition=b.fake_condition,
            real_logits=real_logits,
            fake_logits=fake_logits,
            discriminator=lambda x, condition: self.discriminate(self.augmented(b, x, "real"), condition)[0],
            eager_discriminator=lambda x, condition: self.discriminator(self.augmented(b, x, "real"), condition),
            uniform=lambda purpose, draws: self.uniform_of(b, draws, purpose),
            mean=self.mean,
        )

    def augmented(self, b: MicroBatch, x: Tensor, purpose: str) -> Tensor:
        """Return samples as D gets to see them."""
        if self.augment is None:
            return x
        changed: Tensor = self.augment(x, self.uniform_of(b, self.augment.draws, "augment " + purpose))
        return changed

    def adapt_augment(self) -> dict[str, Tensor]:
        """Let the augmentation follow how D stands; return what is to be recorded of it."""
        if self.augment is None:
            return {}
        real_logits = torch.cat([real for real, _ in self._logits])
        margin, size = real_logits - (self.loss.undecided or 0.0), len(real_logits) * self.trainer.world_size
        return self.augment.adapt(margin, self.counts.batches - 1, self.mean, size)

    def uniform(self, size: int, draws: int, purpose: str) -> Tensor:
        """Draw uniform numbers (size, draws) for a batch."""
        return self.rows(lambda count, stream: torch.rand(count, draws, generator=stream), size, purpose)

    def uniform_of(self, b: MicroBatch, draws: int, purpose: str) -> Tensor:
        """Return uniform numbers (B, draws) for a micro-batch: its rows of those that are drawn for the whole batch."""
        return b.uniform[purpose] if purpose in b.uniform else self.uniform(b.size, draws, purpose)[b.rows]

    def statistics(self) -> dict[str, Tensor]:
        """Return how the players stood in their last updates: gradient norms, D's accuracy, its loss beside that of a guess."""
        if not self._logits:  # a private step that sampled no image
            return {}
        real, fake = (torch.cat(column).float() for column in zip(*self._logits, strict=True))  # (B,) each
        norm_g, norm_d = gradient_norm(self.generator), gradient_norm(self.discriminator)
        found = {"gradient_norm_g": norm_g, "gradient_norm_d": norm_d, "gradient_ratio": norm_g / norm_d.clamp(min=1e-12)}
        found["logit_deviation"] = torch.cat([real, fake]).std()
        if self.loss.undecided is not None:
            undecided = torch.full_like(real, self.loss.undecided)
            found["accuracy_real"] = (real > undecided).float().mean()
            found["accuracy_fake"] = (fake <= undecided).float().mean()
            guessing = self.loss.discriminator_loss(undecided, undecided)
            found["relative_loss_d"] = self.loss.discriminator_loss(real, fake) / guessing
        return found


def gradient_norm(network: nn.Module) -> Tensor:
    """Return the Euclidean norm of all gradients of ``network`` together, those of its last update."""
    return nn.utils.get_total_norm([parameter.grad for parameter in network.parameters() if parameter.grad is not None])


def players(alternation: Alternation, number: int) -> list[Player]:
    """Return who is updated on batch ``number`` (1, 2, ...) of the run, in order."""
    if number % alternation.discriminator_steps:
        return ["discriminator"]
    return ["generator", "discriminator"] if alternation.order == "generator_first" else ["discriminator", "generator"]


def pieces(size: int, count: int) -> Iterator[slice]:
    """Return the rows of the ``count`` micro-batches, or fewer, of a batch of ``size`` samples; none is empty."""
    count = max(1, min(count, size))
    return (slice(*ends) for ends in pairwise(size * i // count for i in range(count + 1)) if ends[0] < ends[1])


def require_grad(parameters: list[nn.Parameter], required: bool) -> None:
    """Switch the gradients of all ``parameters`` on or off."""
    for parameter in parameters:
        parameter.requires_grad = required
