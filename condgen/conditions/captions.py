"""A sentence that says what to draw, read character by character by a small encoder that learns with the model."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from condgen.conditions.attributes import Attributes
from condgen.conditions.base import Condition
from condgen.conditions.fields import Field
from condgen.conditions.text import pieces, unquoted
from condgen.conditions.transformer import TextEncoder
from condgen.errors import CondgenError
from condgen.tokens import UNKNOWN, Tokens
from condgen.types import PositiveInt

EXAMPLES, SHOWN = 64, 8
"""Captions that a condition keeps, to draw from and to show, and those of them in a grid."""
LOOKED_AT = 100_000
"""Captions of the training part that are looked at for their characters."""


class Captions(Condition):
    """A caption such as ``"a thick red three, turned to the left"``; encoded as its characters, int16 (N, length).

    Data encode all captions of a sample one after the other, (N, captions * length), the first one first; `partly` draws one.
    Letters are read in lower case and in Unicode's compatible form (NFKC), and spaces between words as one. Each network that
    hears the condition reads it by a `TextEncoder` of its own.

    Args:
        captions: of the training part, a line for each of several of a sample; some are kept as examples.
        fields: the attributes of the data, which captions are taken to tell: samples are measured by them.
        classes: names of the data's classes.
        vocabulary: characters that are known; None: those of ``captions``.
        longest: most characters of a caption; None: as many as the longest has.
        width: of the encoder's stream and of the vectors that it returns.
        layers, heads: of the encoder.
    """

    def __init__(
        self,
        captions: Sequence[str] | None,
        fields: Mapping[str, Any] | Sequence[Field] = (),
        classes: Sequence[str] = (),
        vocabulary: str | None = None,
        longest: PositiveInt | None = None,
        width: PositiveInt = 64,
        layers: PositiveInt = 1,
        heads: PositiveInt = 4,
    ):
        if not captions:
            raise CondgenError(
                "condition=caption needs data with captions, and these have none: name the column of a table that holds them "
                "with data.source.caption=COLUMN, or choose another condition."
            )
        if width % heads:
            raise CondgenError(f"condition.heads={heads} must divide condition.width={width}.")
        found = [lines(captions[i]) for i in spread(len(captions), LOOKED_AT)]
        self.examples = list(dict.fromkeys(found[i][0] for i in spread(len(found), EXAMPLES)))
        letters = vocabulary or "".join(sorted({letter for several in found for text in several for letter in text}))
        longest = longest or max(len(text) for several in found for text in several)
        self.text = Tokens(letters, max(2, longest))
        self.told = Attributes(fields, classes=classes) if fields else None
        self.classes = self.told.classes if self.told else []
        self.size, self.layers, self.heads = width, layers, heads

    @property
    def width(self) -> int:
        return self.size

    def config(self) -> dict[str, Any]:
        told = self.told.config() if self.told else {"fields": {}, "classes": []}
        return {
            "_target_": "condgen.conditions.Captions",
            "captions": self.examples,
            "fields": told["fields"],
            "classes": told["classes"],
            "vocabulary": self.text.vocabulary,
            "longest": self.text.length,
            "width": self.size,
            "layers": self.layers,
            "heads": self.heads,
        }

    def schema(self) -> dict[str, Any]:
        about = f"up to {self.text.length} characters, such as: {self.examples[0]}"
        caption = {"type": "string", "title": "caption", "maxLength": self.text.length, "description": about}
        return {"type": "object", "properties": {"caption": caption}, "required": ["caption"]}

    def encoder(self) -> nn.Module:
        return TextEncoder(self.text.size, self.text.length, self.size, self.layers, self.heads)

    # --- what data say ---

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        """Raise CondgenError: labels are no captions."""
        return self.from_rows(labels, values, None)

    def from_rows(self, labels: Tensor, values: Tensor | None, captions: Sequence[str] | None) -> Tensor:
        """Encode captions, int16 (N, most * length); a sample that has fewer than others has its own again."""
        if captions is None:
            raise CondgenError("condition=caption needs data with captions, and these have none.")
        found = [lines(captions[i]) for i in range(len(captions))]
        most = max((len(several) for several in found), default=1)
        rows = [self.text.tokens([several[i % len(several)] for several in found]).to(torch.int16) for i in range(most)]
        return torch.cat(rows, dim=1)

    @property
    def numbers(self) -> int:
        return 1

    def partly(self, condition: Tensor, u: Tensor) -> Tensor:
        """Draw one of the captions of each sample, int16 (N, length)."""
        several = condition.view(len(condition), -1, self.text.length)  # (N, most, length)
        drawn = (u[:, 0] * several.shape[1]).long()
        return several[torch.arange(len(several), device=several.device), drawn]

    # --- what users write ---

    def parse(self, text: str) -> Tensor:
        """Encode ``"a thick red three"``, ``"caption=a thick red three"``, or several with ``|`` between them."""
        parts = [unquoted(part) for part in pieces(text.strip().removeprefix("caption="), "|")]
        return self.text.tokens([self._read(plain(part)) for part in parts]).to(torch.int16)

    def _read(self, text: str) -> str:
        if not text:
            raise CondgenError(f"The caption is empty: write what to draw, such as {self.examples[0]!r}.")
        if len(text) > self.text.length:
            raise CondgenError(
                f"The caption has {len(text):,} characters and this model reads at most {self.text.length}: shorten it, to "
                f"something such as {self.examples[0]!r}."
            )
        if strange := sorted({*text} - {*self.text.vocabulary}):
            raise CondgenError(
                f"The caption {text!r} has what no caption of the training had, {' '.join(strange)}: say it in other words, "
                f"such as {self.examples[0]!r}."
            )
        return text

    def check(self, condition: Tensor) -> Tensor:
        whole = condition.dim() == 2 and not condition.is_floating_point() and condition.shape[1] > 0
        if not whole or condition.shape[1] % self.text.length:
            given = f"{condition.dtype} {tuple(condition.shape)}"
            raise CondgenError(f"Encoded captions are whole numbers (N, {self.text.length}), not {given}.")
        if not bool(((condition >= 0) & (condition < self.text.size)).all() and (condition[:, 0] >= UNKNOWN).all()):
            raise CondgenError(f"Encoded captions are numbers of characters, 1 to {self.text.size - 1}, and then zeros.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw examples."""
        return self._shown(self.examples)[torch.randint(len(self.examples), (count,), generator=generator)]

    def _shown(self, texts: Sequence[str]) -> Tensor:
        return self.text.tokens(texts).to(torch.int16)

    def vector(self, condition: Tensor) -> Tensor:
        raise CondgenError(
            "A caption has no vector of its own, it is read by the networks: choose a model that asks for none, such as "
            "flow_matching, cgan_conv or cvae_conv."
        )

    def every(self) -> Tensor:
        """Return the first examples."""
        return self._shown(self.examples[:SHOWN])

    def describe(self, condition: Tensor) -> list[str]:
        return self.text.texts(condition[:, : self.text.length])

    def between(self, first: Tensor, last: Tensor, share: float) -> Tensor:
        """Return both captions and how far the way is gone, float32 (N, 2 length + 1): encoders mix what they read."""
        ends = [end[:, : self.text.length].float() for end in (first, last)]
        return torch.cat([*ends, torch.full((len(first), 1), share, device=first.device)], dim=1)


def plain(text: str) -> str:
    """Return a text as it is read: in lower case and compatible form, a single space between words."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def lines(caption: str) -> list[str]:
    """Return the captions of a sample, a line each, as they are read; an empty one is said by a question mark."""
    return [text for line in caption.splitlines() if (text := plain(line))] or ["?"]


def spread(count: int, most: int) -> Iterable[int]:
    """Return at most ``most`` of the whole numbers below ``count``, evenly spread."""
    return range(count) if count <= most else (count * i // most for i in range(most))
