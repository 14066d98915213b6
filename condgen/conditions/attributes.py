"""Several attributes at once, and codes: attributes that no data set knows."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from condgen.conditions.base import Condition
from condgen.conditions.fields import MOST, Category, Field, Number, fields_from
from condgen.conditions.text import SEPARATORS, pieces, quoted, unquoted
from condgen.errors import CondgenError
from condgen.types import Count


class Attributes(Condition):
    """Categories and numbers, encoded as float32 (N, width): each category one-hot, each number mapped to [-1, 1].

    Written ``"digit=3,rotation=-30,colour=red|blue"``; what is left out is open, NaN, and drawn anew for each sample. Without
    a name, values are those of the first attribute: ``"0-9"``.

    Args:
        fields: the attributes of the data: `condgen.conditions.fields.Field`, or a config of them.
        attributes: names of those that can be asked for, in this order; None: all.
        classes: names of the data's classes; they can be asked for where an attribute has just these values.
    """

    def __init__(
        self,
        fields: Mapping[str, Any] | Sequence[Field],
        attributes: Sequence[str] | None = None,
        classes: Sequence[str] = (),
    ):
        known = {field.name: field for field in fields_from(fields)}
        if not known:
            raise CondgenError("condition=attributes needs data with attributes, and these have none: choose condition=class.")
        self.known = list(known.values())
        wanted = list(known) if attributes is None else [str(name) for name in attributes]
        if unknown := [name for name in wanted if name not in known]:
            raise CondgenError(
                f"condition.attributes: the data have no attribute {unknown[0]!r}, they have {', '.join(known)}."
            )
        if not wanted or len(set(wanted)) < len(wanted):
            raise CondgenError(f"condition.attributes={wanted} must name at least one attribute, and none twice.")
        self.fields = [known[name] for name in wanted]
        self.columns = [list(known).index(name) for name in wanted]
        values = [list(field.values) for field in self.fields if isinstance(field, Category)]
        self.classes = list(classes) if list(classes) in values else []

    @property
    def width(self) -> int:
        return sum(field.width for field in self.fields)

    def config(self) -> dict[str, Any]:
        return {
            "_target_": "condgen.conditions.Attributes",
            "fields": {field.name: field.config() for field in self.known},
            "attributes": [field.name for field in self.fields],
            "classes": list(self.classes),
        }

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": {field.name: field.schema() for field in self.fields}}

    def parts(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """Cut (N, width) into one part for each attribute."""
        return torch.split(vectors, [field.width for field in self.fields], dim=1)

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        """Encode values of all known fields (N, F); labels say nothing more."""
        if values is None:
            raise CondgenError("condition=attributes needs data with attributes, and these have none: choose condition=class.")
        return self.encode_values(values[:, self.columns])

    def encode_values(self, values: Tensor) -> Tensor:
        """Encode values (N, attributes), a column for each attribute; NaN where one is open."""
        parts = []
        for field, column in zip(self.fields, values.unbind(1), strict=True):
            open_ = column.isnan()
            parts.append(field.vector(column.nan_to_num(0.0)).masked_fill(open_[:, None], torch.nan))
        return torch.cat(parts, dim=1)

    def values(self, vectors: Tensor) -> Tensor:
        """Return the values (N, attributes) that vectors (N, width) encode, or that a recognizer's scores name as likeliest."""
        return torch.stack([field.read(part) for field, part in zip(self.fields, self.parts(vectors), strict=True)], dim=1)

    def parse(self, text: str) -> Tensor:
        """Encode ``"digit=0-9,rotation=-45:45:3"``; several values of several attributes give all combinations.

        An empty text leaves all of them out.
        """
        given = self._given(text) if text else {}
        choices = [given.get(field.name, self.unsaid(field)) for field in self.fields]
        if (combinations := math.prod(map(len, choices))) > MOST:
            raise CondgenError(f"{text} names {combinations:,} conditions: name at most {MOST:,} at a time.")
        return self.encode_values(torch.tensor(list(itertools.product(*choices))))

    def unsaid(self, field: Field) -> list[float]:
        """Return the values of an attribute that a text leaves out."""
        return [float("nan")]

    def _given(self, text: str) -> dict[str, list[float]]:
        """Read the values of the attributes that ``text`` names."""
        first = quoted(self.fields[0].name, SEPARATORS)
        named = len(pieces(text, "=")) > 1
        parts = pieces(text, ",") if named else [f"{first}={'|'.join(pieces(text, ','))}"]
        given = {}
        for part in parts:
            name, *rest = pieces(part, "=")
            name, value = unquoted(name), "=".join(rest)
            field = next((field for field in self.fields if field.name == name), None)
            if field is None:
                names = ", ".join(field.name for field in self.fields)
                raise CondgenError(f"Unknown attribute {part.strip()!r}: write NAME=VALUE with a name of {names}.")
            if name in given:
                raise CondgenError(f"{text!r} names {name} twice: write several values as {name}=A|B.")
            given[name] = field.parse(value)
        return given

    def check(self, condition: Tensor) -> Tensor:
        if condition.dim() != 2 or condition.shape[1] != self.width or not condition.is_floating_point():
            given = f"{condition.dtype} {tuple(condition.shape)}"
            raise CondgenError(f"Encoded {type(self).__name__.lower()} are float (N, {self.width}), not {given}.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw each attribute by itself, uniformly."""
        parts = []
        for field in self.fields:
            if isinstance(field, Category):
                parts.append(field.vector(torch.randint(field.width, (count,), generator=generator)))
            else:
                parts.append(torch.rand(count, 1, generator=generator) * 2 - 1)
        return torch.cat(parts, dim=1)

    def fill(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the attributes that are open."""
        return torch.where(condition.isnan(), self.draw(len(condition), generator).to(condition.device), condition)

    def vector(self, condition: Tensor) -> Tensor:
        return condition

    def near(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Move the numbers of encoded attributes (N, width) by ``noise`` (N, width), within [-1, 1]; categories stay.

        With Gaussian noise a sample stands for all conditions in its vicinity, as in the hard vicinal loss of CCGAN
        (Ding et al. 2021, equations 5 and 9), where the numbers that are asked for are moved in the same way.
        """
        moves = [torch.full((field.width,), isinstance(field, Number)) for field in self.fields]
        if not any(bool(part.any()) for part in moves):
            return super().near(condition, noise)
        moved = (condition + noise).clamp(-1, 1)
        return torch.where(torch.cat(moves).to(condition.device), moved, condition)

    def every(self) -> Tensor:
        """Return each value of the first attribute (eight of a number), all else left open."""
        first = self.fields[0]
        values = range(first.width) if isinstance(first, Category) else torch.linspace(first.low, first.high, 8).tolist()
        rest = [self.unsaid(field)[0] for field in self.fields[1:]]
        return self.encode_values(torch.tensor([[float(value), *rest] for value in values]))

    def describe(self, condition: Tensor) -> list[str]:
        """Write ``"digit=3 rotation=-30"``; what is open is left out."""
        said = [part.isfinite().all(1).tolist() for part in self.parts(condition)]
        values = self.values(condition.nan_to_num(0.0)).tolist()
        rows = zip(values, zip(*said, strict=True), strict=True)
        return [
            " ".join(f"{f.name}={f.describe(value)}" for f, value, there in zip(self.fields, row, known, strict=True) if there)
            or "any"
            for row, known in rows
        ]


class Styles(Attributes):
    """A style, by its name or number: ``"style=2"``. Data know nothing of it.

    Args:
        styles: names of patterns, or image files, see `condgen.data.patterns`; a file's name without its ending is the style's.
    """

    def __init__(self, styles: Sequence[str]):
        super().__init__([Category("style", tuple(PurePath(style).stem for style in styles))])

    def config(self) -> dict[str, Any]:
        (style,) = self.fields
        return {"_target_": "condgen.conditions.Styles", "styles": style.config()}

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        """Draw styles, always the same for as many labels."""
        return self.draw(len(labels), torch.Generator().manual_seed(0))


Several = Annotated[int, Ge(2)]
"""A number of values among which there is something to choose."""


class Codes(Attributes):
    """Codes that no data set knows (InfoGAN, Chen et al. 2016): categories, and numbers in [-1, 1].

    Written ``"3"`` or ``"0-9"`` for values of the first category, or ``"category=3,category2=0-4,number1=-0.5"``; what is
    left out is 0.

    Args:
        categories: number of values of each categorical code.
        continuous: number of continuous codes.
    """

    def __init__(self, categories: Sequence[Several] = (10,), continuous: Count = 2):
        if not (categories or continuous):
            raise CondgenError(
                "condition=codes needs condition.categories or condition.continuous: without codes it asks nothing."
            )
        self.categories = [int(values) for values in categories]
        self.continuous = continuous
        names = ["category" if i == 0 else f"category{i + 1}" for i in range(len(self.categories))]
        fields: list[Field] = [
            Category(name, tuple(map(str, range(values)))) for name, values in zip(names, self.categories, strict=True)
        ]
        super().__init__([*fields, *(Number(f"number{i + 1}", -1, 1) for i in range(continuous))])

    def config(self) -> dict[str, Any]:
        target = "condgen.conditions.Codes"
        return {"_target_": target, "categories": list(self.categories), "continuous": self.continuous}

    def split(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """Cut (N, width) into one part for each category and one for the numbers."""
        return torch.split(vectors, [*self.categories, self.continuous], dim=1)

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        """Data say nothing about codes: these are drawn, always the same for as many labels."""
        return self.draw(len(labels), torch.Generator().manual_seed(0))

    def unsaid(self, field: Field) -> list[float]:
        return [0.0]
