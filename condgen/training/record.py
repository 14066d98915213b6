"""The losses of the batches since the last point of the curves."""

from collections.abc import Callable

import torch
from torch import Tensor

from condgen.errors import CondgenError


class LossRecord:
    """Scalars by batch, kept on their device until a mean of them is asked for."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Tensor]] = []

    def add(self, values: dict[str, Tensor]) -> None:
        """Keep a batch's scalars."""
        self.rows.append({name: value.detach() for name, value in values.items()})

    def means(self, reduce: Callable[[Tensor], Tensor], batches: int, updates: int) -> dict[str, float]:
        """Return the mean of each name, in float64, and forget the batches.

        Args:
            reduce: makes means (names,) over all processes.
            batches: batches trained on so far, for the message.
            updates: updates so far, for the message.

        Raises:
            CondgenError: a value is not finite; names it and its batch.
        """
        table = self.check(batches, updates)
        curves = torch.stack([torch.stack(values).mean() for values in table.values()])
        self.rows = []
        return dict(zip(table, reduce(curves).tolist(), strict=True))

    def check(self, batches: int, updates: int) -> dict[str, list[Tensor]]:
        """Return what was kept under each name, float64 scalars; raises CondgenError if one is not finite."""
        keys = [(row, name) for row, values in enumerate(self.rows) for name in values]
        device = next(iter(self.rows[-1].values())).device  # a resumed record comes from the CPU
        table = torch.stack([self.rows[row][name].to(device) for row, name in keys]).double()
        finite = table.isfinite().tolist()  # the one wait for the device
        if not all(finite):
            row, name = keys[finite.index(False)]
            raise CondgenError(
                f"Training stopped: {name} became {self.rows[row][name].item()} in batch {batches - len(self.rows) + row} "
                f"(update {updates}); the last good checkpoint is kept, try a smaller learning rate."
            )
        found: dict[str, list[Tensor]] = {}
        for (_, name), value in zip(keys, table, strict=True):
            found.setdefault(name, []).append(value)
        return found
