"""``condgen status``: states are honest, a dead run is not running."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from command import condgen

from condgen.run import directory as rundir
from condgen.run import status as module
from condgen.run.status import GRACE, Status, read_all, read_status


def run(folder: Path, **content: Any) -> Path:
    """Make a run that left this status."""
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps(content))
    return folder


def living(**more: Any) -> dict[str, Any]:
    """A status of this process."""
    return {"state": "running", "host": platform.node(), "pid": os.getpid(), "at": time.time()} | more


def test_a_run_that_lives_is_running(tmp_path: Path) -> None:
    now = time.time()
    found = read_status(run(tmp_path / "a", **living(at=now, began=now - 100, first=0, step=100, total=300)))
    assert found and found.state == "running"
    assert found.seconds_left == pytest.approx(200, abs=2)


def test_a_thousand_runs_are_told_within_a_second(tmp_path: Path) -> None:
    for number in range(1000):
        folder = run(tmp_path / "sweep" / str(number), state="done", host="a", step=number, overrides=[f"seed={number}"])
        (folder / "samples").mkdir()
    run(folder / "samples" / "1", state="failed")  # within a run no other is looked for
    start = time.process_time()
    found = read_all(tmp_path)
    assert time.process_time() - start < 0.5
    assert [status.step for status in found] == list(range(1000))


def test_the_end_is_predicted_from_this_session_alone(tmp_path: Path) -> None:
    now = time.time()
    found = read_status(run(tmp_path / "a", **living(at=now, began=now - 10, first=900, step=910, total=1000)))
    assert found and found.seconds_left == pytest.approx(90, abs=2)


def test_a_process_that_is_gone_was_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    found = read_status(run(tmp_path / "a", **living(pid=process.pid)))
    assert found and found.state == "failed" and "killed" in str(found.error)


@pytest.mark.parametrize("host", ["elsewhere", platform.node()])
def test_a_run_without_signs_of_life_is_dead(host: str, tmp_path: Path) -> None:
    """On this machine its number may belong to another process by now."""
    fresh, old = living(host=host), living(host=host, at=time.time() - GRACE - 1)
    states = [
        getattr(read_status(run(tmp_path / name, **content)), "state", None)
        for name, content in zip("ab", (fresh, old), strict=True)
    ]
    assert states == ["running", "failed"]


def test_a_waiting_job_that_slurm_does_not_know_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, job in (("0", "12_0"), ("1", "12_1")):
        run(tmp_path / name, state="queued", job=job, at=time.time())
    for answer, states in (({"12_0": "PENDING"}, ["queued", "failed"]), (None, ["queued", "queued"])):
        monkeypatch.setattr(module, "queue", lambda answer=answer: answer)
        assert [one.state for one in read_all(tmp_path)] == states


def test_a_run_that_slurm_took_off_its_machine_and_queued_again_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "0", **living(host="elsewhere", at=time.time() - GRACE - 1, job="12_0"))
    for answer, state in (({"12_0": "PENDING"}, "queued"), ({"12_0": "RUNNING"}, "failed"), ({}, "failed")):
        monkeypatch.setattr(module, "queue", lambda answer=answer: answer)
        assert [one.state for one in read_all(tmp_path)] == [state]


def test_a_run_that_prepares_for_long_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It touches its lock until its first update, and where that is another process's."""
    monkeypatch.setattr(rundir, "BEAT", 0.01)
    folder = run(tmp_path / "a", **living(host="elsewhere", at=time.time() - GRACE - 1))
    lock = folder / ".lock"
    lock.touch()
    os.utime(lock, (0, 0))
    with rundir.alive(folder):
        until = time.monotonic() + 10
        while lock.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
    assert getattr(read_status(folder), "state", None) == "running"


def test_damaged_files_do_not_hide_the_other_runs(tmp_path: Path) -> None:
    run(tmp_path / "0", state="done")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "status.json").write_text("{")
    assert [one.state for one in read_all(tmp_path)] == ["done", "failed"]


def test_the_table_is_in_the_order_of_the_runs_and_tells_errors(tmp_path: Path) -> None:
    for number in range(11):
        setting = {"overrides": ["model=cvae_mlp", f"seed={number}"]}
        run(tmp_path / "sweep" / str(number), state="done", step=10, total=10, metric="val/loss", best=0.25, **setting)
    setting = {"overrides": ["model=cvae_mlp", "seed=11"]}
    run(tmp_path / "sweep" / "11", state="failed", step=5, total=10, error="ValueError: no luck", **setting)
    lines = condgen("status", "sweep", cwd=tmp_path).out.splitlines()
    assert [line.split()[0] for line in lines[1:13]] == [str(number) for number in range(12)]
    assert "val/loss 0.25" in lines[1] and "10 / 10 (100 %)" in lines[1]
    assert "seed=10" in lines[11] and "model=" not in lines[11]  # all have that
    assert "failed" in lines[12] and lines[12].endswith("ValueError: no luck")
    assert lines[-1] == "12 runs: 11 done, 1 failed."


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    assert "holds no runs" in condgen("status", tmp_path, cwd=tmp_path).sentence()


def test_a_real_run_leaves_its_status(vae_run: Path) -> None:
    found = read_status(vae_run)
    assert isinstance(found, Status)
    assert (found.state, found.step, found.total, found.metric) == ("done", 4, 4, "val/loss")
    best = json.loads((vae_run / "metrics.json").read_text())["best"]["val/loss"]
    assert found.best == pytest.approx(best)
