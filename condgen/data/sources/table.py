"""Any folder of images with a table of what they show: a CSV, a JSON list or JSON lines."""

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from condgen.conditions.fields import Category, Field, Number
from condgen.data import cache
from condgen.data.decode import decode_all
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.data.undecoded import Undecoded
from condgen.data.words import given_words
from condgen.errors import CondgenError
from condgen.images import Picture
from condgen.spaces import Space
from condgen.types import Name

Rows = dict[str, dict[str, str]]
"""The cells of each row by the names of their columns, by the name of the row: where it stands in the file."""
MANY = 20
"""Different whole numbers above which a column of them is a number and no category."""
RESERVED = '",=|'
"""Letters that separate what is asked for on a command line, which no tag may hold."""
Kind = Literal["category", "number"]
LARGEST = 1e30
"""Numbers beyond are no measurements, and their range would not fit into float32."""


class ImageTable:
    """Images in a folder, with attributes from the columns of a table, one row an image.

    A column is a category where no cell is a number, or all are whole numbers and at most 20 different ones; it is a number,
    whose range is that of its cells, where all cells are numbers. A column that has both kinds of cells (a NaN among ages) is
    refused unless ``columns`` says what it is. What is in the folder and not in the table is left out.

    Args:
        path: the folder.
        file: the table, in the folder or anywhere: ``.csv`` with a line of names, ``.json`` with a list of objects, or
            ``.jsonl`` with an object a line.
        columns: those to take as attributes, ``[smile, age]``, or with what they are, ``{smile: category, age: number}``;
            None: all but that of file names.
        image: the column of file names, within the folder.
        label: the column that is also the class; where there is no such column there are no classes.
        caption: a column of texts, which are no attributes: condition=caption reads them, ``condgen pack`` takes them along.
        tags: a column of tags between spaces, any number of them, which are no attributes: condition=tags reads them.
        outside: let the table name images by absolute paths and through ``..``, wherever they lie.
    """

    what = "image"
    made: Space | None = None
    """See `Table`."""

    def __init__(
        self,
        path: str | Path,
        file: str | Path = "labels.csv",
        columns: Sequence[Name] | Mapping[Name, Kind | None] | None = None,
        image: str = "file",
        label: str = "class",
        caption: str | None = None,
        outside: bool = False,
        tags: str | None = None,
    ):
        self.path = Path(path)
        self.file = self.path / file if (self.path / file).is_file() else Path(file)
        self.columns = dict.fromkeys(columns) if isinstance(columns, Sequence) else columns
        self.image, self.label, self.caption, self.outside, self.tags = image, label, caption, outside, tags

    def decode(self, stem: str, identity: object, pictures: Sequence[Picture], decoding: Decoding) -> Tensor | Undecoded:
        """Return all files as samples; see `decode_all`."""
        return decode_all(stem, identity, pictures, decoding)

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load all images; raises CondgenError naming file, row and column of what is wrong."""
        if not self.path.is_dir():
            raise CondgenError(f"{self.path} is not a folder: name the one that holds the {self.what}s.")
        rows = dict(read(self.file))
        if not rows:
            raise CondgenError(f"{self.file} has no rows: it needs one for each {self.what}.")
        files = [self._picture(row, name) for row, name in self._cells(rows, self.image).items()]
        known = next(iter(rows.values()))
        others = (self.image, self.caption, self.tags)
        names = self.columns if self.columns is not None else [name for name in known if name not in others]
        fields, columns = [], []
        for name in names:
            field, values = self._attribute(str(name), self._cells(rows, str(name)))
            fields.append(field)
            columns.append(values)
        classes, labels = [], torch.zeros(len(rows), dtype=torch.int64)
        if self.label in known:
            field, values = self._category(self.label, self._cells(rows, self.label))
            classes, labels = list(field.values), values.long()
        identity = [cache.stamp(file) for file in files]
        images = self.decode(self.path.resolve().name, identity, [Picture(str(f), f.read_bytes) for f in files], decoding)
        captions = list(self._cells(rows, self.caption).values()) if self.caption else None
        words, sets = self._tags(rows)
        parts = [*(column[:, None] for column in columns), *([sets.float()] if words else [])]
        table = Table(images, labels, torch.cat(parts, dim=1) if parts else None, captions, self.made)
        return Tables(table, None, classes, fields, words)

    def _tags(self, rows: Rows) -> tuple[list[str], Tensor]:
        """Return all tags and which each row has, (N, `MANY`), -1 for none; a row may have no tag."""
        if self.tags is None:
            return [], torch.empty(len(rows), 0)
        if missing := [row for row, found in rows.items() if self.tags not in found]:
            raise CondgenError(f"{self.file} {missing[0]} has no column {self.tags}: it has {', '.join(rows[missing[0]])}.")
        cells = {row: found[self.tags] for row, found in rows.items()}
        words, sets = given_words(list(cells.values()), len(rows) * MANY, MANY)
        if not words:
            raise CondgenError(f"{self.file}: {self.tags} is empty in every row: there is nothing to learn.")
        for row, cell in cells.items():
            if not "".join(cell.split()).isprintable() or {*cell} & {*RESERVED}:
                raise CondgenError(f"{self.file} {row}: {self.tags} is {shortened(cell)}, and a tag has none of {RESERVED}.")
        return words, sets

    def _cells(self, rows: Rows, name: str) -> dict[str, str]:
        """Return the cells of a column by their rows."""
        cells = {}
        for row, found in rows.items():
            if name not in found:
                raise CondgenError(f"{self.file} {row} has no column {name}: it has {', '.join(found)}.")
            if not found[name]:
                raise CondgenError(f"{self.file} {row}: {name} is empty, and every {self.what} needs one.")
            cells[row] = found[name]
        return cells

    def _picture(self, row: str, name: str) -> Path:
        if not self.outside and (Path(name).is_absolute() or ".." in Path(name).parts):
            raise CondgenError(
                f"{self.file} {row}: the {self.what} {name} of column {self.image} lies outside {self.path}; if you trust the "
                "table, data.source.outside=true reads it."
            )
        file = self.path / name
        if not file.is_file():
            raise CondgenError(f"{self.file} {row}: the {self.what} {name} of column {self.image} is not in {self.path}.")
        return file

    def _attribute(self, name: str, cells: dict[str, str]) -> tuple[Field, Tensor]:
        """Return an attribute and its values (N,)."""
        kind = (self.columns or {}).get(name) or ("category" if name == self.label else self._kind(name, cells))
        return self._category(name, cells) if kind == "category" else self._number(name, cells)

    def _kind(self, name: str, cells: dict[str, str]) -> Kind:
        """Say what a column is, by its cells; raises CondgenError where they do not agree."""
        odd = [row for row, cell in cells.items() if not is_number(cell)]
        if 0 < len(odd) < len(cells):
            row = odd[0] if 2 * len(odd) <= len(cells) else next(row for row in cells if row not in set(odd))
            others = "numbers" if row == odd[0] else "words"
            raise CondgenError(
                f"{self.file} {row}: {name} is {shortened(cells[row])} where most rows have {others}: change it, or say what "
                f"the column is with data.source.columns={{{name}: category}}."
            )
        distinct = set(cells.values())
        return "category" if odd or (len(distinct) <= MANY and all(map(is_whole, distinct))) else "number"

    def _number(self, name: str, cells: dict[str, str]) -> tuple[Number, Tensor]:
        for row, cell in cells.items():
            if not is_number(cell):
                raise CondgenError(
                    f"{self.file} {row}: {name} must be a number from -{LARGEST:g} to {LARGEST:g}, not {shortened(cell)}."
                )
        values = torch.tensor([float(cell) for cell in cells.values()])
        low, high = values.min().item(), values.max().item()
        if low == high:
            raise CondgenError(f"{self.file}: {name} is {cells[next(iter(cells))]} in every row: there is nothing to learn.")
        self._require_plain(name)
        return Number(name, low, high), values

    def _category(self, name: str, cells: dict[str, str]) -> tuple[Category, Tensor]:
        whole = all(map(is_whole, cells.values()))
        known = sorted(set(cells.values()), key=lambda cell: (int(cell) if whole else 0, cell))
        if len(known) < 2:
            raise CondgenError(f"{self.file}: {name} is {known[0]} in every row: there is nothing to learn.")
        self._require_plain(name, *known)
        place = {cell: float(index) for index, cell in enumerate(known)}
        return Category(name, tuple(known)), torch.tensor([place[cell] for cell in cells.values()])

    def _require_plain(self, name: str, *values: str) -> None:
        """Refuse what could not be asked for on a command line."""
        for text in (name, *values):
            if not text.isprintable():
                raise CondgenError(f"{self.file}: {text!r} in column {name} holds letters that cannot be written: rename it.")


def read(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield for each row where it stands, ``"line 7"`` or ``"entry 7"``, and its cells by the names of their columns.

    Raises:
        CondgenError: there is no such file, or it is no table.
    """
    packed = file.suffix == ".gz"
    kind = Path(file.stem).suffix if packed else file.suffix
    if kind not in (".csv", ".json", ".jsonl"):
        raise CondgenError(
            f"data.source.file={file} must be a .csv, a .json with a list of objects, or a .jsonl with one a line."
        )
    try:
        with (gzip.open if packed else open)(file, "rt", newline="", encoding="utf-8-sig") as lines:
            if kind == ".csv":
                table = csv.DictReader(lines)
                require_different(file, table.fieldnames or ())
                for found in table:
                    if None in found or None in found.values():
                        raise CondgenError(
                            f"{file} line {table.line_num} does not have as many cells as the first line: add what is missing."
                        )
                    yield f"line {table.line_num}", {name.strip(): cell.strip() for name, cell in found.items()}
            elif kind == ".json":
                yield from (entry(file, f"entry {i}", found) for i, found in enumerate(parsed(lines.read()), start=1))
            else:
                yield from (entry(file, f"line {i}", parsed(line)) for i, line in enumerate(lines, 1) if line.strip())
    except FileNotFoundError:
        raise CondgenError(
            f"There is no table {file}: name it with data.source.file=NAME, in the folder of the images."
        ) from None
    except CondgenError:
        raise
    except (OSError, EOFError, ValueError, TypeError, RecursionError, csv.Error) as error:
        raise CondgenError(f"{file} could not be read as a table ({str(error).splitlines()[0]}).") from error


