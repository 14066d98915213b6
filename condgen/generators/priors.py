"""Priors p(z | c) of a VAE's code z, each an invertible map of standard normal noise.

    z = T(u, c),  u ~ N(0, I):    log p(z | c) = log N(T^-1(z, c); 0, I) + log |det dT^-1 / dz|

A standard normal has T = identity; a Gaussian of the condition's own mean and deviation (as the prior network of Sohn et al.
2015, section 4) an affine T; a flow a composition of affine couplings (Dinh et al. 2017, equations 7 to 9; as a VAE's prior:
Chen et al. 2017, section 3.2). Both start as the standard normal.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.losses.likelihood import log_normal
from condgen.nets.layers import Hidden, MakeEmbedding, embedding_of
from condgen.types import Positive, PositiveInt, Widths


def gaussian_divergence(mean: Tensor, log_variance: Tensor, of_mean: Tensor, of_log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(of_mean, of_variance)) of independent Gaussians (B, latent) in nats, (B,)."""
    squares = (mean - of_mean).square() + log_variance.exp()
    return 0.5 * (squares * (-of_log_variance).exp() - 1 - log_variance + of_log_variance).sum(1)


class Prior(nn.Module, ABC):
    """A distribution of codes (B, latent) for encoded conditions (B, ...)."""

    @abstractmethod
    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Map standard normal noise (B, latent) to codes of the prior (B, latent)."""

    @abstractmethod
    def log_density(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return log p(z | c) in nats, (B,)."""

    def divergence(self, mean: Tensor, log_variance: Tensor, z: Tensor, condition: Tensor) -> Tensor:
        """Return KL(q || p) in nats, (B,), for q = N(mean, exp(log_variance)), each (B, latent).

        Here an unbiased estimate from one draw z ~ q (B, latent): log q(z) - log p(z | c).
        """
        return log_normal(z, mean, log_variance) - self.log_density(z, condition)


MakePrior = Callable[..., Prior]
"""Makes the prior from (latent, condition)."""


class StandardNormal(Prior):
    """N(0, I), whatever the condition."""

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        return noise

    def log_density(self, z: Tensor, condition: Tensor) -> Tensor:
        return log_normal(z)

    def divergence(self, mean: Tensor, log_variance: Tensor, z: Tensor, condition: Tensor) -> Tensor:
        """In closed form."""
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


class GaussianPrior(Prior):
    """Independent Gaussians whose means and log-variances are an affine map of the condition's embedding.

    Args:
        latent: length of the code.
        condition: what can be asked for.
        embedding: how the condition enters; for a class one-hot, which gives each class a row of its own.
    """

    def __init__(self, latent: int, condition: Condition, embedding: MakeEmbedding | None):
        super().__init__()
        self.embed = embedding_of(condition, embedding)
        self.weight = nn.Parameter(torch.zeros(self.embed.width, 2 * latent))
        self.bias = nn.Parameter(torch.zeros(2 * latent))

    def moments(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, latent)."""
        context = self.embed(condition).to(self.weight.dtype)
        mean, log_variance = torch.addmm(self.bias, context, self.weight).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        mean, log_variance = self.moments(condition)
        return mean + (0.5 * log_variance).exp() * noise

    def log_density(self, z: Tensor, condition: Tensor) -> Tensor:
        return log_normal(z, *self.moments(condition))

    def divergence(self, mean: Tensor, log_variance: Tensor, z: Tensor, condition: Tensor) -> Tensor:
        """In closed form."""
        return gaussian_divergence(mean, log_variance, *self.moments(condition))


class Coupling(nn.Module):
    """Scale and shift the second part of a code by functions of the first part and the condition (Dinh et al. 2017).

    Args:
        latent: length of the code, at least 2.
        context: length of the condition's embedding.
        hidden: widths of the hidden layers.
        bound: of the log-scales, which lie in (-bound, bound).
    """

    def __init__(self, latent: int, context: int, hidden: Sequence[int], bound: float):
        super().__init__()
        self.kept, self.bound = latent // 2, bound
        widths = [self.kept + context, *hidden]
        self.layers = Hidden(widths, nn.ReLU)
        self.out = nn.Linear(widths[-1], 2 * (latent - self.kept))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def scale_and_shift(self, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-scale and shift of the second part, each (B, latent - latent // 2)."""
        raw, shift = self.out(self.layers(torch.cat([kept, context], dim=1))).chunk(2, dim=1)
        return self.bound * (raw / self.bound).tanh(), shift

    def forward(self, u: Tensor, context: Tensor) -> Tensor:
        """Map (B, latent), near the noise, to (B, latent), near the code."""
        kept, changed = u[:, : self.kept], u[:, self.kept :]
        log_scale, shift = self.scale_and_shift(kept, context)
        return torch.cat([kept, changed * log_scale.exp() + shift], dim=1)

    def inverse(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`; also return the log-determinant of the undoing, (B,)."""
        kept, changed = z[:, : self.kept], z[:, self.kept :]
        log_scale, shift = self.scale_and_shift(kept, context)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1), -log_scale.sum(1)


class FlowPrior(Prior):
    """Affine couplings with the condition in each, the code's order reversed after each, so that every part is changed.

    Args:
        latent: length of the code, at least 2.
        condition: what can be asked for.
        couplings: their number.
        hidden: widths of the hidden layers of each.
        embedding: how the condition enters; None keeps it out.
        bound: of the log-scales of each coupling.

    Raises:
        CondgenError: too short a code, no coupling, or a bound that is not positive.
    """

    def __init__(
        self,
        latent: int,
        condition: Condition,
        couplings: PositiveInt,
        hidden: Widths,
        embedding: MakeEmbedding | None,
        bound: Positive = 2.0,
    ):
        super().__init__()
        if latent < 2:
            raise CondgenError(
                "A coupling needs a code of two parts: set model.generator.latent to at least 2, or prior=gaussian."
            )
        self.embed = embedding_of(condition, embedding)
        self.couplings = nn.ModuleList(Coupling(latent, self.embed.width, hidden, bound) for _ in range(couplings))

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        context, z = self.embed(condition), noise
        for coupling in self.couplings:
            z = coupling(z, context).flip(1)
        return z

    def inverse(self, z: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noise (B, latent) of codes, and the log-determinant of the map from codes to noise, (B,)."""
        context, determinant = self.embed(condition), z.new_zeros(len(z))
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, Coupling)
            z, change = coupling.inverse(z.flip(1), context)
            determinant = determinant + change
        return z, determinant

    def log_density(self, z: Tensor, condition: Tensor) -> Tensor:
        noise, determinant = self.inverse(z, condition)
        return log_normal(noise) + determinant
