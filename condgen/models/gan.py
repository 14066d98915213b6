"""Conditional generative adversarial networks (Goodfellow et al. 2014; conditional: Mirza & Osindero 2014, equation 2).

    min_G max_D  E_{x, c ~ data} log D(x, c) + E_{z ~ N(0, I), c} log(1 - D(G(z, c), c))

G and D take turns. What replaces the two logarithms is the loss's business, how c enters is the networks', what else D has to
heed the regularizers'.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from condgen.conditions import Condition
from condgen.ema import EMA
from condgen.errors import CondgenError
from condgen.losses.adversarial import AdversarialLoss
from condgen.losses.diffaugment import DiffAugment
from condgen.losses.regularizers import Regularizer, Turn
from condgen.models.base import Batch, GenerativeModel, MakeOptimizer, check_optimizer
from condgen.models.gan_checks import check_augment, check_choices, check_regularizers, contains
from condgen.models.schedules import Schedule
from condgen.spaces import Space


class GAN(GenerativeModel):
    """A (conditional) GAN.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: the two players' objectives.
        generator: makes G from (latent, condition, space); G(z, c) is a batch of samples.
        discriminator: makes D from (condition, space); D(x, c) is a batch of logits.
        latent: length of the noise z ~ N(0, I).
        generator_optimizer: makes G's optimizer from its parameters.
        discriminator_optimizer: makes D's optimizer from its parameters.
        discriminator_steps: updates of D, each on a new batch, for each update of G.
        order: which player moves first on a batch that both move on.
        reuse_fake: both players see the same generated batch; False draws a new one for the second player.
        fake_condition: generated samples are asked for the conditions of the real ``batch``, or for ``random`` ones.
        ema: weight of the past in the average of G that is sampled from; 0 samples from G itself.
        regularizers: what is added to D's loss, by names under which it is recorded.
        discriminator_augment: changes all samples that D sees, real and generated, in both players' turns; None: nothing.
        gradient_clip: largest norm of each player's gradients; None: any.
        decay: factor of both learning rates by the share of the training that is over; None: they stay.
        compile: compile G and D (torch.compile); the first steps are slow, the rest faster.
        expects: the shape that the model was published for; None takes any.
        seed: decides every random number of the training.
    """

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: AdversarialLoss,
        generator: Callable[..., nn.Module],
        discriminator: Callable[..., nn.Module],
        latent: int,
        generator_optimizer: MakeOptimizer,
        discriminator_optimizer: MakeOptimizer,
        discriminator_steps: int = 1,
        order: Literal["discriminator_first", "generator_first"] = "discriminator_first",
        reuse_fake: bool = True,
        fake_condition: Literal["batch", "random"] = "batch",
        ema: float = 0.0,
        regularizers: Mapping[str, Regularizer | None] | None = None,
        discriminator_augment: DiffAugment | None = None,
        gradient_clip: float | None = None,
        decay: Schedule | None = None,
        compile: bool = False,
        expects: Sequence[int] | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, expects, seed)
        check_choices(loss, latent, discriminator_steps, order, fake_condition, ema, gradient_clip)
        self.automatic_optimization = False
        self.loss = loss
        self.latent = latent
        self.generator = generator(latent=latent, condition=condition, space=space)
        self.discriminator = discriminator(condition=condition, space=space)
        self._judge = list(self.discriminator.parameters())
        # One pass over real and generated samples together is faster, unless batch norm would mix their statistics.
        self._joint = not contains(self.discriminator, _BatchNorm)
        self.regularizers = check_regularizers(regularizers or {}, loss, self.discriminator)
        self.augment = check_augment(discriminator_augment, loss, space)
        self.gradient_clip = gradient_clip
        self.decay = decay
        self.ema = EMA(self.generator, ema) if ema else None
        self.generator_optimizer = check_optimizer("generator_optimizer", generator_optimizer)
        self.discriminator_optimizer = check_optimizer("discriminator_optimizer", discriminator_optimizer)
        self.discriminator_steps = discriminator_steps
        self.generator_first = order == "generator_first"
        self.reuse_fake = reuse_fake
        self.fake_condition = fake_condition
        self._logits: tuple[Tensor, Tensor] | None = None
        if compile:  # in place: wrapping would rename every key of the checkpoint
            self.generator.compile()
            self.discriminator.compile()

    def configure_optimizers(self) -> list[Optimizer]:
        """G's optimizer, then D's."""
        generator = self.generator_optimizer(self.generator.parameters())
        return [generator, self.discriminator_optimizer(self.discriminator.parameters())]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One update of D and, after every ``discriminator_steps`` batches, one of G."""
        x, condition = batch
        if self.decay:
            set_rates(self.optimizers(use_pl_optimizer=False), self.decay(self.progress()))  # type: ignore[arg-type]
        moves_generator = (self.trainer.fit_loop.total_batch_idx + 1) % self.discriminator_steps == 0
        fake, asked = self.generate(condition, "noise", batch_idx, train=moves_generator)
        if not moves_generator:
            self.record(**self.discriminator_step(x, condition, fake, asked))
            return
        if self.generator_first:
            loss_g = self.generator_step(x, condition, fake, asked)
            if not self.reuse_fake:
                fake, asked = self.generate(condition, "second noise", batch_idx, train=False)
            values = self.discriminator_step(x, condition, fake, asked)
        else:
            values = self.discriminator_step(x, condition, fake, asked)
            if not self.reuse_fake:
                fake, asked = self.generate(condition, "second noise", batch_idx, train=True)
            loss_g = self.generator_step(x, condition, fake, asked)
        self.record(**values, loss_g=loss_g)

    def generate(self, condition: Tensor, purpose: str, batch: int, train: bool) -> Batch:
        """Generate a batch for training: samples and the conditions they were asked for."""
        size = len(condition)
        z = self.rows(self.prior, size, purpose, batch)
        if self.fake_condition == "random":
            condition = self.rows(self.condition.draw, size, purpose + " condition", batch)
        with torch.set_grad_enabled(train):
            return self.generator(z, condition), condition

    def discriminator_step(self, x: Tensor, condition: Tensor, fake: Tensor, asked: Tensor) -> dict[str, Tensor]:
        """Update D once and return its loss, and what else is to be recorded."""
        # The raw optimizer: only what the wrapper steps counts as an update, so that the step axis is G's.
        optimizer = self.optimizers(use_pl_optimizer=False)[1]  # type: ignore[index]
        fake = fake.detach().to(x.dtype)  # under autocast G's samples are bf16, and so would penalties on them be
        seen, seen_fake = self.seen(x, "real"), self.seen(fake, "fake")
        if self._joint:
            real_logits, fake_logits = self.discriminator(torch.cat([seen, seen_fake]), torch.cat([condition, asked])).chunk(2)
        else:
            real_logits, fake_logits = self.discriminator(seen, condition), self.discriminator(seen_fake, asked)
        self._logits = real_logits.detach(), fake_logits.detach()  # for `vitals`
        objective = loss = self.loss.discriminator_loss(real_logits, fake_logits)
        values = {"loss_d": loss}
        if self.regularizers:
            turn = self.turn(x, condition, fake, asked, real_logits, fake_logits)
            penalties, charge = self.regularizers(turn)
            values |= penalties
            objective = loss + charge
        optimizer.zero_grad()
        self.manual_backward(objective)
        self.clip(self._judge)
        optimizer.step()
        if self.augment is not None:
            margin = self._logits[0] - (self.loss.undecided or 0.0)
            size = len(x) * self.trainer.world_size
            values |= self.augment.adapt(margin, self.trainer.fit_loop.total_batch_idx, self.mean, size)
        return values

    def turn(self, x: Tensor, condition: Tensor, fake: Tensor, asked: Tensor, real_logits: Tensor, fake_logits: Tensor) -> Turn:
        """Return what the regularizers may look at in this turn of D."""
        return Turn(
            number=self.trainer.fit_loop.total_batch_idx,
            real=x,
            condition=condition,
            fake=fake,
            asked=asked,
            real_logits=real_logits,
            fake_logits=fake_logits,
            judge=lambda x, condition: self.discriminator(self.seen(x, "real"), condition),
            judge_eagerly=lambda x, condition: self.discriminator.forward(self.seen(x, "real"), condition),
            uniform=lambda purpose, draws: self.uniform(len(x), draws, purpose),
            mean=self.mean,
        )

    def generator_step(self, x: Tensor, condition: Tensor, fake: Tensor, asked: Tensor) -> Tensor:
        """Update G once, and its average, and return its loss. Real samples matter only to a paired loss."""
        optimizer = self.optimizers()[0]  # type: ignore[index]
        require_grad(self._judge, False)  # D's own gradients are not needed: a third of its backward pass saved
        real_logits = self.discriminator(self.seen(x, "paired"), condition) if self.loss.paired else None
        loss = self.loss.generator_loss(self.discriminator(self.seen(fake, "generator"), asked), real_logits)
        optimizer.zero_grad()
        self.manual_backward(loss)
        require_grad(self._judge, True)
        self.clip(self.generator.parameters())
        optimizer.step()
        if self.ema:
            self.ema.update(self.global_step)
        return loss

    def seen(self, x: Tensor, purpose: str) -> Tensor:
        """Return samples as D gets to see them."""
        if self.augment is None:
            return x
        augmented: Tensor = self.augment(x, self.uniform(len(x), self.augment.draws, "augment " + purpose))
        return augmented

    def uniform(self, size: int, draws: int, purpose: str) -> Tensor:
        """Draw uniform numbers (size, draws) for this batch."""
        batch = self.trainer.fit_loop.batch_idx
        return self.rows(lambda count, stream: torch.rand(count, draws, generator=stream), size, purpose, batch)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of ``value`` over all processes."""
        mean: Tensor = self.trainer.strategy.reduce(value, reduce_op="mean")
        return mean

    def clip(self, parameters: Iterable[nn.Parameter]) -> None:
        """Scale the gradients of ``parameters`` down to the largest norm that is allowed."""
        if self.gradient_clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.gradient_clip)

    def progress(self) -> float:
        """Return which share of the training lies behind, in [0, 1]; 0 while its length is still being planned."""
        trainer = self.trainer
        ends = []  # in batches
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            ends.append(trainer.max_epochs * trainer.num_training_batches)
        if trainer.max_steps >= 0:
            ends.append(trainer.max_steps * self.discriminator_steps)
        if self.planning:
            return 0.0
        if not ends:
            raise CondgenError("model.decay needs to know the end: set trainer.max_epochs or trainer.max_steps.")
        return min(1.0, trainer.fit_loop.total_batch_idx / min(ends))

    def vitals(self) -> dict[str, Tensor]:
        """Return how the game stood in the last updates of both players, scalars; what they mean, `Diagnosis` says."""
        assert self._logits is not None
        real, fake = (logits.float() for logits in self._logits)
        norm_g, norm_d = (gradient_norm(network) for network in (self.generator, self.discriminator))
        vitals = {"gradient_norm_g": norm_g, "gradient_norm_d": norm_d, "gradient_ratio": norm_g / norm_d.clamp(min=1e-12)}
        vitals["logit_deviation"] = torch.cat([real, fake]).std()
        if self.loss.undecided is not None:
            undecided = torch.full_like(real, self.loss.undecided)
            vitals["accuracy_real"] = (real > undecided).float().mean()
            vitals["accuracy_fake"] = (fake <= undecided).float().mean()
            chance = self.loss.discriminator_loss(undecided, undecided)
            vitals["relative_loss_d"] = self.loss.discriminator_loss(real, fake) / chance
        return vitals

    @property
    def weights(self) -> str:
        """ "ema" where an average of G is kept and wanted, else "raw"."""
        return "ema" if self.ema and self.averaged else "raw"

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw z ~ N(0, I), (count, latent)."""
        return torch.randn(count, self.latent, generator=generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return G(z, c), by default of the average of G where one is kept."""
        samples: Tensor = (self.ema.network if self.ema and self.averaged else self.generator)(z, condition)
        return samples


def require_grad(parameters: list[nn.Parameter], required: bool) -> None:
    """Switch the gradients of all ``parameters`` on or off."""
    for parameter in parameters:
        parameter.requires_grad = required


def gradient_norm(network: nn.Module) -> Tensor:
    """Return the Euclidean norm of all gradients of ``network`` together, those of its last update."""
    return nn.utils.get_total_norm([parameter.grad for parameter in network.parameters() if parameter.grad is not None])


def set_rates(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set all learning rates to ``factor`` times those at the start."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])  # kept in the checkpoint
