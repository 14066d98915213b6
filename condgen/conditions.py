"""What a sample is conditioned on: how it is drawn, said on a command line, checked and embedded for a network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.errors import CondgenError


class Condition(ABC):
    """The contract of a condition. Encoded, ``n`` conditions are a tensor (n, ...) that indexes, stacks and shards by rows."""

    classes: list[str]
    """Names of the classes that a user can ask for; empty where there are none."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of the vector that `vector` returns."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return what rebuilds this condition: a plain dict with a ``_target_``."""

    @abstractmethod
    def from_labels(self, labels: Tensor) -> Tensor:
        """Encode a data set's class labels, int64 (N,)."""

    @abstractmethod
    def parse(self, text: str) -> Tensor:
        """Encode what a user wrote, e.g. ``"0-9"`` or ``"frog,ship"``; raises CondgenError on an unknown value."""

    @abstractmethod
    def check(self, condition: Tensor) -> Tensor:
        """Return encoded conditions as they are; raises CondgenError if they are none."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` random conditions."""

    @abstractmethod
    def vector(self, condition: Tensor) -> Tensor:
        """Write encoded conditions as float vectors (N, width)."""

    @abstractmethod
    def every(self) -> Tensor:
        """Return each distinct condition once, for sample grids; one row where there are none to tell apart."""

    @abstractmethod
    def describe(self, condition: Tensor) -> list[str]:
        """Name each of the encoded conditions, for files and captions."""

    def encode(self, value: Any) -> Tensor:
        """Encode an index, a name, a text such as ``"0-9"``, a list of these, or an encoded tensor.

        Raises:
            CondgenError: the value names nothing that this condition knows.
        """
        if isinstance(value, Tensor):
            return self.check(value)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return torch.cat([self.encode(v) for v in value])
        return self.parse(str(value))


class NoCondition(Condition):
    """Unconditional generation: encoded as (N, 0), so that concatenating it changes nothing."""

    def __init__(self, classes: Sequence[str] = ()):
        self.classes = []

    @property
    def width(self) -> int:
        return 0

    def config(self) -> dict[str, Any]:
        return {"_target_": "condgen.conditions.NoCondition"}

    def from_labels(self, labels: Tensor) -> Tensor:
        return torch.empty(len(labels), 0)

    def parse(self, text: str) -> Tensor:
        raise CondgenError(f"This model is unconditional: it cannot be asked for {text!r}; leave the condition out.")

    def check(self, condition: Tensor) -> Tensor:
        if condition.dim() != 2 or condition.shape[1]:
            raise CondgenError(f"This model is unconditional: encoded conditions are (N, 0), not {tuple(condition.shape)}.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.empty(count, 0)

    def vector(self, condition: Tensor) -> Tensor:
        return condition

    def every(self) -> Tensor:
        return torch.empty(1, 0)

    def describe(self, condition: Tensor) -> list[str]:
        return ["any"] * len(condition)


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

    def from_labels(self, labels: Tensor) -> Tensor:
        return labels.long()

    def parse(self, text: str) -> Tensor:
        """Encode ``"3"``, ``"0-9"``, ``"frog"`` or a list with commas; a name wins over a number."""
        return torch.tensor([label for part in text.split(",") for label in self._labels(part.strip())], dtype=torch.int64)

    def _labels(self, part: str) -> list[int]:
        if part in self.classes:
            return [self.classes.index(part)]
        ends = part.split("-")
        if 1 <= len(ends) <= 2 and all(end.isdecimal() for end in ends):
            first, last = int(ends[0]), int(ends[-1])
            if first <= last < len(self.classes):
                return list(range(first, last + 1))
        known = ", ".join(self.classes[:12]) + (", ..." if len(self.classes) > 12 else "")
        raise CondgenError(f"Unknown class {part!r}: this model knows 0-{len(self.classes) - 1} and the names {known}.")

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


class Embedding(nn.Module, ABC):
    """Maps encoded conditions to vectors (B, width) for a network."""

    width: int

    @abstractmethod
    def forward(self, condition: Tensor) -> Tensor:
        """Embed encoded conditions: (B, width)."""


class Unconditioned(Embedding):
    """The embedding of nothing, (B, 0): a network that does not see the condition."""

    width = 0

    def forward(self, condition: Tensor) -> Tensor:
        return torch.empty(len(condition), 0, device=condition.device)


class OneHot(Embedding):
    """Embed a condition as its own vector (B, width): one-hot for a class, nothing for no condition."""

    def __init__(self, condition: Condition):
        super().__init__()
        self.condition = condition
        self.width = condition.width

    def forward(self, condition: Tensor) -> Tensor:
        return self.condition.vector(condition)


class LearnedEmbedding(Embedding):
    """Embed a condition by a learned linear map of its vector; for a class this is a row of a table, N(0, 1) at the start.

    Args:
        condition: what is embedded.
        width: length of the embedding.
    """

    def __init__(self, condition: Condition, width: int):
        super().__init__()
        self.condition = condition
        self.width = width if condition.width else 0
        self.table = nn.Parameter(torch.randn(condition.width, self.width))

    def forward(self, condition: Tensor) -> Tensor:
        if condition.dtype == torch.int64:
            return F.embedding(condition, self.table)
        return self.condition.vector(condition) @ self.table
