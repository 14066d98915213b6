"""The moving average of a generator's weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from condgen.generators.base import Generator


class EMA(nn.Module):
    """A frozen copy of a generator in eval mode whose parameters follow the original's exponential moving average.

    After update number n the weight of the past is min(decay, (1 + n) / (10 + n)), so that the first, random weights are
    forgotten quickly. Buffers (running statistics) are copied as they are.

    Args:
        generator: what is averaged.
        decay: weight of the past in [0, 1); 0 keeps no past at all.
    """

    def __init__(self, generator: Generator, decay: float):
        super().__init__()
        self.average: Generator = deepcopy(generator).eval().requires_grad_(False)
        self.decay = decay
        # Listed once: walking through the modules would take as long as the averaging.
        self._average: list[Tensor] = list(self.average.parameters())
        self._newest: list[Tensor] = list(generator.parameters())
        self._buffer_pairs = list(zip(self.average.buffers(), generator.buffers(), strict=True))

    def train(self, mode: bool = True) -> "EMA":
        """Stay in eval mode, whatever the module around it does."""
        return self

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take in the generator's weights after its update ``number`` (1, 2, ...)."""
        torch._foreach_lerp_(self._average, self._newest, self.share(number))
        self._copy_buffers()

    def share(self, number: int) -> float:
        """Return the weight of the newest weights after update ``number``."""
        return 1 - min(self.decay, (1 + number) / (10 + number))

    @torch.no_grad()
    def follow(self, share: Tensor) -> None:
        """Take in the generator's weights by a ``share`` that is a tensor, as what is compiled needs it."""
        for mine, theirs in zip(self._average, self._newest, strict=True):
            mine.lerp_(theirs, share)
        self._copy_buffers()

    def _copy_buffers(self) -> None:
        for mine, theirs in self._buffer_pairs:
            mine.copy_(theirs)
