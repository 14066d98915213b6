"""The generator of a variational autoencoder (Kingma & Welling 2014; conditional: Sohn et al. 2015).

    z ~ p(z | c),  x ~ p(x | z, c),    and q(z | x, c), which reads codes from samples

The prior p(z | c) is N(0, I) or learned (`condgen.generators.priors`). A sample is the mean of p(x | z, c). The likelihood of
real samples is bounded by K importance weights (Burda et al. 2016, equation 8):

    log p(x | c) >= E_{z_1 .. z_K ~ q} log 1/K sum_k p(x | z_k, c) p(z_k | c) / q(z_k | x, c)
"""

import math
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.generators.priors import MakePrior, StandardNormal
from condgen.losses.likelihood import log_normal
from condgen.losses.reconstruction import ReconstructionLoss
from condgen.spaces import Images, Space
from condgen.types import Positive, PositiveInt


class VAEGenerator(Generator):
    """A decoder, the encoder that belongs to it, and the prior of their codes.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: -log p(x | z, c), the reconstruction loss.
        encoder: makes q from (latent, condition, space); q(x, c) is (mean, log-variance), each (B, latent).
        decoder: makes p from (latent, condition, space, extra); p(z, c) is the raw outputs of the loss, (B, D + extra).
        latent: length of the code z.
        prior: makes p(z | c) from (latent, condition); None: N(0, I).
        decode_condition: the decoder also reconstructs the condition's vector, as part of the same loss.
        temperature: factor of the noise that samples are made of; 1: as the prior says.

    Raises:
        CondgenError: a loss that is none, or that gives probabilities of pixels to what has none.
    """

    family = "VAE"

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: ReconstructionLoss,
        encoder: Callable[..., nn.Module],
        decoder: Callable[..., nn.Module],
        latent: PositiveInt,
        prior: MakePrior | None = None,
        decode_condition: bool = False,
        temperature: Positive = 1.0,
    ):
        super().__init__(space, condition)
        if not isinstance(loss, ReconstructionLoss):
            raise CondgenError(
                f"A VAE needs a reconstruction loss and {type(loss).__name__} is none: "
                "choose loss=bernoulli, loss=gaussian or loss=squared_error."
            )
        if loss.density and not isinstance(space, Images):
            kind, key = type(space).__name__.lower(), "discretized" if loss.density == "levels" else "binarize"
            raise CondgenError(f"loss.{key} is for the 256 levels of a pixel, and {kind} have none: set it to false.")
        if decode_condition and condition.encoder():
            raise CondgenError("A caption cannot be decoded beside the sample: set model.generator.decode_condition=false.")
        self.loss = loss
        self.latent = latent
        self.encoder = encoder(latent=latent, condition=condition, space=space)
        self.decoder = decoder(latent=latent, condition=condition, space=space, extra=condition.width * decode_condition)
        self.prior = prior(latent=latent, condition=condition) if prior else StandardNormal()
        self.decode_condition = decode_condition
        self.learned_prior = prior is not None
        self.defaults = {} if temperature == 1 else {"temperature": temperature}
        self.set_sampling()

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

    def uniform(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw uniform numbers (count, *shape), which decide drawn pixels."""
        return torch.rand(count, *self.space.shape, generator=generator)

    @property
    def density(self) -> str | None:
        """What the loss gives probabilities of, where it is about nothing else."""
        return None if self.decode_condition else self.loss.density

    def likelihood(self, x: Tensor, condition: Tensor, stream: torch.Generator, draws: int) -> dict[str, Tensor]:
        """Return ``elbo`` and ``iwae``, from the same ``draws`` codes of each sample, and the latter in ``bits_per_dim``."""
        x = self.loss.observed(x, lambda: self.uniform(len(x), stream).to(x.device))
        mean, log_variance = self.posterior(x, condition)
        weights = []
        for _ in range(draws):
            z = mean + (0.5 * log_variance).exp() * self.latents(len(x), stream).to(x.device)
            ratio = self.prior.log_density(z, condition) - log_normal(z, mean, log_variance)
            weights.append(ratio - self.reconstruction(x, z, condition))
        table = torch.stack(weights).double()  # (draws, B)
        iwae = table.logsumexp(0) - math.log(draws)
        return {"elbo": table.mean(0), "iwae": iwae, "bits_per_dim": -iwae / (math.log(2) * prod(self.space.shape))}

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the noise u ~ N(0, I) of codes, (count, latent)."""
        return torch.randn(count, self.latent, generator=generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return the mean of p(x | z, c) at the code of the prior that noise (B, latent) becomes."""
        outputs = self.decoder(self.prior(z, condition), condition)[:, : prod(self.space.shape)]
        return self.loss.mean(outputs).view(-1, *self.space.shape) * 2 - 1
