"""Answers: a file for each person, a line for each answer, written the moment it is given."""

import json
import os
import re
import unicodedata
from pathlib import Path

from condgen.errors import CondgenError
from condgen.studies.trials import Study

PREFIX = "answers-"
NAME = re.compile(r"[\w-]{1,32}")
"""What a person may be called: letters, digits, _ and -."""
FIELDS = ("trial", "question", "answer")


def alias(name: str) -> str:
    """Return the name under which a person's answers are kept; raises CondgenError for one that cannot name a file."""
    found = unicodedata.normalize("NFC", name.strip().lower()).replace(" ", "-")
    if not NAME.fullmatch(found):
        raise CondgenError("A name is 1 to 32 letters, digits, _ and -.")
    return found


def place(folder: Path, person: str) -> Path:
    """Return the file of a person's answers."""
    return folder / f"{PREFIX}{person}.jsonl"


def read_people(folder: Path, study: Study) -> dict[str, list[str]]:
    """Return each person's answers, in the order of `Study.slots`, by their names; people without any are left out.

    Raises:
        CondgenError: a line is not as condgen wrote it; it is named.
    """
    files = sorted(folder.glob(f"{PREFIX}*.jsonl"))
    people = {path.name.removeprefix(PREFIX).removesuffix(".jsonl"): read_answers(path, study) for path in files}
    return {person: answers for person, answers in people.items() if answers}


def read_answers(path: Path, study: Study) -> list[str]:
    """Return the answers of one file, none where it is not there; raises CondgenError naming a line that cannot be."""
    try:
        *lines, rest = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    except (OSError, ValueError) as error:
        raise CondgenError(f"{path} could not be read as answers of a study: it is damaged.") from error
    if rest:
        raise CondgenError(f"{path}, line {len(lines) + 1} is cut short: remove it, and its question is asked again.")
    return [read_line(line, number, path, study) for number, line in enumerate(lines)]


def read_line(line: str, number: int, path: Path, study: Study) -> str:
    """Return the answer in line ``number``, counted from 0; raises CondgenError if it is none to what was asked then."""
    where = f"{path}, line {number + 1}"
    try:
        stored = json.loads(line)
        trial, question, answer = (stored[name] for name in FIELDS)
        whole = len(stored) == len(FIELDS)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise CondgenError(f"{where} is no answer as condgen wrote it: put it back, or remove it and all lines after it.")
    if number >= len(study.slots):
        raise CondgenError(f"{where} is one answer too many: the study asks {len(study.slots)} questions.")
    expected = study.slots[number]
    if (trial, question) != (expected[0] + 1, expected[1]):
        raise CondgenError(
            f"{where} answers {question!r} of trial {trial} and {expected[1]!r} of trial {expected[0] + 1} was asked: "
            "lines were added, removed or moved."
        )
    if answer not in study.choices(question):
        raise CondgenError(f"{where} answers {answer!r}, which nobody could: put it back, or remove it and all lines after it.")
    return str(answer)


def append_answer(path: Path, trial: int, question: str, answer: str) -> None:
    """Write one answer to the disk; raises CondgenError if the file system refuses."""
    line = json.dumps(dict(zip(FIELDS, (trial + 1, question, answer), strict=True))) + "\n"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CondgenError(f"{path} could not be written ({error.strerror}): the answer is not kept.") from error
