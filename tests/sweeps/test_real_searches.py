"""Searches of real runs: pruned, killed, by several workers, side by side."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command import TINY
from optuna.trial import TrialState
from searches import BETA, SEARCH, states, trials_in

from condgen.sweeps import study as studies

SMALL = (*TINY, "callbacks.samples=null", "logger=none")


@pytest.mark.slow
def test_real_runs_that_a_pruner_ends(run_condgen, tmp_path):
    """Large betas are hopeless: their runs end after the first epoch, with checkpoints and a report."""
    arguments = (
        "model.beta=choice(1,1000)",
        "trainer.max_epochs=2",
        "hydra.sweeper.n_trials=3",
        "hydra/sweeper/pruner=median",
        "hydra.sweeper.seed=1",
    )
    pruner = ("hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.pruner.n_warmup_steps=0")
    result = run_condgen(*SEARCH, *SMALL, *arguments, *pruner)
    assert result.code == 0, result
    trials = trials_in(tmp_path)
    assert sorted(trials[0].intermediate_values) == [1, 2]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned and all(trial.params["model.beta"] == "1000" and list(trial.intermediate_values) == [1] for trial in pruned)
    for trial in trials:
        folder = tmp_path / "outputs/mnist-cvae_mlp/search" / str(trial.number)
        best = json.loads((folder / "metrics.json").read_text())["best"]
        assert (folder / "checkpoints/best.ckpt").is_file() and (folder / "report.html").is_file()
        assert trial.value == pytest.approx(best["val/loss"])
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["callbacks"]["pruning"]["pruner"]["n_startup_trials"] == 1
    resumed = run_condgen("resume", folder, "trainer.max_epochs=3")  # of a finished trial nothing is reported
    assert resumed.code == 0 and trials_in(tmp_path)[-1].intermediate_values == trials[-1].intermediate_values


def start(root: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a worker of its own."""
    return subprocess.Popen([sys.executable, "-m", "condgen", *arguments], cwd=root, stderr=subprocess.DEVNULL)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def completed(root: Path, name: str = "search") -> int:
    try:
        return sum(trial.state == TrialState.COMPLETE for trial in trials_in(root, name))
    except Exception:  # not there yet, or half made
        return 0


@pytest.mark.slow
def test_a_killed_search_ends_with_as_many_trials_as_asked_for(tmp_path):
    """Twelve short runs on MNIST with their FID, killed in the middle and started again."""
    fid = "quality/fid/mnist-cnn/val-500"
    arguments = [
        *("train", "--multirun", "hydra/sweeper=optuna", "experiment=none", "model=cgan_mlp", f"hydra.sweeper.minimize={fid}"),
        *(
            "model.generator_optimizer.lr=tag(log,interval(1e-4,1e-2))",
            "model.generator.latent=choice(16,64)",
            "hydra.sweeper.n_trials=12",
        ),
        *("trainer.max_epochs=1", "trainer.limit_train_batches=40", "callbacks.evaluation.samples=500"),
        *("callbacks.evaluation.metrics=[fid]", "callbacks.evaluation.final=null", "callbacks.samples=null"),
        *("trainer.accelerator=cpu", "run.threads=1"),
    ]
    worker = start(tmp_path, *arguments)
    wait_for(lambda: completed(tmp_path) >= 5, 120)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    before = trials_in(tmp_path)
    done = [trial.number for trial in before if trial.state == TrialState.COMPLETE]
    assert 5 <= len(done) < 12
    assert start(tmp_path, *arguments).wait(timeout=200) == 0
    after = trials_in(tmp_path)
    assert [trial.state.name for trial in after].count("COMPLETE") == 12
    assert all(after[number].values == before[number].values for number in done)
    left = [trial for trial in after if trial.state != TrialState.COMPLETE]
    assert len(left) <= 1 and all(studies.WITHDRAWN in trial.user_attrs for trial in left)
    folder = tmp_path / "outputs/mnist-cgan_mlp/search"
    assert (folder / "sweep.md").read_text().count("\n| ") == 2 + 12
    assert all((folder / name).is_file() for name in ("sweep.csv", "history.png", "importances.png", "parallel.png"))


@pytest.mark.slow
def test_two_workers_on_one_study(tmp_path):
    arguments = (*SEARCH, BETA, *SMALL, "trainer.max_epochs=1", "hydra.sweeper.n_trials=8")
    workers = [start(tmp_path, *arguments) for _ in range(2)]
    assert [worker.wait(timeout=200) for worker in workers] == [0, 0]
    trials = trials_in(tmp_path)
    counted = [trial for trial in trials if studies.WITHDRAWN not in trial.user_attrs]
    assert [trial.state.name for trial in counted] == ["COMPLETE"] * 8
    assert len({trial.user_attrs["owner"]["process"] for trial in counted}) == 2


@pytest.mark.slow
def test_joblib_runs_trials_side_by_side(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = (*SEARCH, BETA, *SMALL, "trainer.max_epochs=1", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2")
    assert start(tmp_path, *arguments, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2").wait(timeout=300) == 0
    assert states(tmp_path) == ["COMPLETE"] * 4
