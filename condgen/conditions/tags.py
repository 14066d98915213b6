"""A set of tags, any number of them: what a sample shows, as far as somebody cares to say it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from condgen.conditions.attributes import Attributes
from condgen.conditions.fields import Category, Field, Number, fields_from
from condgen.conditions.keywords import NONE, Keywords
from condgen.errors import CondgenError
from condgen.types import PositiveInt


class Tags(Keywords):
    """A set of tags, encoded as float32 (N, places), the numbers of tags, then `NONE`. Written ``"tags=red thick 3"``.

    The values of the data's categories are tags, ranges of its numbers that ``parts`` name, and words that the data have beside
    (`Keywords`). A set stands for all samples that have its tags, and a sample answers to every subset of its own: a model is
    trained with some of them. Two tags of one attribute are no set.

    Args:
        fields: the attributes of the data.
        words: further tags of the data.
        classes: names of the data's classes.
        parts: names of equal parts of a number's range, from its least values to its greatest; of others there are no tags.
        places: tags that are kept of a row of the data, the first ones.
        asked: tags that can be asked for at a time; fewer of a row's tags are named in training, too.
    """

    what = "tags"

    def __init__(
        self,
        fields: Mapping[str, Any] | Sequence[Field] = (),
        words: Sequence[str] = (),
        classes: Sequence[str] = (),
        parts: Mapping[str, Sequence[str]] | None = None,
        places: PositiveInt = 16,
        asked: PositiveInt = 6,
    ):
        known = fields_from(fields)
        self.parts = {str(name): [str(part) for part in names] for name, names in (parts or {}).items()}
        numbers = [field.name for field in known if isinstance(field, Number)]
        if wrong := [name for name, names in self.parts.items() if name not in numbers or len(names) < 2]:
            has = f"they have {', '.join(numbers)}" if numbers else "they have none"
            raise CondgenError(
                f"condition.parts.{wrong[0]} must give at least two names to parts of a number of the data: {has}."
            )
        self.groups = [(i, names) for i, field in enumerate(known) if (names := self._values(field))]
        counts = [name for _, names in self.groups for name in names]
        own = [[f"{known[i].name}:{name}" if counts.count(name) > 1 else name for name in names] for i, names in self.groups]
        self.of_fields = [tag.replace(" ", "_") for names in own for tag in names]
        if not self.of_fields and not words:
            raise CondgenError(
                "condition=tags needs data with tags, and these have none: name a column of them with data.source.tags=COLUMN, "
                "or choose another condition."
            )
        self.further = [str(word) for word in words]
        taken = {*self.of_fields}
        tags = [*self.of_fields, *(f"{word}:tag" if word in taken else word for word in self.further)]
        super().__init__([], tags, max(places, len(self.groups)), [], asked)
        self.fields = known
        self.told = Attributes(known, classes=classes) if known else None
        self.classes = self.told.classes if self.told else []

    def _values(self, field: Field) -> list[str]:
        return list(field.values) if isinstance(field, Category) else self.parts.get(field.name, [])

    def config(self) -> dict[str, Any]:
        return {
            "_target_": "condgen.conditions.Tags",
            "fields": {field.name: field.config() for field in self.fields},
            "words": self.further,
            "classes": list(self.classes),
            "parts": self.parts,
            "places": self.places,
            "asked": self.asked,
        }

    def schema(self) -> dict[str, Any]:
        about = f"up to {self.asked}, such as {' '.join(self.describe(self.draw(1, torch.Generator().manual_seed(0))))}"
        items = {"type": "string", "enum": self.words}
        tags = {"type": "array", "items": items, "maxItems": self.asked, "title": "tags", "description": about}
        return {"type": "object", "properties": {"tags": tags}}

    # --- what data say ---

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        """Encode values of the fields, float32 (N, F + words), and the numbers of words behind them: float32 (N, places)."""
        if values is None:
            raise CondgenError("condition=tags needs data with tags, and these have none.")
        columns, start = [], 0
        for i, names in self.groups:
            field, column = self.fields[i], values[:, i]
            if isinstance(field, Number):
                share = (column - field.low) / (field.high - field.low)
                column = (share * len(names)).floor().clamp(0, len(names) - 1)
            columns.append((column + start).nan_to_num(NONE))
            start += len(names)
        own = values[:, len(self.fields) :]
        tags = torch.cat([*(column[:, None] for column in columns), torch.where(own < 0, NONE, own + start)], dim=1)
        missing = tags.new_full((len(tags), max(0, self.places - tags.shape[1])), NONE)
        return torch.cat([tags, missing], dim=1)[:, : self.places]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw a tag of each attribute, and one of all that are of none."""
        sizes = [len(names) for _, names in self.groups] + [len(self.further)] * bool(self.further)
        starts = torch.tensor([0, *sizes]).cumsum(0)[:-1]
        u = torch.rand(count, len(sizes), generator=generator)
        drawn = starts + (u * torch.tensor(sizes)).floor()
        return torch.cat([drawn, drawn.new_full((count, self.places - len(sizes)), NONE)], dim=1)

    # --- what users write ---

    def parse(self, text: str) -> Tensor:
        """Encode ``"red thick 3"``, ``"tags=red thick 3"``, or several sets with ``|`` between them."""
        return super().parse(text if "=" in text or not text else f"{self.what}={text}")

    def _set(self, text: str) -> Tensor:
        found = super()._set(text)
        numbers, start = [int(number) for number in found.tolist() if number >= 0], 0
        for i, names in self.groups:
            mine = [self.words[number] for number in numbers if start <= number < start + len(names)]
            if len(mine) > 1:
                raise CondgenError(
                    f"tags={text}: {mine[0]} and {mine[1]} are both {self.fields[i].name}, and a sample has one: name one of "
                    f"them, or ask for either with {mine[0]}|{mine[1]}."
                )
            start += len(names)
        return found

    def every(self) -> Tensor:
        """Return each tag of the first attribute alone, or the first eight tags where there is no attribute."""
        count = len(self.groups[0][1]) if self.groups else min(8, len(self.words))
        tags = torch.full((count, self.places), NONE)
        tags[:, 0] = torch.arange(count)
        return tags
