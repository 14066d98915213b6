"""Files that are written whole or not at all."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from condgen.errors import CondgenError
from condgen.images import to_png

TEMPORARY = ".condgen-tmp"
"""How the names of unfinished files end; what stands before cannot be guessed."""
UMASK = os.umask(0o022)
os.umask(UMASK)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what was written there takes its place at the end, or is removed on failure.

    Raises:
        CondgenError: the file system refused (disk full, no permission); the old file is untouched.
    """
    temporary = path  # until there is one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}."[:200], suffix=TEMPORARY, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o666 & ~UMASK)  # as any other file
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise CondgenError(f"{path} could not be written ({reason}); what was there before is kept.") from error
    finally:
        if temporary != path:
            temporary.unlink(missing_ok=True)


def hold(folder: Path, refusal: str) -> int:
    """Hold a folder against other processes, until the descriptor that is returned is closed or this process ends.

    Raises:
        CondgenError: another process holds it: ``refusal``.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CondgenError(refusal) from None
    except OSError:  # a file system without locks
        pass
    return descriptor


@contextmanager
def filling(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which takes the place of ``path`` at the end with all that is in it, or is removed on failure.

    Raises:
        CondgenError: there is something already, or the file system refused.
    """
    try:
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise CondgenError(f"{path} exists already and is not an empty folder: choose another, nothing was overwritten.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}."[:200], suffix=TEMPORARY, dir=path.parent) as name:
            folder = Path(name) / "folder"
            folder.mkdir()
            yield folder
            folder.replace(path)
    except OSError as error:
        raise CondgenError(f"{path} could not be written ({error.strerror or error}); nothing was kept.") from error


def require_writable(folder: Path) -> None:
    """Refuse a folder in which no file could be made, before there is anything to write; leaves no trace.

    Raises:
        CondgenError: it, or one above, is a file, has a name that is too long, or may not be written to.
    """
    made: list[Path] = []
    try:
        for one in [*reversed(folder.parents), folder]:
            if not one.is_dir():
                one.mkdir()
                made.append(one)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CondgenError(f"{folder} cannot be written to ({error.strerror}): choose another place.") from error
    finally:
        for one in reversed(made):
            with contextlib.suppress(OSError):
                one.rmdir()


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writes have left below ``folder``, which nobody else may be writing to."""
    for left in folder.rglob(f".*{TEMPORARY}"):
        left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def save_png(path: Path, picture: Tensor) -> None:
    """Write a uint8 tensor (C, H, W), C = 1 or 3, as a PNG."""
    with replacing(path) as temporary:
        temporary.write_bytes(to_png(picture))
