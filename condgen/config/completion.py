"""What may come next on a command line. Names are read from conf/ at once; keys of a configuration need Hydra to compose it."""

import re
from collections.abc import Mapping, Sequence

from condgen.config.folder import choices, conf_dir, groups

HYDRAS = ("--cfg", "--help", "--hydra-help", "--info", "--multirun", "--package", "--resolve")
"""Options of ``condgen train``."""


def completions(line: str, commands: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return what may stand where ``line`` ends; None where only a composed configuration knows.

    Args:
        line: the command line up to the cursor, the program's name first.
        commands: the options of each subcommand.
    """
    words = line.split()
    typed = words.pop() if words and not line[-1].isspace() else ""
    if len(words) < 2:
        return starting(typed, commands)
    command = words[1]
    if typed.startswith("-"):
        return starting(typed, HYDRAS if command == "train" else commands.get(command, ()))
    if command == "train":
        return override(typed)
    if command in ("data", "benefit") and len(words) == 2:
        return starting(typed, choices("data"))
    if command in ("evaluate", "study") and len(words) > 2:
        offered = ("data", "extractor") if command == "evaluate" else ("data",)
        return [name for group in offered for name in chosen(group) if name.startswith(typed)]
    return []  # files, which the shell knows


def override(typed: str) -> list[str] | None:
    """Return the groups, or a group's choices, that start as ``typed``; None for keys."""
    group, equals, _ = typed.partition("=")
    if group.startswith("hydra") or "." in group or (equals and group not in groups()):
        return None
    if equals:
        return starting(typed, chosen(group))
    return starting(typed, [*(f"{name}=" for name in groups() if choices(name)), *sections()])


def chosen(group: str) -> list[str]:
    """Return ``GROUP=CHOICE`` for each choice."""
    return [f"{group}={choice}" for choice in choices(group)]


def sections() -> list[str]:
    """Return the keys of ``train.yaml`` that are no groups: ``seed=``, and ``run.``, under which there are others."""
    found = re.findall(r"^(\w+):( *\S)?", (conf_dir() / "train.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    return [f"{key}=" if value else f"{key}." for key, value in found if key not in ("defaults", "hydra")]


def starting(typed: str, names: Sequence[str] | Mapping[str, object]) -> list[str]:
    """Return the names that start as ``typed``."""
    return [name for name in names if name.startswith(typed)]
