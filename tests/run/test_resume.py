"""A run can be killed at any moment and ends with the same bits as one that was never killed."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import TINY, Result, condgen
from same_run import assert_same, outcome

from condgen.callbacks.evaluation import Evaluation
from condgen.callbacks.interrupt import Interrupt
from condgen.errors import CondgenError
from condgen.resume import changed

# Kills its own process right after update number KILL_AT, between two checkpoints, as `kill -9` would.
KILLED = """
import os, signal, sys
from condgen.callbacks.interrupt import Interrupt
from condgen.errors import CondgenError
from condgen.resume import changed
from condgen.cli import main
after_batch = Interrupt.on_train_batch_end
def kill(self, trainer, *arguments):
    after_batch(self, trainer, *arguments)
    if trainer.global_step == int(os.environ["KILL_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
Interrupt.on_train_batch_end = kill
main()
"""

COMMON = (
    "trainer=cpu",
    "trainer.precision=32-true",  # in processes of their own, too
    "trainer.limit_train_batches=20",
    "trainer.limit_val_batches=2",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=6",
    "callbacks.checkpoint.every_steps=7",
    "callbacks.evaluation.every_epochs=2",
    "callbacks.evaluation.samples=100",
    "callbacks.evaluation.final=null",
    "data.batch_size=16",
    "data.augment=[{_target_: condgen.augment.images.Crop, padding: 2}]",
)
RUNS = {
    "gan": (*COMMON, "model=cgan_conv", "model.discriminator.dropout=0.3", "model.alternation.fake_condition=random"),
}


def process(*arguments: object, kill_at: int) -> None:
    """Run a condgen command in a process of its own and see it killed after update ``kill_at``."""
    environment = os.environ | {"KILL_AT": str(kill_at)}
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    killed = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def succeed(*arguments: object, cwd: Path) -> Result:
    """Run a condgen command in this process to its end."""
    result = condgen(*arguments, cwd=cwd)
    assert result.code == 0, result
    return result


@pytest.fixture(scope="module", params=["gan"])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A run that was never killed."""
    root = tmp_path_factory.mktemp(request.param)
    succeed("train", f"hydra.run.dir={root / 'run'}", *RUNS[request.param], cwd=root)
    return request.param, root / "run"


@pytest.mark.slow
def test_killed_three_times_equals_never_killed(undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    """SIGKILL at three random points; the checkpoints lie in mid-epoch (every 7 updates, epochs of 20)."""
    name, reference = undisturbed
    directory = tmp_path / "run"
    points = sorted(random.Random(name).sample([step for step in range(8, 59) if step % 7 and step % 20], 3))
    process("train", f"hydra.run.dir={directory}", *RUNS[name], kill_at=points[0])
    process("resume", directory, kill_at=points[1])
    moved = directory.rename(tmp_path / "moved")  # a run directory may be moved or copied meanwhile
    process("resume", moved, kill_at=points[2])
    succeed("resume", moved, cwd=tmp_path)
    assert not directory.exists()
    assert_same(outcome(reference), outcome(moved))


@pytest.mark.slow
def test_a_longer_run_equals_one_that_was_long_from_the_start(undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    name, reference = undisturbed
    directory = tmp_path / "run"
    succeed("train", f"hydra.run.dir={directory}", *RUNS[name], "trainer.max_epochs=2", cwd=tmp_path)
    assert "is finished" in succeed("resume", directory, cwd=tmp_path).out
    succeed("resume", directory, "trainer.max_epochs=3", cwd=tmp_path)
    assert_same(outcome(reference), outcome(directory))


def test_resuming_a_finished_run_changes_nothing(undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    _, directory = undisturbed
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert "is finished" in succeed("resume", directory, cwd=tmp_path).out
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_ctrl_c_saves_and_says_how_to_go_on(
    undisturbed: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, reference = undisturbed
    directory = tmp_path / "run"
    after_batch = Interrupt.on_train_batch_end

    def press(self: Interrupt, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 24:
            os.kill(os.getpid(), signal.SIGINT)
        after_batch(self, trainer, *arguments)

    monkeypatch.setattr(Interrupt, "on_train_batch_end", press)
    stopped = condgen("train", f"hydra.run.dir={directory}", *RUNS[name], cwd=tmp_path)
    monkeypatch.undo()
    assert stopped.code == 130, stopped
    assert f"condgen resume {directory}" in stopped.err and "Traceback" not in stopped.err
    succeed("resume", directory, cwd=tmp_path)
    assert_same(outcome(reference), outcome(directory))


def test_ctrl_c_stops_the_last_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = ("callbacks.evaluation.metrics=[]", "callbacks.evaluation.final=[fid]", "callbacks.evaluation.final_samples=100")
    tiny = ("model=cvae_mlp", *TINY[:-1], *measured, "trainer.max_epochs=1", "hydra.run.dir=run")
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "finish", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
        stopped = condgen("train", *tiny, cwd=tmp_path)
    assert stopped.code == 130 and "condgen resume" in stopped.err.splitlines()[-1], stopped
    succeed("resume", "run", cwd=tmp_path)
    assert list((tmp_path / "run" / "evaluation").glob("*/metrics.json"))


def test_a_value_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(CondgenError, match=r"'trainer.max_steps=\\t' is not an override: its value is no YAML"):
        changed({"trainer": {"max_steps": 3}}, ["trainer.max_steps=\t"])


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert "not a run directory" in condgen("resume", folder, cwd=tmp_path).sentence()


def test_an_unknown_key_is_refused(undisturbed: tuple[str, Path], tmp_path: Path) -> None:
    for override in ("trainer.max_epoch=9", "trainer.max_epochs"):
        assert override.split("=")[0] in condgen("resume", undisturbed[1], override, cwd=tmp_path).sentence()
