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


class Codes(Condition):
    """Codes that no data set knows (InfoGAN, Chen et al. 2016): categories, and numbers in [-1, 1].

    Encoded as float32 (N, width): each category one-hot, then the numbers. Written ``"3"`` or ``"0-9"`` for values of the
    first category, or ``"category=3,category2=0-4,number1=-0.5"``; what is left out is 0.

    Args:
        classes: of the data; the codes have nothing to do with them.
        categories: number of values of each categorical code.
        continuous: number of continuous codes.
    """

    def __init__(self, classes: Sequence[str] = (), categories: Sequence[int] = (10,), continuous: int = 2):
        if any(values < 2 for values in categories) or continuous < 0 or not (categories or continuous):
            raise CondgenError("condition=codes needs categories of at least 2 values each, or continuous codes, or both.")
        self.classes = []
        self.categories = [int(values) for values in categories]
        self.continuous = continuous
        names = ["category" if i == 0 else f"category{i + 1}" for i in range(len(self.categories))]
        self.names = [*names, *(f"number{i + 1}" for i in range(continuous))]

    @property
    def width(self) -> int:
        return sum(self.categories) + self.continuous

    def config(self) -> dict[str, Any]:
        target = "condgen.conditions.Codes"
        return {"_target_": target, "categories": list(self.categories), "continuous": self.continuous}

    def split(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """Cut (N, width) into one part for each category and one for the numbers."""
        return torch.split(vectors, [*self.categories, self.continuous], dim=1)

    def from_labels(self, labels: Tensor) -> Tensor:
        """Labels say nothing about codes: these are drawn, always the same for as many labels."""
        return self.draw(len(labels), torch.Generator().manual_seed(0))

    def parse(self, text: str) -> Tensor:
        """Encode ``"3"``, ``"0-9"`` or ``"category=3,number1=-0.5"``; a range gives as many conditions."""
        given = text if "=" in text or not self.categories else f"category={text}"
        rows = [[0.0] * len(self.names)]
        for part in given.split(","):
            name, _, value = (piece.strip() for piece in part.partition("="))
            if name not in self.names:
                raise CondgenError(f"Unknown code {part.strip()!r}: write NAME=VALUE with a name of {', '.join(self.names)}.")
            i = self.names.index(name)
            rows = [[*row[:i], number, *row[i + 1 :]] for number in self._values(i, value) for row in rows]
        return self._encode(torch.tensor(rows))

    def _values(self, place: int, text: str) -> list[float]:
        ends = text.split("-")
        if place < len(self.categories):
            if 1 <= len(ends) <= 2 and all(end.isdecimal() for end in ends):
                first, last = int(ends[0]), int(ends[-1])
                if first <= last < self.categories[place]:
                    return [float(value) for value in range(first, last + 1)]
            raise CondgenError(f"{self.names[place]}={text} must be a number or a range in 0-{self.categories[place] - 1}.")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not -1 <= value <= 1:
            raise CondgenError(f"{self.names[place]}={text} must be a number in [-1, 1].")
        return [value]

    def _encode(self, table: Tensor) -> Tensor:
        """Encode rows of category indices and numbers (N, codes)."""
        one_hot = [F.one_hot(table[:, i].long(), values) for i, values in enumerate(self.categories)]
        return torch.cat([*one_hot, table[:, len(one_hot) :]], dim=1).float()

    def check(self, condition: Tensor) -> Tensor:
        if condition.dim() != 2 or condition.shape[1] != self.width or not condition.is_floating_point():
            raise CondgenError(f"Encoded codes are float (N, {self.width}), not {condition.dtype} {tuple(condition.shape)}.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        categories = [torch.randint(values, (count, 1), generator=generator) for values in self.categories]
        numbers = torch.rand(count, self.continuous, generator=generator) * 2 - 1
        return self._encode(torch.cat([*categories, numbers], dim=1))

    def vector(self, condition: Tensor) -> Tensor:
        return condition

    def every(self) -> Tensor:
        """Return each value of the first category, with all else 0."""
        return self.parse(f"0-{self.categories[0] - 1}") if self.categories else torch.zeros(1, self.width)

    def describe(self, condition: Tensor) -> list[str]:
        *categories, numbers = self.split(condition)
        columns = [*(part.argmax(1).tolist() for part in categories), *numbers.T.tolist()]
        return [
            " ".join(f"{name}={value:g}" for name, value in zip(self.names, row, strict=True))
            for row in zip(*columns, strict=True)
        ]


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
