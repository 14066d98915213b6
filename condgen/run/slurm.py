"""Being a Slurm job: whether this process is one, and giving its place back to the queue."""

import logging
import os
import shutil
import subprocess
from pathlib import Path

from condgen.errors import CondgenError

log = logging.getLogger("condgen")


class Requeue(SystemExit):
    """The run has saved itself and leaves its machine; its job waits in the queue again and will go on."""


def job_id() -> str | None:
    """Return the Slurm job that this process belongs to, ``12`` or ``12_3`` in an array; None outside of one.

    Interactive shells (``srun --pty bash``) do not count: Slurm cannot start them again.
    """
    environment = os.environ
    if "SLURM_JOB_ID" not in environment or environment.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment["SLURM_JOB_ID"]


def restarted() -> bool:
    """Whether this is a Slurm job that ran before: it was preempted, reached its time limit or lost its machine."""
    return job_id() is not None and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def requeue(directory: Path) -> None:
    """Put this process's job back into the queue.

    Raises:
        CondgenError: Slurm refuses.
    """
    job = job_id()
    assert job is not None
    program = shutil.which("scontrol")
    answer = subprocess.run([program or "scontrol", "requeue", job], capture_output=True, text=True) if program else None
    if answer is None or answer.returncode:
        reason = " ".join(answer.stderr.split()) if answer else "scontrol was not found"
        raise CondgenError(
            f"Job {job} was saved, but could not be queued again ({reason}): go on with condgen resume {directory}."
        )
    log.info("Saved; job %s waits in the queue again.", job)