def require_different(file: Path, names: Sequence[str]) -> None:
    """Refuse a table with a column without a name, or two of the same; raises CondgenError."""
    known: dict[str, int] = {}
    for place, name in enumerate((name.strip() for name in names), start=1):
        if not name:
            raise CondgenError(f"{file} line 1: column {place} has no name.")
        if name in known:
            raise CondgenError(f"{file} line 1: columns {known[name]} and {place} are both called {name}: rename one of them.")
        known[name] = place


def parsed(text: str) -> Any:
    """Parse JSON; an object that has a name twice is none."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"an object has {next(name for name in names if names.count(name) > 1)} twice")
        return found

    return json.loads(text, object_pairs_hook=once)


def entry(file: Path, row: str, found: Any) -> tuple[str, dict[str, str]]:
    """Return the cells of a JSON object as text; null is empty."""
    if not isinstance(found, dict) or any(isinstance(cell, dict | list) for cell in found.values()):
        raise CondgenError(f'{file} {row} must be an object with plain values, such as {{"file": "a.png", "age": 30}}.')
    return row, {
        name: cell if isinstance(cell, str) else "" if cell is None else json.dumps(cell) for name, cell in found.items()
    }


def is_whole(cell: str) -> bool:
    """Whether a cell is a whole number."""
    digits = cell.removeprefix("-")
    return digits.isdecimal() and len(digits) < 16


def is_number(cell: str) -> bool:
    """Whether a cell is a number that can be learned; NaN and infinity are none."""
    try:
        return abs(float(cell)) <= LARGEST
    except ValueError:
        return False


def shortened(cell: str) -> str:
    """Show a cell, cut where it is long."""
    return repr(cell if len(cell) <= 40 else f"{cell[:40]}...")
