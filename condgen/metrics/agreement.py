"""How well attributes that a recognizer reads from samples agree with those that were asked for."""

from typing import Any

import torch
from torch import Tensor

from condgen.conditions import Category
from condgen.metrics.attributes import AttributeReader, Table
from condgen.metrics.features import Features
from condgen.metrics.states import Summed


class Agreement(Summed):
    """How well the attributes that are read from samples agree with those that were asked for.

    Args:
        reader: knows which attributes there are, and which combinations are unseen.
        options: of `torchmetrics.Metric`.
    """

    count: Tensor
    total: Tensor

    def __init__(self, reader: AttributeReader, **options: Any):
        super().__init__(**options)
        self.reader = reader
        self.add_sum("count", 2)  # of seen and of unseen combinations
        self.add_sum("total", 2, len(reader.fields))  # NaN for an attribute that is not asked for

    def update(self, images: Features) -> None:
        """Take in what of images was asked for and is read."""
        if images.requested is None or images.read is None or not self.reader.fields:
            return
        category = torch.tensor([isinstance(field, Category) for field in self.reader.fields])
        equal = torch.where(images.requested.isnan(), torch.nan, (images.requested == images.read).double())
        values = torch.where(category, equal, (images.requested - images.read).double().abs())
        unseen = self.reader.unseen(images.requested)
        for kind, rows in enumerate((~unseen, unseen)):
            self.count[kind] += rows.sum()
            self.total[kind] += values[rows].sum(0)

    def compute(self) -> Table:
        """Return the means of each attribute."""
        found: Table = {}
        for field, total in zip(self.reader.fields, self.total.unbind(1), strict=True):
            name = "agreement" if isinstance(field, Category) else "error"
            means = {name: total[0] / self.count[0], f"{name}_unseen": total[1] / self.count[1]}
            if self.count.any() and not total.isnan().any():
                found[field.name] = {key: float(mean) for key, mean in means.items() if not mean.isnan()}
        return found


def agreement(reader: AttributeReader, images: Features) -> Table:
    """Compare what was asked for of all ``images`` with what is read; empty where nothing can be compared."""
    found = Agreement(reader, sync_on_compute=False)
    found.update(images)
    return found.compute()
