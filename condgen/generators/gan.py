"""The generator of a GAN (Goodfellow et al. 2014; conditional: Mirza & Osindero 2014): x = G(z, c), z ~ N(0, I)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.generators.base import BLOCK, Generator
from condgen.generators.sampling import measure_statistics
from condgen.randomness import generator as keyed_generator
from condgen.spaces import Space
from condgen.types import PositiveInt


class GANGenerator(Generator):
    """One pass through a network.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        network: makes G from (latent, condition, space); G(z, c) is a batch of samples.
        latent: length of the noise z.
    """

    family = "GAN"
    OPTIONS = (*Generator.OPTIONS, "standing")

    def __init__(self, space: Space, condition: Condition, network: Callable[..., nn.Module], latent: PositiveInt):
        super().__init__(space, condition)
        self.latent = latent
        self.network = network(latent=latent, condition=condition, space=space)
        self._trained: dict[str, Tensor] = {}  # statistics of the training, while standing ones have their place

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return G(z, c) (B, *shape), with what the condition fixes of a sample."""
        return self.condition.finish(self.network(z, condition), condition)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw z ~ N(0, I), (count, latent)."""
        return torch.randn(count, self.latent, generator=generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return G(z, c)."""
        samples: Tensor = self.network(z, condition)
        return samples

    def trained_state(self) -> dict[str, Tensor]:
        """See `Generator.trained_state`: without standing statistics."""
        return self.state_dict() | {f"network.{name}": statistic for name, statistic in self._trained.items()}

    def set_sampling(self, **options: float | str | None) -> None:
        """See `Generator.set_sampling`; ``standing`` measures batch norm's statistics here, at the truncation asked for.

        Without it they are those of the training again.
        """
        before = self.sampling
        super().set_sampling(**options)
        if self._trained and self.sampling == before:
            return
        for name, statistic in self._trained.items():
            self.network.get_buffer(name).copy_(statistic)
        self._trained = {}
        if batches := self.sampling.get("standing"):

            def forward(i: int) -> None:
                stream = keyed_generator(0, "standing statistics", i)
                self.draw(self.condition.draw(BLOCK, stream).to(self.device), stream)

            self.eval()
            self._trained = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
            measure_statistics(self.network, batches, forward)
