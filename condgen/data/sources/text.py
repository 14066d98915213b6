"""Texts from a table, with a column of texts and columns of what is known of them; and the Song ci."""

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from condgen.conditions.fields import Category
from condgen.data.sources.table import Rows, read
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.data.words import chosen_words, given_words, lexicon
from condgen.errors import CondgenError
from condgen.tokens import Tokens
from condgen.types import Count, Name, PositiveInt

LARGEST = 2**27
"""Characters of all texts together beyond which they do not belong into memory."""


class TextTable:
    """Texts, with attributes from the columns of a table, one row a text, and words that can be asked for.

    Args:
        file: the table: ``.csv`` with a line of names, ``.json`` with a list of objects, or ``.jsonl`` with an object a line,
            which may end in ``.gz``.
        text: the column of texts.
        columns: those to take as attributes, each a category; None: all but those of texts and keywords. An empty cell, and
            a value that fewer than ``rare`` texts have, is left open.
        keywords: a column of words between spaces that its text can be asked for by; None: words that texts hold, see
            `condgen.data.words.lexicon`.
        words: how many words there are at most.
        places: how many of them a text has at most.
        length: most characters of a text; what is longer is cut.
        rarest: texts of the table hold a character so many times at least, or it is unknown.
        rare: texts that a value of an attribute needs.
        seed: decides which of its words a text that holds more has.
    """

    def __init__(
        self,
        file: str | Path,
        text: str = "text",
        columns: Sequence[Name] | None = None,
        keywords: str | None = None,
        words: Count = 4000,
        places: PositiveInt = 16,
        length: PositiveInt = 256,
        rarest: PositiveInt = 1,
        rare: PositiveInt = 5,
        seed: int = 0,
    ):
        self.file = Path(file)
        self.text, self.columns, self.keywords = text, columns, keywords
        self.words, self.places, self.length, self.rarest, self.rare, self.seed = words, places, length, rarest, rare, seed

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load all texts as int16 tokens (N, length); raises CondgenError naming file, row and column of what is wrong."""
        if decoding.image_size is not None or decoding.channels is not None:
            raise CondgenError("data.image_size and data.channels change images, and these are texts: leave both at null.")
        rows = self.rows()
        if not rows:
            raise CondgenError(f"{self.file} has no rows: it needs one for each text.")
        texts = self._texts(rows)
        known = next(iter(rows.values()))
        others = (self.text, self.keywords)
        names = [str(name) for name in self.columns] if self.columns is not None else [n for n in known if n not in others]
        found = [(name, self._category(name, self._cells(rows, name))) for name in names]
        attributes = [pair for _, pair in found if pair is not None]
        if self.columns is not None and (useless := [name for name, pair in found if pair is None]):
            raise CondgenError(
                f"{self.file}: fewer than two values of {useless[0]} have at least {self.rare} texts: there is nothing to "
                "learn; lower data.source.rare, or leave the column out of data.source.columns."
            )
        words, sets = self._words(rows, texts)
        space = Tokens(self._vocabulary(texts), self.length)
        values = torch.cat([*(column[:, None] for _, column in attributes), sets.float()], dim=1)
        table = Table(self._tokens(space, texts), torch.zeros(len(texts), dtype=torch.int64), values, made=space)
        return Tables(table, None, [], [field for field, _ in attributes], words)

    def rows(self) -> Rows:
        """Return the cells of each row by the names of their columns, by where it stands in the file."""
        return dict(read(self.file))

    def _texts(self, rows: Rows) -> list[str]:
        texts = []
        for row, cells in rows.items():
            if self.text not in cells:
                raise CondgenError(
                    f"{self.file} {row} has no column {self.text}: it has {', '.join(cells)}; data.source.text names the one "
                    "of texts."
                )
            if not (text := cells[self.text].strip()):
                raise CondgenError(f"{self.file} {row}: {self.text} is empty, and every row needs a text.")
            texts.append(text)
        if (total := sum(map(len, texts))) > LARGEST:
            raise CondgenError(f"{self.file} holds {total:,} characters: at most {LARGEST:,} fit, take a part of the rows.")
        return texts

    def _cells(self, rows: Rows, name: str) -> list[str]:
        for row, cells in rows.items():
            if name not in cells:
                raise CondgenError(f"{self.file} {row} has no column {name}: it has {', '.join(cells)}.")
        return [cells[name].strip() for cells in rows.values()]

    def _category(self, name: str, cells: Sequence[str]) -> tuple[Category, Tensor] | None:
        """Return an attribute, its commonest value first, with its values (N,), NaN where one is open; None: none is left."""
        counts = Counter(cell for cell in cells if cell and cell.isprintable())
        known = sorted((value for value in counts if counts[value] >= self.rare), key=lambda value: (-counts[value], value))
        if len(known) < 2:
            return None
        place = {value: float(index) for index, value in enumerate(known)}
        return Category(name, tuple(known)), torch.tensor([place.get(cell, torch.nan) for cell in cells])

    def _vocabulary(self, texts: Sequence[str]) -> str:
        counts = Counter(letter for text in texts for letter in text)
        known = (letter for letter, count in counts.items() if count >= self.rarest and letter != "□")  # that is the unknown
        vocabulary = "".join(sorted(known))
        if not vocabulary or len(vocabulary) + 2 >= 2**15:
            raise CondgenError(
                f"{self.file} holds {len(vocabulary):,} characters that occur at least {self.rarest} times, and a vocabulary "
                f"has 1 to {2**15 - 3:,}: change data.source.rarest."
            )
        return vocabulary

    def _tokens(self, space: Tokens, texts: Sequence[str]) -> Tensor:
        blocks = [space.tokens(texts[start : start + 4096]).to(torch.int16) for start in range(0, len(texts), 4096)]
        return torch.cat(blocks)

    def _words(self, rows: Rows, texts: list[str]) -> tuple[list[str], Tensor]:
        """Return the words that can be asked for, and which each text has, (N, places)."""
        if self.keywords is None:
            words = lexicon(texts, self.words)
            return words, chosen_words(texts, words, self.places, self.seed)
        return given_words(self._cells(rows, self.keywords), self.words, self.places)


class SongCi(TextTable):
    """The lyrics of the Song dynasty (Quan Song ci): 19,780 with tune and author, each line ended by a full stop.

    A tune that has several names, ``望江南・忆江南``, is called by the last; those that are lost (失调名) are left open.

    Args:
        file: ``songci.jsonl.gz``, an object a line with ``tune``, ``author`` and ``lines``.
        length: most characters of a text; 1 in 1,000 is longer than 256.
        rarest: characters that occur less often are unknown: □, which the collection has where a character is lost.
        rare: poems that a tune, or an author, needs to be asked for.
        words, places, seed: see `TextTable`.
    """

    def __init__(
        self,
        file: str | Path,
        length: PositiveInt = 256,
        rarest: PositiveInt = 3,
        rare: PositiveInt = 5,
        words: Count = 4000,
        places: PositiveInt = 16,
        seed: int = 0,
    ):
        super().__init__(
            file,
            "text",
            ("tune", "author"),
            None,
            words=words,
            places=places,
            length=length,
            rarest=rarest,
            rare=rare,
            seed=seed,
        )

    def rows(self) -> Rows:
        if not self.file.is_file():
            raise CondgenError(
                f"There is no {self.file}: name songci.jsonl.gz, an object a line with tune, author and lines, with "
                "data.source.file=FILE."
            )
        rows: Rows = {}
        try:
            with gzip.open(self.file, "rt", encoding="utf-8") as lines:
                for i, line in enumerate(lines, start=1):
                    poem = json.loads(line)
                    tune = poem["tune"].split("・")[-1]
                    text = "".join("".join(poem["lines"]).split())
                    rows[f"line {i}"] = {"tune": "" if tune == "失调名" else tune, "author": poem["author"], "text": text}
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CondgenError(f"{self.file} could not be read as the Song ci ({error}).") from error
        return rows
