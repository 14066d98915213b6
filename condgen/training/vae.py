"""Variational autoencoders (Kingma & Welling 2014; conditional: Sohn et al. 2015, equation 2).

    L(x, c) = -E_{q(z|x,c)} log p(x | z, c) + beta * KL(q(z | x, c) || p(z | c))

in nats, summed over pixels and averaged over samples. beta = 1 is the negative evidence lower bound, beta > 1 the
beta-VAE (Higgins et al. 2017), beta = 0 a plain autoencoder; the condition decides between VAE and CVAE.
"""

import math
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.vae import VAEGenerator
from condgen.losses.reconstruction import ReconstructionLoss
from condgen.spaces import Space
from condgen.training.base import Batch, MakeOptimizer, check_optimizer
from condgen.training.options import Options
from condgen.training.single import Rows, SingleNetwork
from condgen.training.tally import Tally
from condgen.types import Count, NonNegative


class VAE(SingleNetwork):
    """The training of a (conditional) variational autoencoder.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: the reconstruction loss.
        generator: makes encoder, decoder and prior from (space, condition, loss), see `VAEGenerator`.
        optimizer: makes the optimizer from the parameters.
        beta: weight of the KL divergence; 0 makes a deterministic autoencoder.
        kl_warmup: updates over which the trained beta grows linearly from 0; the reported objective has the full beta.
        options: what every family can be told; None: the defaults of `Options`.
        seed: decides every random number of the training.
    """

    mechanism = "steps"
    steps_compile = True
    generator: VAEGenerator

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: ReconstructionLoss,
        generator: Callable[..., VAEGenerator],
        optimizer: MakeOptimizer,
        beta: NonNegative = 1.0,
        kl_warmup: Count = 0,
        options: Options | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, options, seed)
        self.generator = generator(space=space, condition=condition, loss=loss)
        if self.generator.learned_prior and not beta:
            raise CondgenError("A prior is learned by the KL divergence, which model.beta=0 leaves out: set prior=none.")
        self.make_optimizer = check_optimizer("optimizer", optimizer)
        self.beta = beta
        self.kl_warmup = kl_warmup
        self._tally = Tally()
        self.keep_average()
        self.options.compiled(self.generator.encoder, self.generator.decoder)

    # --- a training step ---

    def given(self, batch: Batch, draw: Rows) -> tuple[Tensor, ...]:
        """See `SingleNetwork.given`: the present, warming beta comes last."""
        x, condition = batch
        x = self.generator.loss.observed(x, lambda: draw(self.generator.uniform, "bits"))
        return x, condition, draw(self.generator.latents, "noise"), torch.tensor(self.present_beta)

    def losses_of(self, *given: Tensor) -> Tensor:
        """See `SingleNetwork.losses_of`."""
        x, condition, noise, beta = given
        reconstruction, kl, _ = self.terms(self.generator, x, condition, noise)
        return reconstruction + beta * kl

    def objective_of(self, *given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective with the present beta, and what is recorded: that with the full one, and its parts."""
        x, condition, noise, beta = given
        reconstruction, kl = (term.mean() for term in self.terms(self.generator, x, condition, noise)[:2])
        full = reconstruction.detach() + self.beta * kl.detach()
        return reconstruction + beta * kl, {"loss": full, "reconstruction": reconstruction, "kl": kl}

    @property
    def present_beta(self) -> float:
        """The weight of the KL divergence in this update."""
        return self.beta * min(1.0, (self.counts.updates + 1) / self.kl_warmup) if self.kl_warmup else self.beta

    def terms(self, vae: VAEGenerator, x: Tensor, condition: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return reconstruction loss and KL divergence (or its estimate from one draw) in nats, each (B,), and q's mean."""
        mean, log_variance = vae.posterior(x, condition)
        z = mean + (0.5 * log_variance).exp() * noise if self.beta else mean
        with torch.autocast(x.device.type, enabled=False):  # 16 bits are too coarse for densities
            kl = vae.prior.divergence(mean, log_variance, z, condition)
        return vae.reconstruction(x, z, condition), kl, mean

    # --- validation ---

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the terms of the same objective over the validation part, with the same noise in every epoch."""
        x, condition = batch
        vae = self.eval_generator
        assert isinstance(vae, VAEGenerator)
        x = vae.loss.observed(x, lambda: self.fixed_rows(vae.uniform, len(x), "validation bits", batch_idx))
        noise = self.fixed_rows(vae.latents, len(x), "validation", batch_idx)
        reconstruction, kl, mean = self.terms(vae, x, condition, noise)
        mean = mean.double()  # (B, latent)
        self._tally.add(reconstruction=reconstruction, kl=kl, mean=mean, square=mean.square())

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective, and bits per dimension where the likelihood is one of discrete pixels."""
        means = self._tally.means(self.sum)
        self.code_variance = means["square"] - means["mean"].square()
        reconstruction, kl = means["reconstruction"].item(), means["kl"].item()
        metrics = {"val/loss": reconstruction + self.beta * kl, "val/reconstruction": reconstruction, "val/kl": kl}
        if self.generator.density == "levels" and self.beta == 1:
            metrics["val/bits_per_dim"] = (reconstruction + kl) / (math.log(2) * prod(self.space.shape))
        self.publish_validation(metrics)
