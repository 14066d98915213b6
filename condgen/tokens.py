"""Text as a space: characters as whole numbers, ended by a stop."""

import colorsys
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from condgen.errors import CondgenError

STOP, UNKNOWN = 0, 1
"""The token that ends a text and fills what is left of its row, and that of characters which the vocabulary does not have."""
FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSerifCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "DejaVuSans.ttf",
)
"""Files of fonts, looked for where the system has its own; condgen ships none."""
CELL, LINE, WIDE = 16, 20, 24
"""Pixels from a character to the next and from a line to the next, and characters in a line of a picture."""


class Tokens:
    """Texts as int64 (B, length): tokens of characters, then `STOP` up to the end of the row.

    Args:
        vocabulary: the characters, each once, whose tokens are 2, 3, ...
        length: most characters of a text.
        unknown: how a character is written that is none of them.
    """

    suffix = ".txt"
    """Ending of the file of one sample."""

    def __init__(self, vocabulary: str, length: int, unknown: str = "□"):
        if not vocabulary or len(set(vocabulary)) < len(vocabulary):
            raise CondgenError("A space of texts needs a vocabulary of at least one character, each named once.")
        if length < 2:
            raise CondgenError(f"A space of texts needs a length of at least 2 characters, not {length}.")
        self.vocabulary, self.length, self.unknown = vocabulary, int(length), unknown
        self.shape: tuple[int, ...] = (self.length,)

    def __str__(self) -> str:
        return f"{self.length} characters"

    @property
    def size(self) -> int:
        """Number of tokens, the stop and the unknown one among them."""
        return len(self.vocabulary) + 2

    def config(self) -> dict[str, Any]:
        """Return what rebuilds this space: a plain dict with a ``_target_``."""
        known = {"vocabulary": self.vocabulary, "length": self.length, "unknown": self.unknown}
        return {"_target_": "condgen.tokens.Tokens"} | known

    # --- between texts and tokens ---

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {letter: token for token, letter in enumerate(self.vocabulary, start=2)}

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Write texts as tokens, int64 (N, length); what is longer is cut and has no stop."""
        rows = np.zeros((len(texts), self.length), dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            found = [self._tokens.get(letter, UNKNOWN) for letter in text[: self.length]]
            row[: len(found)] = found
        return torch.from_numpy(rows)

    def texts(self, tokens: Tensor) -> list[str]:
        """Read texts from tokens (N, length), up to the first stop of each."""
        letters = ["", self.unknown, *self.vocabulary]
        rows: list[list[int]] = tokens.long().cpu().tolist()
        return ["".join(letters[token] for token in (row[: row.index(STOP)] if STOP in row else row)) for row in rows]

    @cached_property
    def marks(self) -> Tensor:
        """Which tokens are punctuation or spaces, bool (size,): neither letters nor digits."""
        return torch.tensor([False, False, *(not letter.isalnum() for letter in self.vocabulary)])

    # --- how samples are shown and written ---

    def layout(self, conditions: int, count: int | None = None) -> tuple[int, int]:
        """Two texts (or ``count``) for each condition in a row; a square where there is one, 2 x 2."""
        count = count or (2 if conditions > 1 else 4)
        return count, min(8, count if conditions > 1 else math.ceil(math.sqrt(count)))

    def grid(self, samples: Tensor, columns: int) -> Tensor:
        """Draw texts (N, length) row by row, uint8 (3, height, width).

        Where no font of the machine has their characters, each is a square in a colour of its own, punctuation a blank.
        """
        texts = [wrapped(text) for text in self.texts(samples)]
        height = -(-self.length // WIDE) * LINE + LINE // 2  # whatever the texts are: pictures stand beside each other
        width = (WIDE + 1) * CELL
        picture = Image.new("RGB", (columns * width, -(-len(texts) // columns) * height), "white")
        pen, font = ImageDraw.Draw(picture), self._font
        for i, lines in enumerate(texts):
            left, top = i % columns * width + CELL // 2, i // columns * height + LINE // 4
            for row, line in enumerate(lines):
                for column, letter in enumerate(line):
                    place = (left + column * CELL, top + row * LINE)
                    if font is not None:
                        pen.text(place, letter, fill="black", font=font)
                    elif letter.isalnum():
                        pen.rectangle((*place, place[0] + CELL - 3, place[1] + CELL - 3), fill=self._colour(letter))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()

    @cached_property
    def _font(self) -> ImageFont.FreeTypeFont | None:
        """A font of the machine that draws the first letters of the vocabulary unlike each other; None: there is none."""
        letters = [letter for letter in self.vocabulary if letter.isalnum()][:50]
        for name in FONTS:
            try:
                font = ImageFont.truetype(name, CELL - 2)
            except OSError:
                continue
            drawn = {(font.getmask(letter).size, bytes(font.getmask(letter))) for letter in letters}
            if len(drawn) > 0.9 * len(letters):  # a font that lacks them draws the same box for all
                return font
        return None

    def _colour(self, letter: str) -> tuple[int, int, int]:
        hue = self._tokens.get(letter, UNKNOWN) * 0.618034 % 1  # neighbours lie far apart
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.6, 0.8)
        return round(255 * red), round(255 * green), round(255 * blue)

    def export(self, samples: Tensor) -> tuple[str, Tensor]:
        """``tokens``, int32 (N, length); `texts` reads them."""
        return "tokens", samples.to(torch.int32)

    def file(self, samples: Tensor, about: Mapping[str, str] | None = None) -> bytes:
        """Return texts (N, length) in UTF-8, with a line for each sentence and an empty one between texts; they say no more."""
        return "\n".join("\n".join(sentences(text)) + "\n" for text in self.texts(samples)).encode()


def sentences(text: str) -> list[str]:
    """Cut a text into lines: where it has them, else after each full stop of Chinese."""
    return (text if "\n" in text else text.replace("。", "。\n")).strip("\n").split("\n")


def wrapped(text: str) -> list[str]:
    """Cut a text into lines of `WIDE` characters, where a line of its own ends only a space."""
    text = text.replace("\n", " ")
    return [text[start : start + WIDE] for start in range(0, len(text), WIDE)]
