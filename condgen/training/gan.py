"""Conditional generative adversarial networks (Goodfellow et al. 2014; conditional: Mirza & Osindero 2014, equation 2).

    min_G max_D  E_{x, c ~ data} log D(x, c) + E_{z ~ N(0, I), c} log(1 - D(G(z, c), c))

G and D take turns. What replaces the two logarithms is the loss's business, how c enters is the networks', what else D has to
heed the regularizers'.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from condgen.augment.diffaugment import DiffAugment
from condgen.conditions import Condition
from condgen.losses.adversarial import AdversarialLoss
from condgen.losses.auxiliary import Auxiliary
from condgen.losses.paired import PairedLoss
from condgen.losses.regularizers import Regularizer, Turn
from condgen.randomness import generator as keyed_generator
from condgen.spaces import Space
from condgen.training.base import BLOCK, Batch, GenerativeModel, MakeOptimizer, check_optimizer
from condgen.training.ema import EMA
from condgen.training.game import Game, mean_of, require_grad, vitals
from condgen.training.gan_checks import (
    check_augment,
    check_choices,
    check_discriminator,
    check_regularizers,
    check_start,
    check_terms,
)
from condgen.training.sampling import measure_statistics
from condgen.training.schedules import Schedule, set_rates
from condgen.training.updates import clip


class GAN(GenerativeModel):
    """A (conditional) GAN.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: the two players' objectives.
        generator: makes G from (latent, condition, space); G(z, c) is a batch of samples.
        discriminator: makes D from (condition, space), see `condgen.nets.layers.Discriminator`.
        latent: length of the noise z ~ N(0, I).
        generator_optimizer: makes G's optimizer from its parameters.
        discriminator_optimizer: makes D's optimizer from its parameters.
        discriminator_steps: updates of D, each on a new batch, for each update of G.
        order: which player moves first on a batch that both move on.
        reuse_fake: both players see the same generated batch; False draws a new one for the second player.
        fake_condition: generated samples are asked for the conditions of the real ``batch``, or for ``random`` ones.
        ema: weight of the past in the average of G that is sampled from; 0 samples from G itself.
        auxiliary: makes a second head of D from (features, condition), which says what a sample shows; None: none.
        terms: what is added to G's loss, by names under which it is recorded: distances to the real ``batch``.
        regularizers: what is added to D's loss, likewise.
        discriminator_augment: changes all samples that D sees, real and generated, in both players' turns; None: nothing.
        accumulate: pieces that a batch is worked through in, one after the other: less memory, the same gradients (but for
            batch norm, which sees a piece at a time).
        gradient_clip: largest norm of each player's gradients; None: any.
        decay: factor of both learning rates by the share of the training that is over; None: they stay.
        channels_last: keep images and weights of convolutions in this memory format, which some hardware prefers.
        compile: compile G and D (torch.compile); the first steps are slow, the rest faster. Or one of its modes, such as
            "reduce-overhead" (CUDA graphs).
        expects: the shape that the model was published for; None takes any.
        seed: decides every random number of the training.
    """

    KNOBS = (*GenerativeModel.KNOBS, "standing")

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
        auxiliary: Callable[..., Auxiliary] | None = None,
        terms: Mapping[str, PairedLoss | None] | None = None,
        regularizers: Mapping[str, Regularizer | None] | None = None,
        discriminator_augment: DiffAugment | None = None,
        accumulate: int = 1,
        gradient_clip: float | None = None,
        decay: Schedule | None = None,
        channels_last: bool = False,
        compile: bool | str = False,
        expects: Sequence[int] | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, expects, seed)
        check_choices(loss, latent, discriminator_steps, order, fake_condition, ema, accumulate, gradient_clip)
        self.automatic_optimization = False
        self.loss = loss
        self.latent = latent
        self.generator = generator(latent=latent, condition=condition, space=space)
        self.discriminator = check_discriminator(discriminator(condition=condition, space=space), condition)
        self.auxiliary = auxiliary(features=self.discriminator.head.features, condition=condition) if auxiliary else None
        self._judges = [*self.discriminator.parameters(), *(self.auxiliary.parameters() if self.auxiliary else ())]
        # One pass over real and generated samples together is faster, unless batch norm would mix their statistics.
        self._joint = not any(isinstance(module, _BatchNorm) for module in self.discriminator.modules())
        self.terms = check_terms(terms or {}, fake_condition)
        self.regularizers = check_regularizers(regularizers or {}, loss, self.discriminator)
        self.augment = check_augment(discriminator_augment, loss, space)
        check_start(condition, fake_condition, self.regularizers, self.augment)
        self.accumulate = accumulate
        self.gradient_clip = gradient_clip
        self.decay = decay
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            self.to(memory_format=torch.channels_last)
        self.ema = EMA(self.generator, ema) if ema else None
        self.generator_optimizer = check_optimizer("generator_optimizer", generator_optimizer)
        self.discriminator_optimizer = check_optimizer("discriminator_optimizer", discriminator_optimizer)
        self.discriminator_steps = self.batches_per_update = discriminator_steps
        self.generator_first = order == "generator_first"
        self.reuse_fake = reuse_fake
        self.fake_condition = fake_condition
        self._logits: tuple[Tensor, Tensor] | None = None
        self.judge = self.discriminator.judge
        if compile:  # G in place: wrapping it would rename every key of the checkpoint
            mode = compile if isinstance(compile, str) else None
            self.generator.compile(mode=mode)
            self.judge = torch.compile(self.judge, mode=mode)

    def configure_optimizers(self) -> list[Optimizer]:
        """G's optimizer, then D's."""
        return [self.generator_optimizer(self.generator.parameters()), self.discriminator_optimizer(self._judges)]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One update of D and, after every ``discriminator_steps`` batches, one of G."""
        if self.decay:
            set_rates(self.optimizers(use_pl_optimizer=False), self.decay(self.progress()))  # type: ignore[arg-type]
        players = [self.discriminator_step]
        if (self.trainer.fit_loop.total_batch_idx + 1) % self.discriminator_steps == 0:
            players.insert(0 if self.generator_first else 1, self.generator_step)
        shared = self.accumulate == 1 and self.reuse_fake and len(players) == 2
        games = list(self.games(batch, "noise", batch_idx, for_generator=True)) if shared else None
        values: dict[str, Tensor] = {}
        for place, player in enumerate(players):
            purpose = "noise" if place == 0 or self.reuse_fake else "second noise"
            own = self.games(batch, purpose, batch_idx, for_generator=player == self.generator_step)
            values |= player(games or own)
        self.record(**values)

    def games(self, batch: Batch, purpose: str, batch_idx: int, for_generator: bool) -> Iterator[Game]:
        """Generate beside each piece of the batch as many samples, only now that it is asked for."""
        x, condition = batch[0].contiguous(memory_format=self.format) if batch[0].dim() == 4 else batch[0], batch[1]
        size = len(x)
        z = self.rows(self.prior, size, purpose, batch_idx)
        asked = condition
        if self.fake_condition == "random":
            asked = self.rows(self.condition.draw, size, purpose + " condition", batch_idx)
        ends = sorted({size * i // self.accumulate for i in range(self.accumulate + 1)})
        for rows in (slice(*pair) for pair in pairwise(ends)):
            with torch.set_grad_enabled(for_generator):
                fake = self.condition.finish(self.generator(z[rows], asked[rows]), asked[rows])  # as `sample` does
            yield Game(rows, size, x[rows], condition[rows], fake, asked[rows])

    def discriminator_step(self, games: Iterable[Game]) -> dict[str, Tensor]:
        """Update D once and return its loss, and what else is to be recorded."""
        # The raw optimizer: only what the wrapper steps counts as an update, so that the step axis is G's.
        optimizer = self.optimizers(use_pl_optimizer=False)[1]  # type: ignore[index]
        optimizer.zero_grad()
        values, logits = [], []
        for game in games:
            objective, found, judged = self.discriminator_objective(game)
            self.manual_backward(objective * game.share if self.accumulate > 1 else objective)
            values.append((game.share, found))
            logits.append(judged)
        clip(self._judges, self.gradient_clip)
        optimizer.step()
        real, fake = (torch.cat(column) for column in zip(*logits, strict=True))
        self._logits = real, fake  # for `vitals`
        found = mean_of(values)
        if self.augment is not None:
            margin, size = real - (self.loss.undecided or 0.0), len(real) * self.trainer.world_size
            found |= self.augment.adapt(margin, self.trainer.fit_loop.total_batch_idx, self.mean, size)
        return found

    def discriminator_objective(self, game: Game) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Return what D lowers, its parts by name, and D's logits of real and generated samples, without gradient."""
        fake = game.fake.detach().to(game.x.dtype)  # under autocast G's samples are bf16, and so would penalties on them be
        seen, seen_fake = self.seen(game, game.x, "real"), self.seen(game, fake, "fake")
        if self._joint:
            judged = self.judge(torch.cat([seen, seen_fake]), torch.cat([game.condition, game.asked]))
            (real_logits, fake_logits), (h, fake_h) = (both.chunk(2) for both in judged)
        else:
            (real_logits, h), (fake_logits, fake_h) = self.judge(seen, game.condition), self.judge(seen_fake, game.asked)
        objective = loss = self.loss.discriminator_loss(real_logits, fake_logits)
        values = {"loss_d": loss}
        if self.auxiliary:
            losses, charge = self.auxiliary.of_discriminator(h, game.condition, fake_h, game.asked)
            values, objective = values | losses, objective + charge
        if self.regularizers:
            penalties, penalty = self.regularizers(self.turn(game, fake, real_logits, fake_logits))
            values, objective = values | penalties, objective + penalty
        return objective, values, (real_logits.detach(), fake_logits.detach())

    def turn(self, game: Game, fake: Tensor, real_logits: Tensor, fake_logits: Tensor) -> Turn:
        """Return what the regularizers may look at in this turn of D."""
        return Turn(
            number=self.trainer.fit_loop.total_batch_idx,
            real=game.x,
            condition=game.condition,
            fake=fake,
            asked=game.asked,
            real_logits=real_logits,
            fake_logits=fake_logits,
            judge=lambda x, condition: self.judge(self.seen(game, x, "real"), condition)[0],
            judge_eagerly=lambda x, condition: self.discriminator(self.seen(game, x, "real"), condition),
            uniform=lambda purpose, draws: self.uniform(game, draws, purpose),
            mean=self.mean,
        )

    def generator_step(self, games: Iterable[Game]) -> dict[str, Tensor]:
        """Update G once, and its average, and return its loss. Real samples matter only to a paired loss."""
        optimizer = self.optimizers()[0]  # type: ignore[index]
        optimizer.zero_grad()
        values = []
        require_grad(self._judges, False)  # D's own gradients are not needed: a third of its backward pass saved
        for game in games:
            paired = self.judge(self.seen(game, game.x, "paired"), game.condition)[0] if self.loss.paired else None
            logits, h = self.judge(self.seen(game, game.fake, "generator"), game.asked)
            objective = loss = self.loss.generator_loss(logits, paired)
            found = {"loss_g": loss}
            if self.auxiliary:
                found["auxiliary_g"] = shown = self.auxiliary(h, game.asked)
                objective = loss + self.auxiliary.generator_weight * shown
            if self.terms:
                distances, charge = self.terms(game.fake, game.x)
                found, objective = found | distances, objective + charge
            self.manual_backward(objective * game.share if self.accumulate > 1 else objective)
            values.append((game.share, found))
        require_grad(self._judges, True)
        clip(self.generator.parameters(), self.gradient_clip)
        optimizer.step()
        if self.ema:
            self.ema.update(self.global_step)
        return mean_of(values)

    def seen(self, game: Game, x: Tensor, purpose: str) -> Tensor:
        """Return samples as D gets to see them."""
        if self.augment is None:
            return x
        augmented: Tensor = self.augment(x, self.uniform(game, self.augment.draws, "augment " + purpose))
        return augmented

    def uniform(self, game: Game, draws: int, purpose: str) -> Tensor:
        """Draw uniform numbers (B, draws) for this game: its rows of those that are drawn for the whole batch."""
        batch = self.trainer.fit_loop.batch_idx
        drawn = self.rows(lambda count, stream: torch.rand(count, draws, generator=stream), game.size, purpose, batch)
        return drawn[game.rows]

    def vitals(self) -> dict[str, Tensor]:
        """Return how the game stood in the last updates of both players."""
        assert self._logits is not None
        return vitals(self.generator, self.discriminator, self.loss, *self._logits)

    @property
    def weights(self) -> str:
        """ "ema" where an average of G is kept and wanted, else "raw"."""
        return "ema" if self.ema and self.averaged else "raw"

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw z ~ N(0, I), (count, latent)."""
        return torch.randn(count, self.latent, generator=generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return G(z, c), by default of the average of G where one is kept."""
        samples: Tensor = self.sampler(z, condition)
        return samples

    @property
    def sampler(self) -> nn.Module:
        """G, or its average where one is kept and wanted."""
        return self.ema.network if self.ema and self.averaged else self.generator

    def tune(self, **knobs: float | str | None) -> None:
        """See `GenerativeModel.tune`; batch norm's statistics are measured here, at the truncation that is asked for."""
        super().tune(**knobs)
        if batches := self.knobs.get("standing"):

            def forward(i: int) -> None:
                stream = keyed_generator(self.seed, "standing statistics", i)
                self.draw(self.condition.draw(BLOCK, stream).to(self.device), stream)

            self.eval()
            measure_statistics(self.sampler, batches, forward)
