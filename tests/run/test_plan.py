"""A budget of minutes becomes a number of updates, once, and the run follows it: on a clock of the tests' own."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from clockwork import BATCH, wind
from command import Result, condgen

from condgen.callbacks import plan
from condgen.callbacks.interrupt import Interrupt
from condgen.run.plan import share_out

FID = "quality/fid/mnist-cnn/val-100"
COMMON = (
    "experiment=none",
    "model=cgan_mlp",
    "model.alternation.discriminator_steps=2",
    "trainer=cpu",
    "trainer.limit_train_batches=45",  # in updates: epochs end between two of G, and while speed is measured
    "trainer.log_every_n_steps=10",
    "data.batch_size=4",
    "logger=csv",
    "callbacks.evaluation.samples=100",
    "callbacks.evaluation.metrics=[fid]",
    "callbacks.evaluation.final=null",
    f"callbacks.checkpoint.monitor={FID}",
)
BUDGET = (*COMMON, "run.budget_minutes=0.5")
EVALUATION = 0.5
"""Seconds that one takes on the tests' clock."""


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only batches and evaluations move: ``[seconds]``."""
    return wind(EVALUATION, monkeypatch.setattr)


def checkpoint(run: Path, name: str = "last") -> dict[str, Any]:
    """A checkpoint of the run."""
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def planned(run: Path) -> dict[str, Any]:
    """The plan that the run's last checkpoint holds."""
    stored: dict[str, Any] = checkpoint(run)["callbacks"]["Planner"]["plan"]
    return stored


def evaluations(run: Path) -> dict[int, str]:
    """FID by update."""
    with (run / "metrics.csv").open() as file:
        return {int(row["step"]): row[FID] for row in csv.DictReader(file) if row.get(FID)}


def assert_same(one: Path, other: Path) -> None:
    """Two runs have the same weights, optimizers and figures, bit for bit."""
    first, second = checkpoint(one), checkpoint(other)
    assert first["global_step"] == second["global_step"]
    assert all(torch.equal(value, second["state_dict"][key]) for key, value in first["state_dict"].items())
    for a, b in zip(first["optimizer_states"], second["optimizer_states"], strict=True):
        assert all(torch.equal(a["state"][i][key], b["state"][i][key]) for i in a["state"] for key in a["state"][i])
    assert evaluations(one) == evaluations(other)
    assert json.loads((one / "metrics.json").read_text()) == json.loads((other / "metrics.json").read_text())


def train(run: Path, *arguments: str) -> Result:
    """Train into ``run``."""
    result = condgen("train", *arguments, f"hydra.run.dir={run}", cwd=run.parent)
    assert result.code == 0, result
    return result


def stop_at(step: int) -> Callable[..., None]:
    """Replace `Interrupt.on_train_batch_end` by what ends the process, nearly, after update ``step``, without saving."""

    def stop(self: Any, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == step:
            raise RuntimeError("killed")

    return stop


@pytest.mark.parametrize("left", [20.0, 100.0, 3000.0])
@pytest.mark.parametrize("update", [0.001, 0.1, 1.5])
@pytest.mark.parametrize("evaluation", [0.0, 0.02, 3.0])
@pytest.mark.parametrize("made_at", [10, 500])
def test_what_is_shared_out_fills_the_time_and_no_more(left: float, update: float, evaluation: float, made_at: int) -> None:
    steps, every = share_out(left, update, evaluation, made_at)
    count = steps // every
    used = (steps - made_at) * update + count * evaluation
    assert steps % every == 0 and 1 <= count <= 10
    assert left - (count + 1) * update - 1e-6 <= used <= left + 1e-6
    assert count == 1 or count * evaluation <= 0.1 * left
    assert share_out(left, update, left, made_at) == (0, 0)


def test_a_run_plans_itself_into_its_budget(now: list[float], tmp_path: Path) -> None:
    rate = "model.options.decay={_target_: condgen.training.schedules.Linear}"
    result = train(tmp_path / "run", *BUDGET, rate, "trainer.max_epochs=1", "trainer.max_steps=7")
    found = planned(tmp_path / "run")
    assert 0.85 * 30 < now[0] - 1000 <= 30
    assert found["seconds"] == pytest.approx(2 * BATCH) and found["minutes"] == 0.5
    state = checkpoint(tmp_path / "run")
    assert state["global_step"] == found["steps"] > found["made_at"]
    assert sorted(evaluations(tmp_path / "run")) == list(range(found["every"], found["steps"] + 1, found["every"]))
    for optimizer in state["optimizer_states"]:  # the last update is made with what is left after all others
        (group,) = optimizer["param_groups"]
        assert group["lr"] == pytest.approx(group["initial_lr"] / (2 * found["steps"]))
    said = f"5.0 updates/s measured over {found['measured']} updates; planned {found['steps']} updates"
    assert said in result.err and "in place of trainer.max_epochs" in result.err
    assert f"The run took {(now[0] - 1000) / 60:.2f} of its 0.5 minutes." in result.err
    finished = condgen("resume", tmp_path / "run", cwd=tmp_path)
    assert finished.code == 0 and "is finished" in finished.out and "run.budget_minutes=null" in finished.out


@pytest.mark.slow
def test_a_stopped_run_keeps_its_plan_and_equals_one_of_that_length(
    now: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, explicit = tmp_path / "stopped", tmp_path / "explicit"
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "on_train_batch_end", stop_at(12))
        arguments = ("train", *BUDGET, "callbacks.checkpoint.every_steps=7", f"hydra.run.dir={stopped}")
        assert "killed" in condgen(*arguments, cwd=tmp_path).err
    assert planned(stopped) is None  # it was stopped before it had one, and plans now
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "on_train_batch_end", stop_at(90))
        assert "killed" in condgen("resume", stopped, cwd=tmp_path).err
    found = planned(stopped)
    assert found["made_at"] < checkpoint(stopped)["global_step"] < 90 < found["steps"]
    assert "is planned for 0.5 minutes" in condgen("resume", stopped, "run.budget_minutes=9", cwd=tmp_path).sentence()
    monkeypatch.setattr(plan, "share_out", None)  # nobody plans again
    resumed = condgen("resume", stopped, cwd=tmp_path)
    assert resumed.code == 0 and f"Going on with the plan of {found['steps']} updates" in resumed.err, resumed
    assert planned(stopped) == found

    length = (f"trainer.max_steps={found['steps']}", "trainer.max_epochs=-1", "callbacks.checkpoint.every_steps=7")
    train(
        explicit,
        *COMMON,
        *length,
        "callbacks.evaluation.every_epochs=null",
        f"callbacks.evaluation.every_steps={found['every']}",
    )
    assert_same(stopped, explicit)
    curve = {step: float(fid) for step, fid in evaluations(explicit).items()}
    assert checkpoint(explicit, "best")["global_step"] == min(curve, key=lambda step: curve[step])

    longer = (f"trainer.max_steps={found['steps'] + 3}", "trainer.max_epochs=-1", "run.budget_minutes=null")
    assert condgen("resume", stopped, *longer, cwd=tmp_path).code == 0
    assert checkpoint(stopped)["global_step"] == found["steps"] + 3 and planned(stopped) is None


