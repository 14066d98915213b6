"""Conditional generative adversarial networks (Goodfellow et al. 2014; conditional: Mirza & Osindero 2014, equation 2).

    min_G max_D  E_{x, c ~ data} log D(x, c) + E_{z ~ N(0, I), c} log(1 - D(G(z, c), c))

G and D take turns. What replaces the two logarithms is the loss's business, how c enters is the networks'.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from condgen.conditions import Condition
from condgen.ema import EMA
from condgen.errors import CondgenError
from condgen.losses.adversarial import AdversarialLoss
from condgen.models.base import Batch, GenerativeModel, MakeOptimizer, check_optimizer
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
        compile: bool = False,
        expects: Sequence[int] | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, expects, seed)
        if not isinstance(loss, AdversarialLoss):
            raise CondgenError(
                f"A GAN needs an adversarial loss and {type(loss).__name__} is none: choose loss=bce, minimax, lsgan or hinge."
            )
        if latent < 1 or discriminator_steps < 1:
            raise CondgenError("model.latent and model.discriminator_steps must be at least 1.")
        if not 0 <= ema < 1:
            raise CondgenError(f"model.ema must lie in [0, 1), not {ema}; 0 switches the average off.")
        if order not in ("discriminator_first", "generator_first"):
            raise CondgenError(f"model.order must be discriminator_first or generator_first, not {order}.")
        if fake_condition not in ("batch", "random"):
            raise CondgenError(f"model.fake_condition must be batch or random, not {fake_condition}.")
        self.automatic_optimization = False
        self.loss = loss
        self.latent = latent
        self.generator = generator(latent=latent, condition=condition, space=space)
        self.discriminator = discriminator(condition=condition, space=space)
        self._judge = list(self.discriminator.parameters())
        # One pass over real and generated samples together is faster, unless batch norm would mix their statistics.
        self._joint = not any(isinstance(module, _BatchNorm) for module in self.discriminator.modules())
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
        moves_generator = (self.trainer.fit_loop.total_batch_idx + 1) % self.discriminator_steps == 0
        fake, asked = self.generate(condition, "noise", batch_idx, train=moves_generator)
        if not moves_generator:
            self.record(loss_d=self.discriminator_step(x, condition, fake, asked))
            return
        if self.generator_first:
            loss_g = self.generator_step(fake, asked)
            if not self.reuse_fake:
                fake, asked = self.generate(condition, "second noise", batch_idx, train=False)
            loss_d = self.discriminator_step(x, condition, fake, asked)
        else:
            loss_d = self.discriminator_step(x, condition, fake, asked)
            if not self.reuse_fake:
                fake, asked = self.generate(condition, "second noise", batch_idx, train=True)
            loss_g = self.generator_step(fake, asked)
        self.record(loss_d=loss_d, loss_g=loss_g)

    def generate(self, condition: Tensor, purpose: str, batch: int, train: bool) -> Batch:
        """Generate a batch for training: samples and the conditions they were asked for."""
        size = len(condition)
        z = self.rows(self.prior, size, purpose, batch)
        if self.fake_condition == "random":
            condition = self.rows(self.condition.draw, size, purpose + " condition", batch)
        with torch.set_grad_enabled(train):
            return self.generator(z, condition), condition

    def discriminator_step(self, x: Tensor, condition: Tensor, fake: Tensor, asked: Tensor) -> Tensor:
        """Update D once and return its loss."""
        # The raw optimizer: only what the wrapper steps counts as an update, so that the step axis is G's.
        optimizer = self.optimizers(use_pl_optimizer=False)[1]  # type: ignore[index]
        fake = fake.detach()
        if self._joint:
            real_logits, fake_logits = self.discriminator(torch.cat([x, fake]), torch.cat([condition, asked])).chunk(2)
        else:
            real_logits, fake_logits = self.discriminator(x, condition), self.discriminator(fake, asked)
        self._logits = real_logits.detach(), fake_logits.detach()  # for `vitals`
        loss = self.loss.discriminator_loss(real_logits, fake_logits)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss

    def generator_step(self, fake: Tensor, asked: Tensor) -> Tensor:
        """Update G once, and its average, and return its loss."""
        optimizer = self.optimizers()[0]  # type: ignore[index]
        require_grad(self._judge, False)  # D's own gradients are not needed: a third of its backward pass saved
        loss = self.loss.generator_loss(self.discriminator(fake, asked))
        optimizer.zero_grad()
        self.manual_backward(loss)
        require_grad(self._judge, True)
        optimizer.step()
        if self.ema:
            self.ema.update(self.global_step)
        return loss

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
