"""Means of what is measured batch by batch: of losses since the last point of the curves, and over the validation part."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from condgen.errors import CondgenError

Losses = list[dict[str, Tensor]]
"""Scalars by name of one batch after the other, detached and on their device until their means are asked for."""


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


def loss_means(losses: Losses, reduce: Callable[[Tensor], Tensor], batches: int, updates: int) -> dict[str, float]:
    """Return the mean of each name over the batches that have it, in float64.

    Args:
        losses: of the last batches.
        reduce: makes means (names,) over all processes.
        batches: batches trained on so far, for the message.
        updates: updates so far, for the message.

    Raises:
        CondgenError: a value is not finite; names it and its batch.
    """
    table = finite(losses, batches, updates)
    means = torch.stack([torch.stack(values).mean() for values in table.values()])
    return dict(zip(table, reduce(means).tolist(), strict=True))


def finite(losses: Losses, batches: int, updates: int) -> dict[str, list[Tensor]]:
    """Return what stands under each name, float64 scalars; raises CondgenError if one is not finite, see `loss_means`."""
    keys = [(row, name) for row, values in enumerate(losses) for name in values]
    device = next(iter(losses[-1].values())).device  # those of a resumed run come from the CPU
    table = torch.stack([losses[row][name].to(device) for row, name in keys]).double()
    are_finite = table.isfinite().tolist()  # the one wait for the device
    if not all(are_finite):
        row, name = keys[are_finite.index(False)]
        raise CondgenError(
            f"Training stopped: {name} became {losses[row][name].item()} in batch {batches - len(losses) + row} "
            f"(update {updates}); the last good checkpoint is kept, try a smaller learning rate."
        )
    found: dict[str, list[Tensor]] = {}
    for (_, name), value in zip(keys, table, strict=True):
        found.setdefault(name, []).append(value)
    return found


def of_all(losses: Losses, gather: Callable[[Tensor], Any], processes: int) -> Losses:
    """Return losses for a checkpoint, on the CPU: of several processes those of all, (processes,) each.

    Args:
        losses: of this process.
        gather: puts together what all of them have of a tensor, along a new first dimension.
        processes: how many there are.
    """
    if processes == 1 or not losses:
        return [{name: value.cpu() for name, value in row.items()} for row in losses]
    mine = [value.double() for row in losses for value in row.values()]  # which holds the other kinds exactly
    columns = iter(gather(torch.stack(mine)).cpu().unbind(1))
    return [{name: next(columns).to(value.dtype) for name, value in row.items()} for row in losses]


def of_one(losses: Losses, rank: int, processes: int) -> Losses:
    """Return what process ``rank`` had of the losses in a checkpoint, the mean where there were not as many processes."""

    def share(value: Tensor) -> Tensor:
        if value.dim() == 0:
            return value
        return value[rank] if len(value) == processes else value.mean()

    return [{name: share(value) for name, value in row.items()} for row in losses]
