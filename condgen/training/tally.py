"""Means over the validation part, summed batch by batch and over all processes."""

from collections.abc import Callable

import torch
from torch import Tensor


class Tally:
    """Sums of what is measured for each sample, in float64."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, **values: Tensor) -> None:
        """Take in a batch: each value is (B,) or (B, D)."""
        for name, value in values.items():
            total = value.double().sum(0)
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._count += len(next(iter(values.values())))

    def means(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Return the means over everything taken in, scalars or (D,), and forget it.

        Args:
            reduce: sums a tensor over all processes.
        """
        names = list(self._sums)
        parts = [self._sums[name].reshape(-1) for name in names]
        table = reduce(torch.cat([*parts, parts[0].new_tensor([float(self._count)])]))
        sizes = [len(part) for part in parts]
        shapes = [self._sums[name].shape for name in names]
        self._sums, self._count = {}, 0
        means = torch.split(table[:-1] / table[-1], sizes)
        return {name: mean.view(shape) for name, mean, shape in zip(names, means, shapes, strict=True)}