def test_slow_updates_are_told_within_seconds(now: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgen.run.plan.os.getloadavg", lambda: (1000.0, 0.0, 0.0))
    quiet = ("callbacks.evaluation.every_epochs=null", "trainer.max_epochs=-1")
    result = train(tmp_path / "run", *COMMON, *quiet, "trainer.max_steps=30")
    # Updates of two batches end every 0.2 s: 25 of them within 5 s of the first, which leaves 4 for the run.
    said = "About 5.0 updates/s in the first 26: the run may end at "
    assert said in result.err and f"(in {4 * 2 * BATCH:.1f} s)" in result.err, result
    assert "The machine has more to do than this: load 1000.0 on " in result.err and "should end" not in result.err
    result = train(tmp_path / "planned", *BUDGET, "run.budget_minutes=1")
    (guessed,) = re.findall(r"in the first 26: at most (\d+) more fit into the budget; the plan follows", result.err)
    assert planned(tmp_path / "planned")["steps"] < int(guessed) < 60 / (2 * BATCH)


def test_without_a_budget_the_end_is_predicted(now: list[float], tmp_path: Path) -> None:
    result = train(tmp_path / "run", *COMMON, "trainer.max_epochs=3", "callbacks.evaluation.every_steps=40")
    assert "5.0 updates/s over 40 updates: the run should end at " in result.err, result
    assert f"(in {(135 - 100) * BATCH:.1f} s), evaluation not counted." in result.err
    assert sorted(evaluations(tmp_path / "run")) == [22, 40, 45, 67]  # at the ends of epochs too
    assert "should end" not in train(tmp_path / "short", *COMMON, "trainer.max_epochs=1").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run.budget_minutes=0"], "run.budget_minutes must be a number above 0 or null, not 0"),
        (["run.budget_minutes=-3"], "not -3"),
        (["run.budget_minutes=long"], "not 'long'"),
        (["run.budget_minutes=.inf"], "not '.inf'"),
        (["run.budget_minutes=true"], "not true"),
        (["run.budget_minutes=1", "+trainer.fast_dev_run=2"], "trainer.fast_dev_run decides how long"),
        (["run.budget_minutes=1", "callbacks=early_stopping", f"callbacks.early_stopping.monitor={FID}"], "Early stopping"),
        (["callbacks.evaluation.every_steps=0"], "every_steps must be a whole number of at least 1"),
        (["callbacks.samples.every_steps=0"], "every_steps must be a whole number of at least 1"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    assert words in condgen("train", *COMMON, *arguments, "hydra.run.dir=run", cwd=tmp_path).sentence()
    assert not (tmp_path / "run").exists()


def test_a_budget_too_small_for_anything_ends_in_a_sentence(now: list[float], tmp_path: Path) -> None:
    result = condgen("train", *COMMON, "run.budget_minutes=0.01", "hydra.run.dir=run", cwd=tmp_path)
    last = result.err.splitlines()[-1]
    assert result.code == 1 and "run.budget_minutes=0.01 is too short" in last and "Traceback" not in result.err, result
