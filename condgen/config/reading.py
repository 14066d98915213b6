"""YAML and JSON that come from a user's disk: plain values, in an amount that a configuration has."""

import json
from pathlib import Path
from typing import Any

import yaml

MOST = 100_000
"""Values in a YAML file, those that an alias repeats counted again: a few lines of aliases can stand for billions."""


def read_plain(path: Path) -> Any:
    """Read a ``.json`` file, or any other as YAML; never runs code from it.

    Raises:
        OSError: it is not there, or may not be read.
        ValueError: it is damaged, or holds more than plain values, or more of them than any configuration.
    """
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".json":
            return json.loads(text)
        value = yaml.safe_load(text)
        amount = count(value, {})
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML of plain values") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    if amount > MOST:
        raise ValueError(f"{path} holds more than {MOST:,} values")
    return value


def count(value: Any, known: dict[int, int]) -> int:
    """Count the values within ``value``; each object is looked at once, however often an alias repeats it."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = MOST + 1  # within itself: endless
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(count(part, known) for part in parts)
    return known[id(value)]
