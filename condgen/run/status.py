"""``condgen status``: which runs of a folder are queued, running, done or failed, how far they are and when they will end.

Told from each run's ``status.json`` and, where there is one, from Slurm's queue. A run counts as running only while it gives
signs of life. Imports nothing heavy: the answer comes at once.
"""

import json
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from condgen.errors import CondgenError
from condgen.reporting.tables import printable

LOCK = ".lock"
"""A file in the run directory, held by the process that trains there, whose time is its last sign of life."""
BEAT = 10.0
"""Seconds between two signs of life of a run."""
GRACE = 60.0
"""Seconds without one after which a run on another machine counts as dead."""
STATES = ("queued", "running", "done", "stopped", "failed")


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        folder: the run directory.
        state: one of `STATES`; "stopped" is one that saved itself on Ctrl-C, and that ``condgen resume`` goes on with.
        host: where it runs or ran, with ``pid`` its process and ``job`` its Slurm job.
        at: when this was written, in seconds of `time.time`; ``seen``: its last sign of life.
        began: when it took its first update of this session, number ``first``; ``step`` is the newest, ``total`` the last.
        metric: name of its objective, ``best`` the best value so far.
        overrides: what its command line changed when it began.
        error: last line of what ended it; ``lost``: nobody saw its end.
        starts: its job runs already, and prepares.
    """

    folder: Path
    state: str
    host: str = ""
    pid: int = 0
    job: str | None = None
    at: float = 0.0
    seen: float = 0.0
    began: float | None = None
    first: int = 0
    step: int | None = None
    total: int | None = None
    metric: str | None = None
    best: float | None = None
    overrides: tuple[str, ...] = ()
    error: str | None = None
    lost: bool = False
    starts: bool = False

    @property
    def seconds_left(self) -> float | None:
        """How long the run will go on at its mean speed so far, evaluations counted; None if that cannot be told."""
        if self.state != "running" or self.began is None or self.step is None or self.total is None:
            return None
        done, spent = self.step - self.first, self.at - self.began
        return max(0.0, spent / done * (self.total - self.step) - (time.time() - self.at)) if done > 0 else None


def show(folder: Path) -> str:
    """Return a table of the runs in ``folder``, a run directory or any folder above some.

    Raises:
        CondgenError: there is no run.
    """
    runs = read_all(folder)
    if not runs:
        raise CondgenError(f"{folder} holds no runs: name a run directory, a sweep's folder, or a folder above them.")
    common = set.intersection(*(set(run.overrides) for run in runs))
    rows = [["run", "state", "progress", "best", "expected end", "settings", "notes"]]
    rows += [row(run, folder, [one for one in run.overrides if one not in common]) for run in runs]
    rows = [[printable(text) for text in line] for line in rows]
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in rows]
    states = Counter(run.state if run.state in STATES else "damaged" for run in runs)
    counts = [f"{states[state]} {state}" for state in (*STATES, "damaged") if states[state]]
    return "\n".join([*lines, "", f"{len(runs)} run{'s' * (len(runs) > 1)}: {', '.join(counts)}."])


def row(run: Status, folder: Path, settings: list[str]) -> list[str]:
    """Return a run's line of the table; ``settings`` are those that not all runs have."""
    name = str(run.folder.relative_to(folder)) if run.folder != folder else run.folder.name
    progress = "" if run.step is None else f"{run.step:,}" + (f" / {run.total:,}" if run.total else "")
    if run.step is not None and run.total:
        progress += f" ({100 * min(1.0, run.step / run.total):.0f} %)"
    best = f"{run.metric} {run.best:.5g}" if run.best is not None else ""
    left, end = run.seconds_left, ""
    if left is not None:
        when = datetime.fromtimestamp(time.time() + left)
        end = f"{when:%H:%M}" if left < 12 * 3600 else f"{when:%Y-%m-%d %H:%M}"
    notes = [f"job {run.job}" + ", starting" * run.starts] if run.job and run.state in ("queued", "running") else []
    return [name, run.state, progress, best, end, " ".join(settings), "; ".join([*notes, *([run.error] if run.error else [])])]


