"""A run records how it came about, and going on under other settings has to be said."""

import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import TINY, Result, condgen

from condgen.run import provenance as source
from condgen.run.directory import ended_by

ONE = ("experiment=none", "model=cvae_mlp", *TINY, "trainer.max_epochs=1")


def sessions(run: Path) -> list[dict[str, Any]]:
    """What a run recorded."""
    found: list[dict[str, Any]] = json.loads((run / "provenance.json").read_text())["sessions"]
    return found


def test_a_run_records_how_it_came_about(vae_run: Path) -> None:
    (session,) = sessions(vae_run)
    assert session["config"] == yaml.safe_load((vae_run / "config.yaml").read_text())
    assert {"model=cvae_mlp", "trainer.max_epochs=2"} <= set(session["overrides"])
    assert session["packages"]["torch"] == version("torch")
    assert (
        session["state"] == "done" and session["wall_seconds"] > 0 and session["host"] and session["device"].startswith("cpu")
    )


def test_commit_and_diff_are_those_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    file = tmp_path / "condgen" / "source.py"
    file.parent.mkdir()
    monkeypatch.setattr(source, "__file__", str(file))
    file.write_text("one\n")
    assert source.git_state.__wrapped__() == (None, "")  # no checkout
    git("init", "-q")
    assert source.git_state.__wrapped__() == (None, "")  # not part of the one above it
    git("add", "."), git("commit", "-qm", "first")
    state, diff = source.git_state.__wrapped__()
    assert state and state["commit"] == git("rev-parse", "HEAD").strip() and (state["diff"], diff) == (None, "")
    file.write_text("two\n")
    (tmp_path / "condgen" / "new.py").touch()
    state, diff = source.git_state.__wrapped__()
    assert state and state["diff"] and "+two" in diff and state["untracked"] == ["condgen/new.py"]


def test_a_resumed_run_adds_a_session(vae_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(vae_run, tmp_path / "run"))  # moved: its paths differ from the recorded ones
    assert condgen("resume", run, "trainer.max_epochs=3", cwd=tmp_path).code == 0
    first, second = sessions(run)
    assert second["overrides"] == ["trainer.max_epochs=3"] and second["config"]["trainer"]["max_epochs"] == 3
    assert first["config"]["trainer"]["max_epochs"] == 2


def test_a_configuration_that_was_edited_has_to_be_said(vae_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(vae_run, tmp_path / "run"))
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["model"]["beta"], config["trainer"]["max_epochs"] = 2.0, 3
    path.write_text(yaml.safe_dump(config))
    sentence = condgen("resume", run, cwd=tmp_path).sentence()
    assert "model.beta" in sentence and "trainer.max_epochs" in sentence and "provenance.json" in sentence
    assert "model.beta" not in condgen("resume", run, "model.beta=2.0", cwd=tmp_path).sentence()
    assert condgen("resume", run, "model.beta=2.0", "trainer.max_epochs=3", cwd=tmp_path).code == 0


def test_a_job_that_is_preempted_before_its_first_update_waits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit queues it, and leaves with status -1."""
    assert ended_by(SystemExit(-1))["state"] == "failed"
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert ended_by(SystemExit(-1)) == {"state": "queued", "error": None}


def test_a_job_that_slurm_starts_again_goes_on_or_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preempted by the signal that a job script asks for: saved, queued again (by a stand-in for scontrol), gone on with."""
    from condgen.callbacks.interrupt import Interrupt

    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    program.chmod(0o755)

    def train(name: str, *more: str) -> Result:
        return condgen("train", *ONE, "trainer.limit_train_batches=6", f"hydra.run.dir={tmp_path / name}", *more, cwd=tmp_path)

    assert train("whole").code == 0
    import os
    import signal

    after_batch = Interrupt.on_train_batch_end

    def preempt(self: Interrupt, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGUSR2)
        after_batch(self, trainer, *arguments)

    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "on_train_batch_end", preempt)
        assert train("run").code == 0
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "queued"
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3

    assert "holds a run already" in train("run").sentence()  # somebody else's job
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert "another model.beta than" in train("run", "model.beta=3.0").sentence()
    assert train("run").code == 0
    one, other = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("whole", "run"))
    assert other["global_step"] == 6
    assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())
    assert [session["state"] for session in sessions(tmp_path / "run")] == ["queued", "done"]
