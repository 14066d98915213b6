"""A class label."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.conditions.base import Condition
from condgen.conditions.text import class_schema, places
from condgen.errors import CondgenError


class ClassLabel(Condition):
    """One of K classes, encoded as int64 (N,).

    Args:
        classes: the K names, in the order of the labels.
    """

    def __init__(self, classes: Sequence[str]):
        if not classes:
            raise CondgenError("condition=class needs a data set with classes; this one has none: choose condition=none.")
        self.classes = [str(name) for name in classes]

    @property
    def width(self) -> int:
        return len(self.classes)

    def config(self) -> dict[str, Any]:
        return {"_target_": "condgen.conditions.ClassLabel", "classes": list(self.classes)}

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        return labels.long()

    def parse(self, text: str) -> Tensor:
        """Encode ``"3"``, ``"0-9"``, ``"frog"`` or a list with commas, see `condgen.conditions.text.places`."""
        return torch.tensor(places(text, self.classes, "Unknown class {name}"), dtype=torch.int64)

    def schema(self) -> dict[str, Any]:
        return class_schema(self.classes)

    def check(self, condition: Tensor) -> Tensor:
        known = len(self.classes)
        if condition.dim() != 1 or condition.dtype != torch.int64 or bool(((condition < 0) | (condition >= known)).any()):
            raise CondgenError(f"Encoded classes are int64 (N,) in 0..{known - 1}.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.classes), (count,), generator=generator)

    def vector(self, condition: Tensor) -> Tensor:
        if condition.is_floating_point():  # a mixture of classes (N, K)
            return condition
        return F.one_hot(condition, len(self.classes)).float()

    def every(self) -> Tensor:
        return torch.arange(len(self.classes))

    def describe(self, condition: Tensor) -> list[str]:
        return [self.classes[label] for label in condition.tolist()]
