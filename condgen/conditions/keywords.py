"""Words that a text is to hold, a set of any size, beside attributes such as its form and its author."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from condgen.conditions.attributes import Attributes
from condgen.conditions.base import Condition, NoCondition
from condgen.conditions.fields import Category, Field
from condgen.conditions.text import SEPARATORS, pieces, quoted, unquoted
from condgen.errors import CondgenError
from condgen.types import PositiveInt, Share

NONE = -1.0
"""Stands where a set holds no further word."""


class Keywords(Condition):
    """Attributes, and a set of words of any size, none too; encoded as float32 (N, attributes' width + places).

    The places hold the numbers of words, then `NONE`. Written ``"tune=浣溪沙,keywords=春 月"``: the words of a set stand
    between spaces, ``|`` between sets. An attribute that is left out stays open, zeros: a model is trained with each left
    out at times. A set stands for all samples that hold its words, and a sample answers to every subset of its own.

    Args:
        fields: the attributes of the data, see `Attributes`.
        words: the words that can be asked for.
        places: words that are kept of a row of the data, the first ones.
        attributes: names of the attributes that can be asked for; None: all.
        asked: words that can be asked for at a time; fewer of a row's words are named in training, too.
        silence: probability with which `partly` leaves an attribute open.
    """

    what = "keywords"
    """How sets are asked for."""

    def __init__(
        self,
        fields: Mapping[str, Any] | Sequence[Field],
        words: Sequence[str],
        places: PositiveInt = 16,
        attributes: Sequence[str] | None = None,
        asked: PositiveInt = 6,
        silence: Share = 0.1,
    ):
        if not words:
            raise CondgenError("condition=keywords needs data with words, and these have none: choose condition=attributes.")
        self.said: Condition = Attributes(fields, attributes) if fields and attributes != [] else NoCondition()
        self.words = [str(word) for word in words]
        self.number = {word: number for number, word in enumerate(self.words)}
        self.places = max(asked, places)
        self.asked, self.silence = asked, silence
        self.classes = []

    @property
    def attributes(self) -> list[Field]:
        """The attributes that can be asked for."""
        return self.said.fields if isinstance(self.said, Attributes) else []

    @property
    def width(self) -> int:
        return self.said.width + len(self.words)

    @property
    def numbers(self) -> int:
        """Uniform numbers that `partly` needs for each row."""
        return len(self.attributes) + 1 + self.places

    def config(self) -> dict[str, Any]:
        said = self.said.config() if isinstance(self.said, Attributes) else {"fields": {}, "attributes": []}
        return {
            "_target_": "condgen.conditions.Keywords",
            "fields": said["fields"],
            "words": list(self.words),
            "places": self.places,
            "attributes": said["attributes"],
            "asked": self.asked,
            "silence": self.silence,
        }

    def schema(self) -> dict[str, Any]:
        about = f"up to {self.asked} words between spaces, such as {' '.join(self.words[:3])}"
        keywords = {"type": "string", "title": "keywords", "description": about}
        return {"type": "object", "properties": self.said.schema()["properties"] | {"keywords": keywords}}

    # --- the two parts of what is encoded ---

    def sayings(self, condition: Tensor) -> Tensor:
        """Return the encoded attributes (N, attributes' width)."""
        return condition[:, : self.said.width]

    def sets(self, condition: Tensor) -> Tensor:
        """Return the numbers of the words, int64 (N, places); -1 where a set holds no further word."""
        return condition[:, self.said.width :].long()

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        """Encode values of the fields and, in the columns behind them, numbers of words: float32 (N, F + places)."""
        known = len(self.said.known) if isinstance(self.said, Attributes) else 0
        if values is None or values.shape[1] < known:
            raise CondgenError("condition=keywords needs data with words, and these have none: choose condition=attributes.")
        said = self.said.from_data(labels, values[:, :known]) if known else values.new_empty(len(values), 0)
        words = values[:, known : known + self.places]
        missing = words.new_full((len(words), max(0, self.places - words.shape[1])), NONE)
        return torch.cat([said.nan_to_num(0.0), words, missing], dim=1)

    def partly(self, condition: Tensor, u: Tensor) -> Tensor:
        """Leave out what users leave out: each attribute at times, and most words of a row: none to `asked` are left.

        Args:
            condition: encoded conditions (N, ...).
            u: uniform numbers (N, `numbers`).
        """
        widths = torch.tensor([field.width for field in self.attributes], dtype=torch.int64, device=u.device)
        heard = (u[:, : len(widths)] >= self.silence).repeat_interleave(widths, dim=1)  # (N, attributes' width)
        words = condition[:, self.said.width :]
        left = (u[:, len(widths)] * (self.asked + 1)).long()[:, None]  # 0..asked
        order = (u[:, len(widths) + 1 :] + (words < 0)).argsort(dim=1).argsort(dim=1)  # what is no word comes last
        return torch.cat([self.sayings(condition) * heard, torch.where(order < left, words, NONE)], dim=1)

    def without_hints(self, condition: Tensor) -> Tensor:
        """Leave the words out."""
        return torch.cat([self.sayings(condition), torch.full_like(condition[:, self.said.width :], NONE)], dim=1)

    # --- what users write ---

    def parse(self, text: str) -> Tensor:
        """Encode ``"tune=浣溪沙,keywords=春 月|明月"``; several values of several attributes give all combinations."""
        rest, sets = [], [""]
        for part in pieces(text, ",") if text else []:
            name, *value = pieces(part, "=")
            if value and unquoted(name) == self.what:
                if sets != [""]:
                    raise CondgenError(
                        f"{text!r} names {self.what} twice: write one set as {self.what}=A B, several as A B|C D."
                    )
                sets = [unquoted(one) for one in pieces("=".join(value), "|")]
            else:
                rest.append(part)
        if rest and not self.attributes:
            raise CondgenError(f"Unknown attribute {rest[0].strip()!r}: this model is asked for {self.what}=WORD WORD alone.")
        said = self.said.parse(",".join(rest)).nan_to_num(0.0)
        words = torch.stack([self._set(one) for one in sets])
        return torch.cat([said.repeat_interleave(len(words), dim=0), words.repeat(len(said), 1)], dim=1)

    def _set(self, text: str) -> Tensor:
        """Return the numbers of words between spaces, float32 (places,)."""
        words = list(dict.fromkeys(text.split()))
        for word in words:
            if word not in self.number:
                near = [known for known in self.words if set(known) & set(word)][:5] or self.words[:5]
                raise CondgenError(
                    f"{self.what}={word}: this model knows {len(self.words):,} {self.what}, and {word} is none of them; it "
                    f"knows {', '.join(near)}."
                )
        if len(words) > self.asked:
            raise CondgenError(f"{self.what}={text}: name at most {self.asked} {self.what} at a time, not {len(words)}.")
        return torch.tensor([*(float(self.number[word]) for word in words), *[NONE] * (self.places - len(words))])

    def check(self, condition: Tensor) -> Tensor:
        size = self.said.width + self.places
        if condition.dim() != 2 or condition.shape[1] != size or not condition.is_floating_point():
            given = f"{condition.dtype} {tuple(condition.shape)}"
            raise CondgenError(f"Encoded {self.what} are float (N, {size}), not {given}.")
        words = condition[:, self.said.width :]
        if not bool(((words >= NONE) & (words < len(self.words)) & (words == words.round())).all()):
            raise CondgenError(f"Encoded {self.what} end in their numbers, -1 to {len(self.words) - 1}.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw each attribute by itself, and one word."""
        said = self.said.draw(count, generator)
        words = torch.full((count, self.places), NONE)
        words[:, 0] = torch.randint(len(self.words), (count,), generator=generator).float()
        return torch.cat([said, words], dim=1)

    def vector(self, condition: Tensor) -> Tensor:
        """Return the attributes, and for each word whether it is asked for: float32 (N, width)."""
        words = self.sets(condition)
        hot = condition.new_zeros(len(condition), len(self.words) + 1)  # the last column takes what is no word
        return torch.cat([self.sayings(condition), hot.scatter(1, words % hot.shape[1], 1.0)[:, :-1]], dim=1)

    def every(self) -> Tensor:
        """Return the first eight values of the first attribute, without words; one row where there is no category."""
        first = self.attributes[0] if self.attributes else None
        if not isinstance(first, Category):
            return self.parse("")
        return self.parse(f"{quoted(first.name, SEPARATORS)}=0-{min(8, first.width) - 1}")

    def describe(self, condition: Tensor) -> list[str]:
        """Write ``"tune=浣溪沙 keywords=春 月"``; what is open is left out."""
        said = self.sayings(condition)
        if isinstance(self.said, Attributes):
            # What is zero for every value of an attribute is open.
            parts = [
                part if part.shape[1] == 1 else part.masked_fill(~part.any(1, keepdim=True), torch.nan)
                for part in self.said.parts(said)
            ]
            said = torch.cat(parts, dim=1)
        names = self.said.describe(said)
        lines = []
        for name, row in zip(names, self.sets(condition).tolist(), strict=True):
            words = " ".join(self.words[number] for number in row if number >= 0)
            lines.append(" ".join(([] if name == "any" else [name]) + ([f"{self.what}={words}"] if words else [])) or "any")
        return lines
