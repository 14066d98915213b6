"""A run directory belongs to one run at a time: the lock, the small status file that it keeps, and what it records of itself.

``status.json`` says where the run stands (see `condgen.run.status`, which reads it), ``provenance.json`` how it came about: a
session for the start and one for each time it was gone on with.
"""

import contextlib
import fcntl
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from condgen.config.build import sentence
from condgen.errors import CondgenError, Interrupted
from condgen.files import write_json, write_text
from condgen.run.heartbeat import repeating
from condgen.run.provenance import git_state, packages
from condgen.run.slurm import Requeue, job_id, requeue
from condgen.run.status import BEAT, LOCK, read_status

# --- one run a directory ---


def refuse_occupied(directory: Path) -> None:
    """Refuse to start a run where another one lies, before anything is loaded; raises CondgenError."""
    if (directory / "config.yaml").exists():
        raise CondgenError(
            f"{directory} holds a run already: condgen resume {directory} goes on with it, hydra.run.dir=FOLDER "
            "chooses another place."
        )


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a run directory; the kernel lets go of it when this process ends, however it ends.

    Raises:
        CondgenError: another process holds it, or it cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / LOCK).open("w")
    except OSError as error:
        raise CondgenError(
            f"{error.filename} could not be written ({error.strerror}); the run directory is chosen with hydra.run.dir=FOLDER."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CondgenError(f"{directory} is in use: {holder(directory)}; wait until it ends, or stop it.") from error
        except OSError:  # a file system without locks: the status file has to do
            if (other := read_status(directory)) and other.state == "running" and other.host != platform.node():
                raise CondgenError(f"{directory} is in use: {holder(directory)}; wait until it ends, or stop it.") from None
        yield


def holder(directory: Path) -> str:
    """Say who holds a run directory."""
    status = read_status(directory)
    return f"process {status.pid} on {status.host} trains in it" if status else "another process trains in it"


@contextlib.contextmanager
def recorded(
    directory: Path, config: dict[str, Any], overrides: list[str], device: torch.device, afresh: bool
) -> Iterator[None]:
    """Hold the directory for one session of a run, and write down how it began and ended.

    Args:
        directory: the run directory.
        config: resolved, plain dicts.
        overrides: what the command line changed.
        device: where the run trains.
        afresh: the run starts here, and must find no other.

    Raises:
        CondgenError: the directory is another run's, or somebody trains in it.
    """
    with locked(directory):
        if afresh:
            refuse_occupied(directory)
        began = time.monotonic()
        session = describe(directory, config, overrides, device)
        sessions = [*read_sessions(directory), session]
        write_json(directory / "provenance.json", {"sessions": sessions})
        said = {"overrides": overrides} if afresh else {}
        place = {"host": platform.node(), "pid": os.getpid(), "job": job_id()}
        write_status(directory, state="running", at=time.time(), error=None, **place, **said)
        end: dict[str, Any] = {"state": "done", "error": None}
        leaves = False
        try:
            with alive(directory):
                yield
        except BaseException as error:
            end, leaves = ended_by(error), isinstance(error, Requeue)
            raise
        finally:
            session |= {"ended": now(), "wall_seconds": round(time.monotonic() - began, 3), "state": end["state"]}
            with contextlib.suppress(CondgenError):  # a full disk has been told by whoever met it first
                write_status(directory, at=time.time(), **end)
                write_json(directory / "provenance.json", {"sessions": sessions})
            if leaves:
                requeue(directory)


@contextlib.contextmanager
def alive(directory: Path) -> Iterator[None]:
    """Give a sign of life every few seconds, from a thread of its own: the time of the lock."""

    def beat() -> None:
        with contextlib.suppress(OSError):
            os.utime(directory / LOCK)

    with repeating(BEAT, beat):
        yield


def ended_by(error: BaseException) -> dict[str, Any]:
    """Return a status for a session that ``error`` ended."""
    if isinstance(error, Requeue) or (isinstance(error, SystemExit) and job_id()):  # submitit's, before the first update
        return {"state": "queued", "error": None}
    if isinstance(error, KeyboardInterrupt | Interrupted):
        return {"state": "stopped", "error": sentence(error)}
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if isinstance(error, CondgenError) else f"{type(error).__name__}: {lines[-1]}"
    return {"state": "failed", "error": text}


# --- the status file ---


def write_status(directory: Path, **changes: Any) -> None:
    """Change some entries of ``status.json``."""
    write_json(directory / "status.json", stored_status(directory) | changes)


def stored_status(directory: Path) -> dict[str, Any]:
    """Read ``status.json``; nothing where there is none, or a damaged one."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((directory / "status.json").read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


# --- how a run came about ---


def describe(directory: Path, config: dict[str, Any], overrides: list[str], device: torch.device) -> dict[str, Any]:
    """Return what is known of a session that begins, and write the diff of the source where it differs from its commit."""
    git, diff = git_state()
    if git and diff:
        name = f"git-{git['commit'][:8]}-{git['diff']}.diff"
        write_text(directory / name, diff)
        git = git | {"diff": name}
    return {
        "began": now(),
        "ended": None,
        "wall_seconds": None,
        "state": "running",
        "command": shlex.join(sys.argv),
        "overrides": overrides,
        "host": platform.node(),
        "pid": os.getpid(),
        "slurm_job": job_id(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": packages(),
        "git": git,
        "config": config,
    }


def read_sessions(directory: Path) -> list[dict[str, Any]]:
    """Return the sessions of a run so far; none where nothing readable was recorded."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        sessions = json.loads((directory / "provenance.json").read_text(encoding="utf-8"))["sessions"]
        return [session for session in sessions if isinstance(session, dict)]
    return []


def now() -> str:
    """Return the time, with its zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