def read_all(folder: Path) -> list[Status]:
    """Return the runs in ``folder`` and below, in the order of their names, numbers by size."""
    found = [
        status for place in sorted(places(folder), key=lambda place: order(place, folder)) if (status := read_status(place))
    ]
    listed = queue() if any(run.job and (run.lost or run.state == "queued") for run in found) else None
    return [reconciled(run, listed) for run in found]


def places(folder: Path) -> Iterator[Path]:
    """Yield the folders that may be runs, ``folder`` among them; no run is looked for within a run, where most files are."""
    for path, inner, files in os.walk(folder):
        if "status.json" in files:
            inner.clear()
        if "status.json" in files or "config.yaml" in files:
            yield Path(path)


def order(place: Path, folder: Path) -> list[tuple[bool, int, str]]:
    """Sort ``10`` after ``9``."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in place.relative_to(folder).parts]


def read_status(folder: Path) -> Status | None:
    """Return where the run in ``folder`` stands, as its files and this machine's processes tell; None if it is no run."""
    try:
        text = (folder / "status.json").read_text(encoding="utf-8")
    except OSError:
        return from_log(folder)
    try:
        content = json.loads(text)
        names = [key for key in Status.__dataclass_fields__ if key not in ("folder", "seen", "lost", "starts")]
        known = {key: content[key] for key in names if key in content}
        known["overrides"] = tuple(known.get("overrides", ()))
        status = Status(folder, **known)
        status = replace(status, seen=max(status.at, lock_time(folder)))
    except (ValueError, TypeError):
        return Status(folder, "failed", error="status.json is damaged")
    if status.state == "running" and (reason := dead(status)):
        seen = datetime.fromtimestamp(status.seen)
        return replace(status, state="failed", lost=True, error=f"{reason}; last sign of life {seen:%Y-%m-%d %H:%M:%S}")
    return status


def lock_time(folder: Path) -> float:
    """Return when the process that holds a run directory last touched its lock; 0 where there is none."""
    try:
        return (folder / LOCK).stat().st_mtime
    except OSError:
        return 0.0


def dead(status: Status) -> str:
    """Return why a run that says it is running is not; "" if it lives."""
    silent = time.time() - status.seen > GRACE
    if status.host != platform.node():
        return "killed, or its machine was lost" if silent else ""
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return "killed"
    except PermissionError:  # somebody else's process, perhaps one that got the number later
        return "killed" if silent else ""
    return "killed, or stopped with its machine" if silent else ""


def from_log(folder: Path) -> Status | None:
    """Return what can be told of a run without a status file, made by an earlier version."""
    if not (folder / "config.yaml").is_file() or not (folder / "checkpoints").is_dir():
        return None
    last: Any = {}
    try:
        last = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["last"]
        done = " Trained " in (folder / "train.log").read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError):
        done = False
    step = last.get("step") if isinstance(last, dict) else None
    return Status(folder, "done" if done else "failed", step=step, error=None if done else "did not end, and left no status")


def queue() -> dict[str, str] | None:
    """Return the state, such as ``RUNNING``, of each job that Slurm knows, by its id, ``12`` or ``12_3``.

    None where Slurm cannot be asked.
    """
    try:
        answer = subprocess.run(
            ["squeue", "--noheader", "--array", "--format=%i %T"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return dict(line.split(maxsplit=1) for line in answer.stdout.splitlines()) if answer.returncode == 0 else None


def reconciled(run: Status, listed: dict[str, str] | None) -> Status:
    """Return a run as Slurm has it: lost with its job, or waiting after Slurm took it off its machine."""
    if run.job is None or listed is None:
        return run
    if run.state == "queued" and run.job not in listed:
        return replace(
            run, state="failed", error=f"job {run.job} has left Slurm's queue without training: see slurm/ of the sweep"
        )
    if run.state == "queued":
        return replace(run, starts=listed[run.job] == "RUNNING")
    if run.lost and listed.get(run.job) in ("PENDING", "CONFIGURING"):
        return replace(run, state="queued", error=None)
    return run
