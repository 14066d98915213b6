"""The generator of conditional Glow (Kingma & Dhariwal 2018): an invertible f with an exact likelihood.

    log p(x | c) = log N(f(y, c); 0, I) + log |det df/dy|,    y = dequantized x (see losses/likelihood.py)

A sample is f^-1(z, c) of noise z ~ N(0, T^2 I), where T is the temperature.
"""

import math
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.losses.likelihood import Likelihood, bits, log_normal
from condgen.spaces import Space
from condgen.types import Positive


class GlowGenerator(Generator):
    """A (conditional) normalizing flow on pixels.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: how 8-bit pixels become continuous and a density becomes their likelihood.
        network: makes f from (condition, space): f(y, c) is the noise (B, D) and log |det df/dy| (B,), f.inverse(z, c) is y,
            and f.fit(y, c) lets new layers start from data.
        temperature: standard deviation of the noise that samples are made from; 1 samples what was learned.
    """

    family = "Glow"

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: Likelihood,
        network: Callable[..., nn.Module],
        temperature: Positive = 1.0,
    ):
        super().__init__(space, condition)
        if not isinstance(loss, Likelihood):
            raise CondgenError(f"Glow is trained by its likelihood and {type(loss).__name__} is none: choose loss=likelihood.")
        self.network = network(condition=condition, space=space)
        self.loss = loss
        self.defaults = {"temperature": temperature}
        self.set_sampling()

    def nats(self, x: Tensor, condition: Tensor, u: Tensor) -> Tensor:
        """Return -log p(x | c) of each sample in nats, (B,): a bound, exact on average over u (see `Likelihood`).

        Args:
            x: samples (B, *shape) in [-1, 1].
            condition: encoded conditions (B, ...).
            u: uniform noise in [0, 1), of the samples' shape and f's type.
        """
        y, log_slope = self.loss.dequantize(x, u)
        z, log_determinant = self.network(y, condition)
        nats: Tensor = self.loss(log_normal(z) + log_determinant, log_slope, z.shape[1])
        return nats

    @property
    def density(self) -> str:
        """Of 8-bit pixels."""
        return "levels"

    def likelihood(self, x: Tensor, condition: Tensor, stream: torch.Generator, draws: int) -> dict[str, Tensor]:
        """Return ``log_likelihood`` and ``bits_per_dim``: of the mean density over ``draws`` of u, which is exact for many."""
        us = (self.uniform(len(x), stream).to(x.device) for _ in range(draws))
        nats = torch.stack([self.nats(x, condition, u) for u in us]).double()  # (draws, B)
        log_likelihood = (-nats).logsumexp(0) - math.log(draws)
        return {"log_likelihood": log_likelihood, "bits_per_dim": bits(-log_likelihood, prod(self.space.shape))}

    def uniform(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw u, uniform in [0, 1), (count, *shape)."""
        return torch.rand(count, *self.space.shape, generator=generator)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw z ~ N(0, I), (count, D)."""
        return torch.randn(count, prod(self.space.shape), generator=generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Map noise (B, D) through the inverse to images (B, *shape) in [-1, 1], on the 256 levels of 8-bit pixels."""
        return self.loss.quantize(self.network.inverse(z, condition))  # type: ignore[operator]
