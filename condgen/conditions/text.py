"""How conditions are written: names that hold a separator stand in double quotes, ``"cat, black"``, a quote in them twice."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from condgen.errors import CondgenError

SEPARATORS = "=,|"
"""What separates names and values."""


def pieces(text: str, separator: str) -> list[str]:
    """Split ``text`` at each ``separator`` outside quotes, which stay; raises CondgenError where a quote is not closed."""
    found, quoted = [""], False
    for letter in text:
        quoted ^= letter == '"'
        if letter == separator and not quoted:
            found.append("")
        else:
            found[-1] += letter
    if quoted:
        raise CondgenError(f"{text} has a quote that is not closed: write two for one that belongs to a name.")
    return found


def unquoted(text: str) -> str:
    """Return a name without the spaces and the quotes around it."""
    text = text.strip()
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def quoted(name: str, reserved: str) -> str:
    """Write a name so that `unquoted` finds it whole: in quotes where it holds one of the ``reserved`` letters."""
    return '"' + name.replace('"', '""') + '"' if set(name) & {*reserved, '"'} else name


def numbers(text: str) -> list[int]:
    """Read ``"3"`` or ``"0-9"``: the number, or the first and the last; nothing where the text is neither."""
    ends = [end.strip() for end in text.split("-")]
    whole = 1 <= len(ends) <= 2 and all(end.isdecimal() and len(end) < 10 for end in ends)
    return [int(ends[0]), int(ends[-1])] if whole else []


def from_json(text: str) -> Any:
    """Return what a text that starts as JSON stands for, and any other text as it is.

    Raises:
        CondgenError: it starts as JSON and is none.
    """
    if text.strip()[:1] not in ("{", "["):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CondgenError(f"{text} starts as JSON and is none: {error}.") from error


def written(value: Any) -> str:
    """Write what can be asked for, such as ``{"digit": 3, "colour": "red"}`` or a list, as a text that means the same.

    Values that differ in their form alone, such as an object and its JSON, have the same text.

    Raises:
        CondgenError: a text starts as JSON and is none, or a list is empty.
    """
    if isinstance(value, str):
        found = from_json(value)
        return value if found is value else written(found)
    if isinstance(value, Mapping):
        given = {quoted(str(name), SEPARATORS): spaced(part) for name, part in value.items()}
        return ",".join(f"{n}={p if chr(34) in p else quoted(p, ',=')}" for n, p in given.items())
    if not isinstance(value, Sequence):
        return str(value)
    if not value:
        raise CondgenError("An empty list asks for nothing: leave the condition out to ask for everything.")
    texts = [written(one) for one in value]
    return texts[0] if len(texts) == 1 else json.dumps(texts)


def spaced(part: Any) -> str:
    """Write a value, or those of a set with spaces between them."""
    return " ".join(map(str, part)) if isinstance(part, list | tuple) else str(part)


def places(text: str, names: Sequence[str], unknown: str) -> list[int]:
    """Read ``"3"``, ``"0-9"``, ``"frog"``, ``"class=frog"`` or a list with commas as places in ``names``.

    A name wins over a number. One that holds a comma stands in double quotes where it is not alone: ``'"cat, black",dog'``.

    Args:
        text: what a user wrote.
        names: all that can be asked for.
        unknown: what is said of any other name, with ``{name}`` in it.

    Raises:
        CondgenError: the text names something else.
    """
    parts = [text] if text in names else [part.strip().removeprefix("class=") for part in pieces(text, ",")]
    return [place for part in parts for place in _places(unquoted(part), names, unknown)]


def _places(part: str, names: Sequence[str], unknown: str) -> list[int]:
    if part in names:
        return [names.index(part)]
    if (ends := numbers(part)) and ends[0] <= ends[1] < len(names):
        return list(range(ends[0], ends[1] + 1))
    known = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    raise CondgenError(f"{unknown.format(name=repr(part))}: this model knows 0-{len(names) - 1} and the names {known}.")


def class_schema(names: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of what `places` reads: one of ``names``, as a class."""
    return {
        "type": "object",
        "properties": {"class": {"type": "string", "enum": list(names), "title": "class"}},
        "required": ["class"],
    }
