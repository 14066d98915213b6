"""A real Slurm of one node: arrays, preemption, hard kills, jobs of two processes."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import condgen
from same_run import assert_same, outcome

from condgen.run.status import Status, read_all, read_status

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "local_slurm.sh"
SHORT = (
    "experiment=none",
    "model=cvae_mlp",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=2",
    "data.batch_size=16",
    "callbacks.evaluation=null",
)
PATIENCE = 900.0
"""Seconds that anything may take: starting a job loads torch, and a cluster lets what was queued again wait for minutes."""


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm that takes jobs: one that is there, or our own. Test processes side by side have it in turn."""
    with (tmp_path_factory.getbasetemp().parent / "slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield from available()


def available() -> Iterator[None]:
    """Bring up a Slurm if none answers; skip where that cannot be done."""
    if shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True).returncode == 0:
        yield
        return
    brought = subprocess.run([SCRIPT, "start"], stderr=subprocess.PIPE, text=True, timeout=120)
    if brought.returncode == 77:
        pytest.skip(brought.stderr.strip())
    assert brought.returncode == 0, brought.stderr
    yield
    subprocess.run([SCRIPT, "stop"], check=True, timeout=60)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a sweep under Slurm in ``folder``."""
    command = [sys.executable, "-m", "condgen", "train", "--multirun", "hydra/launcher=slurm", "hydra.launcher.time=30"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [*command, f"hydra.sweep.dir={folder}", *SHORT, *arguments],
        text=True,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        cwd=folder.parent,
        env=environment,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a sweep's end; return its status and what it said."""
    out, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, out


def wait(run: Path, until: Callable[[Status], bool]) -> Status:
    """Wait for a run to come to a state."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        status = read_status(run)
        if status and until(status):
            return status
        assert status is None or status.state != "done", f"{run} ended before it got there"
        time.sleep(0.2)
    raise AssertionError(f"{run} did not get there: {read_status(run)}")


def test_a_sweep_of_eight_runs_is_an_array_that_loses_none(tmp_path: Path) -> None:
    seeds = f"seed={','.join(map(str, range(8)))}"
    short = ("trainer.limit_train_batches=4", "run.threads=1", "callbacks.samples=null")
    code, out = finish(start(tmp_path / "sweep", *short, "hydra.launcher.cpus=1", seeds))
    assert code == 0, out
    runs = read_all(tmp_path / "sweep")
    assert [(run.folder.name, run.state, run.step) for run in runs] == [(str(i), "done", 4) for i in range(8)]
    assert [f"seed={i}" in run.overrides for i, run in enumerate(runs)] == [True] * 8
    arrays = {str(run.job).split("_")[0] for run in runs}
    assert len(arrays) == 1 and {str(run.job).split("_")[1] for run in runs} == set("01234567")
    assert (tmp_path / "sweep" / "sweep.md").is_file()
    assert "8 runs: 8 done." in condgen("status", "sweep", cwd=tmp_path).out


def test_preempted_and_killed_runs_end_as_an_undisturbed_one(tmp_path: Path) -> None:
    """Three equal runs: the second is preempted and queued again, the third killed and resumed by hand."""
    sweep = tmp_path / "sweep"
    names = "run.name=undisturbed,preempted,killed"
    process = start(sweep, "trainer.limit_train_batches=3000", "callbacks.checkpoint.every_steps=70", names)
    preempted, killed = sweep / "1", sweep / "2"

    job = wait(preempted, lambda status: status.state == "running" and (preempted / "checkpoints" / "last.ckpt").exists()).job
    subprocess.run(["scancel", "--signal=USR2", str(job)], check=True)
    wait(preempted, lambda status: status.state == "queued")

    job = wait(killed, lambda status: status.state == "running" and (killed / "checkpoints" / "last.ckpt").exists()).job
    subprocess.run(["scancel", "--signal=KILL", str(job)], check=True)
    wait(killed, lambda status: status.state == "failed")
    code, out = finish(process)
    assert code == 1 and "was killed" in out and "Traceback" not in out, out
    assert "killed" in condgen("status", "sweep", cwd=tmp_path).out

    assert condgen("resume", killed, cwd=tmp_path).code == 0
    assert [run.state for run in read_all(sweep)] == ["done"] * 3
    assert "Resuming" in (preempted / "train.log").read_text() and "Resuming" in (killed / "train.log").read_text()
    whole = outcome(sweep / "0")
    assert whole["counts"]["step"] == 3000
    assert_same(whole, outcome(preempted))
    assert_same(whole, outcome(killed))


def test_a_job_of_two_processes_trains_together(tmp_path: Path) -> None:
    code, out = finish(start(tmp_path / "sweep", "trainer=ddp_cpu", "trainer.limit_train_batches=4"))
    assert code == 0, out
    run = tmp_path / "sweep" / "0"
    assert "on 2 x cpu" in (run / "train.log").read_text()
    assert read_status(run).state == "done"  # type: ignore[union-attr]
