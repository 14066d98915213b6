"""Attributes one by one: a category of several values, or a number in a range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.conditions.text import SEPARATORS, numbers, pieces, quoted, unquoted
from condgen.errors import CondgenError

MOST = 100_000
"""Values, or conditions, that one text may name."""


@dataclass(frozen=True)
class Category:
    """An attribute with several named values; a binary one has two.

    Attributes:
        name: of the attribute.
        values: names of the K values; a value is stored as its index.
    """

    name: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise CondgenError(f"The attribute {self.name} needs at least two values with names of their own.")

    @property
    def width(self) -> int:
        """K."""
        return len(self.values)

    def config(self) -> Any:
        """Return what `fields_from` reads."""
        return list(self.values)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of a value."""
        return {"type": "string", "enum": list(self.values), "title": self.name}

    def vector(self, values: Tensor) -> Tensor:
        """Write indices (N,) one-hot, float32 (N, K)."""
        return F.one_hot(values.long(), self.width).float()

    def read(self, vector: Tensor) -> Tensor:
        """Return the likeliest index, float32 (N,), of scores (N, K)."""
        return vector.argmax(1).float()

    def parse(self, text: str) -> list[float]:
        """Read ``"red"``, ``"2"``, ``"0-9"``, or several with ``|`` between them; a name wins over a number."""
        return [float(index) for part in pieces(text, "|") for index in self._indices(unquoted(part))]

    def _indices(self, part: str) -> list[int]:
        if part in self.values:
            return [self.values.index(part)]
        if (ends := numbers(part)) and ends[0] <= ends[1] < self.width:
            return list(range(ends[0], ends[1] + 1))
        known = ", ".join(quoted(value, SEPARATORS) for value in self.values[:12]) + (", ..." if self.width > 12 else "")
        raise CondgenError(f"{self.name}={part} is unknown: it can be {known} (or 0-{self.width - 1}).")

    def describe(self, value: float) -> str:
        """Name a stored value."""
        return self.values[int(value)]

    def check(self, values: Tensor, where: str) -> None:
        """Raise CondgenError if stored values (N,) are no indices; ``where`` says of what."""
        if bool(((values < 0) | (values >= self.width) | (values != values.round())).any()):
            raise CondgenError(f"{where}: values of {self.name} must be whole numbers in 0..{self.width - 1}.")


@dataclass(frozen=True)
class Number:
    """An attribute that is a number.

    Attributes:
        name: of the attribute.
        low: its least value, in its own unit.
        high: its greatest value.
    """

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise CondgenError(f"The attribute {self.name} needs low < high, not {self.low} and {self.high}.")

    width = 1

    def config(self) -> Any:
        """Return what `fields_from` reads."""
        return {"low": self.low, "high": self.high}

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of a value."""
        return {"type": "number", "minimum": self.low, "maximum": self.high, "title": self.name}

    def vector(self, values: Tensor) -> Tensor:
        """Map values (N,) from [low, high] to [-1, 1], float32 (N, 1)."""
        return ((values - self.low) / (self.high - self.low) * 2 - 1).float()[:, None]

    def read(self, vector: Tensor) -> Tensor:
        """Return the values (N,) of what `vector` wrote (N, 1)."""
        return (vector[:, 0] + 1) / 2 * (self.high - self.low) + self.low

    def parse(self, text: str) -> list[float]:
        """Read ``"-30"``, or ``"-45:45:7"``: seven values from -45 to 45; or several with ``|`` between them."""
        return [value for part in text.split("|") for value in self._values(part.strip())]

    def _values(self, part: str) -> list[float]:
        ends = part.split(":")
        try:
            if len(ends) == 3 and 2 <= int(ends[2]) <= MOST:
                values = torch.linspace(float(ends[0]), float(ends[1]), int(ends[2])).tolist()
            else:
                values = [float(part)]
        except ValueError:
            values = []
        if not values or not all(self.low <= value <= self.high for value in values):
            raise CondgenError(
                f"{self.name}={part} must be a number in {self.low:g}..{self.high:g}, or FIRST:LAST:COUNT for several."
            )
        return values

    def describe(self, value: float) -> str:
        """Write a value with five digits."""
        return f"{value:.5g}"

    def check(self, values: Tensor, where: str) -> None:
        """Raise CondgenError if values (N,) lie outside [low, high]; ``where`` says of what."""
        if not bool(((values >= self.low) & (values <= self.high)).all()):
            raise CondgenError(f"{where}: values of {self.name} must be numbers in {self.low:g}..{self.high:g}.")


Field = Category | Number


def fields_from(stored: Mapping[str, Any] | Sequence[Field]) -> list[Field]:
    """Return fields as they are, or from what a config holds of them.

    Args:
        stored: ``{name: [values]}`` for categories, ``{name: {low: ..., high: ...}}`` for numbers.

    Raises:
        CondgenError: an entry is neither.
    """
    if not isinstance(stored, Mapping):
        return list(stored)
    fields: list[Field] = []
    for name, entry in stored.items():
        if isinstance(entry, Mapping) and set(entry) == {"low", "high"}:
            fields.append(Number(str(name), float(entry["low"]), float(entry["high"])))
        elif isinstance(entry, Sequence) and not isinstance(entry, str):
            fields.append(Category(str(name), tuple(str(value) for value in entry)))
        else:
            raise CondgenError(f"The attribute {name} must be a list of values, or {{low: NUMBER, high: NUMBER}}, not {entry}.")
    return fields
