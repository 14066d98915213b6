"""The one boundary that every error of a command reaches."""

import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

from condgen.errors import CondgenError, Interrupted

DEFECT = 70
"""The exit status of a defect of the program's, EX_SOFTWARE of sysexits.h."""


def reporting(command: Callable[[], Any], debug: bool = False) -> int:
    """Run ``command`` and return its exit status: the one boundary that every error reaches.

    A `CondgenError`, a misused option, and what the system refuses end in one sentence on stderr and status 1; whatever nobody
    foresaw ends in one sentence, a file for a report and status `DEFECT`. With ``debug`` the traceback comes first.
    """
    try:
        status = command()
        return status if isinstance(status, int) else 0
    except KeyboardInterrupt:
        print("condgen: interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        said = told(error)
        print(f"condgen: {said or defect(error)}", file=sys.stderr)
        return DEFECT if said is None else 128 + error.signum if isinstance(error, Interrupted) else 1


def told(error: Exception) -> str | None:
    """Return the sentence about an error that is no defect of the program's, None for one that is."""
    if isinstance(error, CondgenError):
        return str(error)
    if isinstance(error, typer.exceptions.TyperException):
        text = (error.format_message() if hasattr(error, "format_message") else "").replace("Value error, ", "")
        command = getattr(getattr(error, "ctx", None), "command_path", "condgen")
        for kind, word in (("integer", "whole number"), ("number", "number")):  # pydantic's words
            text = re.sub(
                rf"Input should be a valid {kind}, unable to parse string as an? {kind}", f"it must be a {word}", text
            )
        return f"{text.rstrip('.').replace(chr(10), ' ')}; {command} --help says what there is." if text else None
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text:
        size = re.search(r"tried to allocate (\d+) bytes", text)
        much = f", {int(size[1]) / 1e9:,.1f} GB at once" if size else ""
        return f"There is not enough memory for what was asked{much}: ask for less."
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return "A process that reads images was killed, maybe for want of memory: the same command, or condgen resume, goes on."
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename} cannot be used" if error.filename else "The system refused"
        return f"{place} ({error.strerror})."
    return None


def defect(error: Exception) -> str:
    """Write down what a report needs, and return the sentence that says where."""
    from condgen.run.crash import write_crash

    what = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".: ")
    file = write_crash(error)
    where = f"attach {file} to a report" if file else "run it again with --debug for a report"
    return f"This should not have happened, and is a defect of condgen ({what}): {where}."
