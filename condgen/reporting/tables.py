"""Tables of text, for a terminal and as Markdown. They know columns and cells, not what stands in them."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A number with its spread, or a text."""

    text: str = ""
    spread: str = ""
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A title above cells; numbers are aligned, other columns come first and say what a row is."""

    title: str
    cells: list[Cell]
    number: bool = False


def text_table(found: list[Column], width: int) -> list[str]:
    """Return the lines of a table, cut into blocks of columns that fit ``width``.

    Each block begins with the columns of texts and ends with an empty line.
    """
    texts = [aligned(column) for column in found if not column.number]
    rest = [aligned(column) for column in found if column.number]
    lines: list[str] = []
    while rest:
        block = [*texts, rest.pop(0)]
        while rest and sum(len(column[0]) + 2 for column in [*block, rest[0]]) - 2 <= width:
            block.append(rest.pop(0))
        block = [[column[0], "-" * len(column[0]), *column[1:]] for column in block]
        lines += [*("  ".join(row) for row in zip(*block, strict=True)), ""]
    return lines


def aligned(column: Column) -> list[str]:
    """Return title and cells of a column, all of one width, numbers above numbers and spreads above spreads."""
    if not column.number:
        texts = [column.title, *(cell.text for cell in column.cells)]
        return [text.ljust(max(map(len, texts))) for text in texts]
    tails = [cell.spread + ("*" if cell.best else "") for cell in column.cells]
    left, right = max(len(cell.text) for cell in column.cells), max(map(len, tails))
    cells = [cell.text.rjust(left) + tail.ljust(right) for cell, tail in zip(column.cells, tails, strict=True)]
    return [text.rjust(max(len(column.title), left + right)) for text in (column.title, *cells)]


def markdown_table(found: list[Column]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in zip(*map(markdown_column, found), strict=True)]


def markdown_column(column: Column) -> list[str]:
    """Return title, rule and cells of a column, all of one width."""
    texts = [escaped(cell.text + cell.spread) for cell in column.cells]
    texts = [f"**{text}**" if cell.best else text for cell, text in zip(column.cells, texts, strict=True)]
    texts = [escaped(column.title), *texts]
    width = max(map(len, texts))
    title, *cells = [text.rjust(width) if column.number else text.ljust(width) for text in texts]
    return [title, "-" * (width - 1) + (":" if column.number else "-"), *cells]


def escaped(text: str) -> str:
    """Escape what Markdown would read as markup within a line; an underscore inside a word is none."""
    return re.sub(r"[\\`*|<\[&~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))


def escaped_line(text: str) -> str:
    """Escape a whole line, also what would begin a heading, a quotation or a list."""
    return re.sub(r"^(\d*)([#>+=.)-])", r"\1\\\2", escaped(text))


def printable(line: str) -> str:
    """Replace letters that would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)
