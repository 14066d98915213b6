"""The words for what a configured value is and what it should be."""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt, MinLen

from condgen.types import Says

SIMPLE = {int: "whole number", float: "number", str: "text", Path: "path"}
LONGEST = 60
"""Characters of a value that are shown."""


def describe(expected: Any, many: bool = False) -> str:
    """Say what a value of the annotation ``expected`` is: ``"a whole number or null"``; of ``many``, without "a"."""
    *first, last = dict.fromkeys(alternatives(expected, many))
    return f"{', '.join(first)} or {last}" if first else last


def alternatives(expected: Any, many: bool = False) -> list[str]:
    """Say what each part of an annotation's union is."""
    origin, parts = get_origin(expected), get_args(expected)
    if origin in (Union, UnionType):
        return [word for part in parts for word in alternatives(part, many)]
    if origin is Literal:
        return [shown(part).strip("'") for part in parts]
    if expected is bool:
        return ["true", "false"]
    if origin is Annotated:
        said = next((note for note in parts[1:] if isinstance(note, Says)), None)
        limits = bounds(parts[1:])
        words = alternatives(parts[0], many)
        return [said.many if many else said.text] if said else [f"{word}{limits}" for word in words]
    return [one(expected, many)]


def one(expected: Any, many: bool) -> str:
    """Say what a value is of an annotation that is no union."""
    origin, parts = get_origin(expected), get_args(expected)
    if expected in SIMPLE:
        word = SIMPLE[expected]
        return f"{word}s" if many else word if word == "text" else f"a {word}"
    if expected in (None, NoneType):
        return "null"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping of names to {describe(parts[-1], many=True)}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"{'lists' if many else 'a list'} of {describe(parts[0], many=True)}"
    made = parts[-1] if origin is Callable and parts else expected
    named = f" of {article(made.__name__)}" if isinstance(made, type) and made.__module__ != "builtins" else ""
    return f"{'objects' if many else 'an object'}{named}, {{_target_: ...}}"


def bounds(notes: Sequence[Any]) -> str:
    """Say the range that annotations such as ``Ge(1)`` leave: " of at least 1"."""
    flat: list[Any] = []
    for note in notes:
        flat += list(note) if isinstance(note, GroupedMetadata) else [note] if isinstance(note, BaseMetadata) else []
    low = next((note for note in flat if isinstance(note, Ge | Gt)), None)
    high = next((note for note in flat if isinstance(note, Le | Lt)), None)
    if isinstance(low, Ge) and isinstance(high, Le):
        return f" in {low.ge}..{high.le}"
    words = [f"of at least {low.ge}" if isinstance(low, Ge) else f"above {low.gt}"] if low else []
    if high:
        words.append(f"{'of ' * (low is None)}at most {high.le}" if isinstance(high, Le) else f"below {high.lt}")
    words += ["that is not empty" for note in flat if isinstance(note, MinLen) and note.min_length]
    return " " + " and ".join(words) if words else ""


def article(name: str) -> str:
    """Put "a" or "an" before a name."""
    return f"a{'n' * (name[0] in 'AEIOU')} {name}"


def shown(value: Any) -> str:
    """Write a configured value as YAML does, cut where it is long; text in quotes."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def close(word: object, known: Sequence[str]) -> str:
    """Return `` (did you mean ...?)`` where something known is close to ``word``."""
    found = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return f" (did you mean {found[0]}?)" if found else ""
