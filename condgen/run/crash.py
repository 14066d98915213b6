"""What a defect of the program leaves behind: a file with everything that a report of it needs."""

import platform
import sys
import tempfile
import time
import traceback
from importlib.metadata import distributions
from pathlib import Path
from types import TracebackType
from typing import Any

SECRETS = ("key", "token", "password", "secret")
"""A configured value is not repeated where the name of its key holds one of these."""


def write_crash(error: BaseException) -> Path | None:
    """Write what is known about an ``error`` that nobody foresaw, in the current folder, else in that of temporary files.

    Returns:
        The file: the command line, the traceback, the configuration if there was one, and versions. None where nothing can be
        written.
    """
    text = "\n".join(
        [
            f"condgen crashed on {time.strftime('%Y-%m-%d %H:%M:%S')}. This file is for a report: look through it before.",
            f"\n# Command\n{' '.join(sys.argv)}",
            f"\n# Traceback\n{''.join(traceback.format_exception(error))}",
            f"# Configuration\n{configuration(error.__traceback__)}",
            f"# Versions\n{versions()}\n",
        ]
    )
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        file = folder / time.strftime(f"condgen-crash-%Y%m%d-%H%M%S-{time.time_ns() % 10**9:09d}.txt")
        try:
            file.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return file
    return None


def configuration(frame: TracebackType | None) -> str:
    """Return the configuration of the run that crashed as YAML, from the outermost function on the way that had one."""
    import yaml

    while frame is not None:
        config = frame.tb_frame.f_locals.get("config")
        if isinstance(config, dict) and "data" in config:
            return yaml.safe_dump(without_secrets(config), sort_keys=False)
        frame = frame.tb_next
    return "none\n"


def without_secrets(value: Any) -> Any:
    """Return plain values without those whose names say that they are not for everybody; of other objects their text."""
    if isinstance(value, dict):
        hidden = {name for name in value if isinstance(name, str) and any(word in name.lower() for word in SECRETS)}
        return {str(name): "hidden" if name in hidden else without_secrets(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def versions() -> str:
    """Return the versions of Python, the system and all installed packages, a line each."""
    packages = sorted({f"{one.metadata['Name']} {one.version}" for one in distributions()}, key=str.lower)
    return "\n".join([f"Python {platform.python_version()} on {platform.platform()}", *packages])
