"""Variational autoencoders (Kingma & Welling 2014; conditional: Sohn et al. 2015, equation 2).

    L(x, c) = -E_{q(z|x,c)} log p(x | z, c) + beta * KL(q(z | x, c) || p(z | c))

in nats, summed over pixels and averaged over samples. beta = 1 is the negative evidence lower bound, beta > 1 the
beta-VAE (Higgins et al. 2017), beta = 0 a plain autoencoder; the condition decides between VAE and CVAE. The prior p(z | c)
is N(0, I) or learned with the rest (`condgen.training.priors`). A trained model's likelihood is bounded more tightly by the
mean of K importance weights (Burda et al. 2016, equation 8):

    log p(x | c) >= E_{z_1 .. z_K ~ q} log 1/K sum_k p(x | z_k, c) p(z_k | c) / q(z_k | x, c)
"""

import math
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.losses.likelihood import log_normal
from condgen.losses.reconstruction import ReconstructionLoss
from condgen.spaces import Images, Space
from condgen.training.base import Batch, GenerativeModel, MakeOptimizer, check_optimizer
from condgen.training.priors import MakePrior, StandardNormal
from condgen.training.schedules import Schedule, set_rates


class VAE(GenerativeModel):
    """A (conditional) variational autoencoder.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: the reconstruction loss.
        encoder: makes q from (latent, condition, space); q(x, c) is (mean, log-variance), each (B, latent).
        decoder: makes p from (latent, condition, space, extra); p(z, c) is the raw outputs of the loss, (B, D + extra).
        latent: length of the code z.
        optimizer: makes the optimizer from the parameters.
        prior: makes p(z | c) from (latent, condition); None: N(0, I).
        beta: weight of the KL divergence; 0 makes a deterministic autoencoder.
        warmup: updates over which the trained beta grows linearly from 0; the reported objective has the full beta.
        decode_condition: the decoder also reconstructs the condition's vector, as part of the same loss.
        decay: factor of the learning rate by the share of the training that is over; None: it stays.
        temperature: factor of the noise that samples are made of; 1: as the prior says.
        compile: compile encoder and decoder (torch.compile).
        expects: the shape that the model was published for; None takes any.
        seed: decides every random number of the training.
    """

    objective = "val/loss"

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: ReconstructionLoss,
        encoder: Callable[..., nn.Module],
        decoder: Callable[..., nn.Module],
        latent: int,
        optimizer: MakeOptimizer,
        prior: MakePrior | None = None,
        beta: float = 1.0,
        warmup: int = 0,
        decode_condition: bool = False,
        decay: Schedule | None = None,
        temperature: float = 1.0,
        compile: bool = False,
        expects: Sequence[int] | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, expects, seed)
        if not isinstance(loss, ReconstructionLoss):
            raise CondgenError(
                f"A VAE needs a reconstruction loss and {type(loss).__name__} is none: "
                "choose loss=bernoulli, loss=gaussian or loss=squared_error."
            )
        if loss.density and not isinstance(space, Images):
            kind, key = type(space).__name__.lower(), "discretized" if loss.density == "levels" else "binarize"
            raise CondgenError(f"loss.{key} is for the 256 levels of a pixel, and {kind} have none: set it to false.")
        if latent < 1 or beta < 0 or warmup < 0:
            raise CondgenError("model.latent must be at least 1, model.beta and model.warmup at least 0.")
        if prior and not beta:
            raise CondgenError("A prior is learned by the KL divergence, which model.beta=0 leaves out: set prior=none.")
        self.loss = loss
        self.latent = latent
        self.encoder = encoder(latent=latent, condition=condition, space=space)
        self.decoder = decoder(latent=latent, condition=condition, space=space, extra=condition.width * decode_condition)
        self.code_prior = prior(latent=latent, condition=condition) if prior else StandardNormal()
        self.optimizer = check_optimizer("optimizer", optimizer)
        self.beta = beta
        self.warmup = warmup
        self.decode_condition = decode_condition
        self.decay = decay
        self.usual = {} if temperature == 1 else {"temperature": temperature}
        self.tune()
        self._validation: list[Tensor] = []
        self._mean: Tensor | None = None
        if compile:
            self.encoder.compile()
            self.decoder.compile()

    def configure_optimizers(self) -> Optimizer:
        """One optimizer for encoder, decoder, prior and loss."""
        return self.optimizer(self.parameters())

    def terms(self, x: Tensor, condition: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstruction loss and KL divergence (or its estimate from one draw) of each sample in nats, each (B,)."""
        mean, log_variance = self.posterior(x, condition)
        self._mean = mean.detach()  # for `code_variance`
        z = mean + (0.5 * log_variance).exp() * noise if self.beta else mean
        with torch.autocast(x.device.type, enabled=False):  # 16 bits are too coarse for densities
            kl = self.code_prior.divergence(mean, log_variance, z, condition)
        return self.reconstruction(x, z, condition), kl

    def posterior(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x, c), each float32 (B, latent)."""
        mean, log_variance = self.encoder(x, condition)
        return mean.float(), log_variance.float()

    def reconstruction(self, x: Tensor, z: Tensor, condition: Tensor) -> Tensor:
        """Return -log p(x | z, c) in nats, (B,)."""
        target = (x.flatten(1) + 1) / 2
        if self.decode_condition:
            target = torch.cat([target, self.condition.vector(condition)], dim=1)
        losses: Tensor = self.loss(self.decoder(z, condition).float(), target)
        return losses

    def noise(self, condition: Tensor, purpose: str, batch: int) -> Tensor:
        """Draw the noise (B, latent) of a batch."""
        return self.rows(self.prior, len(condition), purpose, batch)

    def uniform(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw uniform numbers (count, *shape), which decide drawn pixels."""
        return torch.rand(count, *self.space.shape, generator=generator)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the objective with the present, warming beta; record it with the full one."""
        if self.decay:
            set_rates(self.trainer.optimizers, self.decay(self.progress()))
        x, condition = batch
        x = self.loss.observed(x, lambda: self.rows(self.uniform, len(x), "bits", batch_idx))
        reconstruction, kl = (term.mean() for term in self.terms(x, condition, self.noise(condition, "noise", batch_idx)))
        self.record(loss=reconstruction.detach() + self.beta * kl.detach(), reconstruction=reconstruction, kl=kl)
        beta = self.beta * min(1.0, (self.global_step + 1) / self.warmup) if self.warmup else self.beta
        return reconstruction + beta * kl

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the terms of the same objective over the validation part, with the same noise in every epoch."""
        x, condition = batch
        x = self.loss.observed(x, lambda: self.fixed_rows(self.uniform, len(x), "validation bits", batch_idx))
        noise = self.fixed_rows(self.prior, len(x), "validation", batch_idx)
        reconstruction, kl = self.terms(x, condition, noise)
        assert self._mean is not None
        sums = torch.stack([reconstruction.sum(), kl.sum(), reconstruction.new_tensor(float(len(x)))])
        mean = self._mean.double()  # (B, latent)
        self._validation.append(torch.cat([sums.double(), mean.sum(0), mean.square().sum(0)]))

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective, and bits per dimension where the likelihood is one of discrete pixels."""
        if self.trainer.sanity_checking:
            self._validation = []
            return
        sums = self.trainer.strategy.reduce(torch.stack(self._validation).sum(0), reduce_op="sum")
        self._validation = []
        reconstruction, kl = (sums[:2] / sums[2]).tolist()
        first_moment, second_moment = (sums[3:] / sums[2]).chunk(2)
        self.code_variance = second_moment - first_moment.square()
        metrics = {"val/loss": reconstruction + self.beta * kl, "val/reconstruction": reconstruction, "val/kl": kl}
        if self.density == "levels" and self.beta == 1:
            metrics["val/bits_per_dim"] = (reconstruction + kl) / (math.log(2) * prod(self.space.shape))
        self.log_dict(metrics, logger=False)
        self.publish(metrics)

    # --- likelihood ---

    @property
    def density(self) -> str | None:
        """What the loss gives probabilities of, where all of the objective is about that."""
        return self.loss.density if self.beta and not self.decode_condition else None

    def likelihood(self, x: Tensor, condition: Tensor, stream: torch.Generator, draws: int) -> dict[str, Tensor]:
        """Return ``elbo`` and ``iwae``, from the same ``draws`` codes of each sample, and the latter in ``bits_per_dim``."""
        x = self.loss.observed(x, lambda: self.uniform(len(x), stream).to(x.device))
        mean, log_variance = self.posterior(x, condition)
        weights = []
        for _ in range(draws):
            z = mean + (0.5 * log_variance).exp() * self.prior(len(x), stream).to(x.device)
            ratio = self.code_prior.log_density(z, condition) - log_normal(z, mean, log_variance)
            weights.append(ratio - self.reconstruction(x, z, condition))
        table = torch.stack(weights).double()  # (draws, B)
        iwae = table.logsumexp(0) - math.log(draws)
        return {"elbo": table.mean(0), "iwae": iwae, "bits_per_dim": -iwae / (math.log(2) * prod(self.space.shape))}

    # --- sampling ---

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the noise u ~ N(0, I) of codes, (count, latent)."""
        return torch.randn(count, self.latent, generator=generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return the mean of p(x | z, c) at the code z of the prior that noise (B, latent) becomes."""
        outputs = self.decoder(self.code_prior(z, condition), condition)[:, : prod(self.space.shape)]
        return self.loss.mean(outputs).view(-1, *self.space.shape) * 2 - 1
