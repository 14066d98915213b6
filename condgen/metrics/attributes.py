"""Whether samples have the attributes that they were asked for, as a recognizer sees them.

Apart from the others stand samples of combinations of categories that never occur in the training part.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from condgen.conditions import Attributes, Category, Condition, Together
from condgen.conditions.fields import Field

Table = dict[str, dict[str, float]]
"""Of each attribute by its name: ``agreement``, the share of samples whose category is as asked, or ``error``, the mean
absolute error of a number in its own unit; the same of unseen combinations as ``agreement_unseen`` and ``error_unseen``."""


class AttributeReader:
    """Knows which attributes of the data a recognizer can read.

    Args:
        recognizer: what an extractor reads from images; None: nothing.
        condition: that of the data.
        train: values of all fields in the training part, (M, F); None where the data have none.
    """

    def __init__(self, recognizer: Attributes | None, condition: Condition, train: Tensor | None):
        said = attributes_of(condition)
        self.recognizer = recognizer
        self.fields = [f for f in said.known if f in recognizer.fields] if said and recognizer else []
        self.columns = [said.known.index(field) for field in self.fields] if said else []
        self._train = train

    def requested(self, values: Tensor | None, condition: Condition) -> Tensor | None:
        """Choose from values of all fields (N, F) those that can be read, (N, A); NaN where ``condition`` does not ask."""
        known = attributes_of(condition)
        if values is None or not self.fields or known is None:
            return None
        open_ = torch.tensor([field not in known.fields for field in self.fields])
        return values[:, self.columns].masked_fill(open_, torch.nan)

    def read(self, outputs: Tensor) -> Tensor | None:
        """Return the values (N, A) that the recognizer's ``outputs`` (N, width) say."""
        if self.recognizer is None or not self.fields:
            return None
        return self.recognizer.values(outputs)[:, [self.recognizer.fields.index(field) for field in self.fields]]

    def unseen(self, requested: Tensor) -> Tensor:
        """Tell which of values (N, A) have a combination of categories that no training sample has, bool (N,)."""
        assert self._train is not None
        there = [i for i, f in enumerate(self.fields) if isinstance(f, Category) and not requested[:, i].isnan().any()]
        known = set(map(tuple, self._train[:, [self.columns[i] for i in there]].tolist()))
        return torch.tensor([tuple(row) not in known for row in requested[:, there].tolist()])

    def figures(self, table: Table) -> dict[str, float]:
        """Return the means over the attributes, by the names of metrics: errors as shares of their ranges."""
        scales = {field.name: 1.0 if isinstance(field, Category) else field.high - field.low for field in self.fields}
        found = {}
        for metric, key in (("attribute_accuracy", "agreement"), ("attribute_error", "error")):
            for suffix in ("", "_unseen"):
                shares = [values[key + suffix] / scales[name] for name, values in table.items() if key + suffix in values]
                if shares:
                    found[metric + suffix] = sum(shares) / len(shares)
        return found


def attributes_of(condition: Condition) -> Attributes | None:
    """Return what of a condition is attributes of the data, None if nothing is."""
    said = condition.said if isinstance(condition, Together) else condition
    return said if isinstance(said, Attributes) else said.told


def with_real(table: Table, real: Table) -> Table:
    """Put what is read from real images beside what is read from generated ones, under keys that start with ``real_``."""
    return {
        name: values | {f"real_{key}": value for key, value in real.get(name, {}).items() if key in values}
        for name, values in table.items()
    }


def listed(table: Table) -> list[list[str]]:
    """Return the lines of a table of attributes for people, heads first; none where there are no attributes."""
    if not table:
        return []
    suffixes = ["", "_unseen"] if any(key.endswith("_unseen") for values in table.values() for key in values) else [""]
    lines = [["attribute", *(head for suffix in suffixes for head in (suffix[1:] or "samples", "real"))]]
    for name, values in table.items():
        measure, form = ("error", ".2f") if any(key.startswith("error") for key in values) else ("agreement", ".3f")
        keys = [prefix + measure + suffix for suffix in suffixes for prefix in ("", "real_")]
        lines.append([f"{name}, {measure}", *(format(values[key], form) if key in values else "" for key in keys)])
    return lines


def class_columns(fields: Sequence[Field], classes: Sequence[str]) -> slice | None:
    """Return the columns of a vector of attributes that hold the category with just these values; None if there is none."""
    start = 0
    for field in fields:
        if isinstance(field, Category) and list(field.values) == list(classes):
            return slice(start, start + field.width)
        start += field.width
    return None
