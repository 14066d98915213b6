"""Sweeps: what is tried, what counts, what is left behind. Most runs are fakes, through the real command and sweepers."""

import json
import math
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from command import TINY, Result, condgen
from optuna.trial import TrialState
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from condgen.config.folder import conf_dir
from condgen.errors import CondgenError, Interrupted
from condgen.sweeps import study as studies
from condgen.sweeps import summary
from condgen.sweeps.charts import Scale
from condgen.sweeps.results import Objective, direction_of

SEARCH = ("train", "--multirun", "hydra/sweeper=optuna", "experiment=none", "model=cvae_mlp", "hydra.sweeper.minimize=val/loss")
BETA, LATENT = "model.beta=tag(log,interval(0.1,10))", "model.generator.latent=int(interval(2,9))"
Fake = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Return ``fake(objective)``: runs do nothing but ``objective(config)``; it returns a list of what they were given."""

    def put(objective: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
        configs: list[dict[str, Any]] = []

        def train(config: dict[str, Any], directory: Path, **more: Any) -> Any:
            configs.append(config)
            value = objective(config)
            asked = config["run"]["objective"] or []
            names, values = ([asked] if isinstance(asked, str) else asked), (value if isinstance(value, tuple) else (value,))
            metrics = {name: number for name, number in zip(names, values, strict=False) if number is not None}
            (directory / "metrics.json").write_text(json.dumps({"best": metrics | {"step": 2, "train/loss": 1.0}}))
            return value

        monkeypatch.setattr(import_module("condgen.train"), "train", train)
        monkeypatch.setattr(summary, "draw", lambda *study: [])  # takes longer than all else
        return configs

    return put


def bowl(config: dict[str, Any]) -> float:
    """An objective whose best beta is 1."""
    return math.log(config["model"]["beta"]) ** 2 + 0.1


def trials_in(root: Path, name: str = "search") -> list[optuna.trial.FrozenTrial]:
    (file,) = (root / "outputs").glob(f"*/{name}/study.db")
    storage = studies.open_storage(f"sqlite:///{file}")
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def states(root: Path) -> list[str]:
    return [trial.state.name for trial in trials_in(root)]


# --- what is tried ---


def test_trials_get_their_settings_and_folders(run_condgen, fake, tmp_path):
    configs = fake(bowl)
    space = [
        BETA,
        LATENT,
        "data.batch_size=range(8,33,8)",
        "model.kl_warmup=0,100",
        "model.generator.decode_condition=choice(true,false)",
    ]
    result = run_condgen(*SEARCH, *space, "hydra.sweeper.n_trials=4")
    assert result.code == 0, result
    assert states(tmp_path) == ["COMPLETE"] * 4
    for number, (trial, config) in enumerate(zip(trials_in(tmp_path), configs, strict=True)):
        model = config["model"]
        assert (
            model["beta"] == trial.params["model.beta"]
            and model["generator"]["latent"] == trial.params["model.generator.latent"]
        )
        assert 0.1 <= model["beta"] <= 10 and model["generator"]["latent"] in range(2, 10) and model["kl_warmup"] in (0, 100)
        assert config["data"]["batch_size"] in (8, 16, 24, 32) and isinstance(model["generator"]["decode_condition"], bool)
        assert trial.value == bowl(config)
        assert config["paths"]["output_dir"] == str(tmp_path / "outputs/mnist-cvae_mlp/search" / str(number))
        assert config["callbacks"]["checkpoint"]["monitor"] == "val/loss"
    assert len({config["model"]["beta"] for config in configs}) == 4


def test_the_same_seed_tries_the_same(tmp_path):
    tried = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        study = studies.open_study("s", str(tmp_path / name), studies.TPE(seed, startup=3), ["minimize"], {})
        for _ in range(6):
            (trial,) = studies.reserve(study, SPACE, 6, 1)
            study.tell(trial, trial.params["a"])
        tried.append([trial.params["a"] for trial in study.get_trials()])
    assert tried[0] == tried[1] and not set(tried[0]) & set(tried[2]) and len(set(tried[0])) == 6


def condgen_in(folder: Path, *arguments: str) -> Result:
    return condgen(*arguments, cwd=folder)


def test_two_objectives(run_condgen, fake, tmp_path):
    configs = fake(lambda config: (bowl(config), min(1.0, config["model"]["beta"])))
    label = "quality/label_accuracy/mnist-cnn/val-2k"
    result = run_condgen(*SEARCH, BETA, f"hydra.sweeper.maximize={label}", "hydra.sweeper.n_trials=4")
    assert result.code == 0, result
    assert configs[0]["run"]["objective"] == ["val/loss", label]
    assert [trial.values for trial in trials_in(tmp_path)] == [[bowl(c), min(1.0, c["model"]["beta"])] for c in configs]
    folder = tmp_path / "outputs/mnist-cvae_mlp/search"
    table = (folder / "sweep.md").read_text()
    least = min(trials_in(tmp_path), key=lambda trial: trial.values[0])
    assert label in table and "Beaten by none" in table and f"**{least.number}**" in table


@pytest.mark.slow
def test_the_charts_of_a_study(tmp_path):
    for count in (1, 2):
        folder = tmp_path / str(count)
        objectives = [Objective("val/loss", "minimize"), Objective("quality/coverage/x/val-2k", "maximize")][:count]
        directions = [one.direction for one in objectives]
        study = studies.open_study("s", str(tmp_path / f"{count}.log"), studies.TPE(0, 10), directions, {})
        for state in ("COMPLETE", "COMPLETE", "FAIL", "COMPLETE"):
            (trial,) = studies.reserve(study, SPACE | {"b": optuna.distributions.CategoricalDistribution(["x", "y"])}, 9, 1)
            if state == "FAIL":
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, [trial.params["a"], 0.5][:count])
        summary.write_study(folder, study, studies.counted(study), objectives, ["model=x"])
        names = ["history.png", "importances.png", "parallel.png", *["front.png"] * (count - 1)]
        for name in names:
            pixels = np.asarray(Image.open(folder / name))
            assert pixels.shape[0] > 150 and pixels.shape[1] > 500 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
        assert all(f"]({name})" in (folder / "sweep.md").read_text() for name in names)


@pytest.mark.parametrize("name", sorted(file.stem for file in (conf_dir() / "hparams_search").glob("*.yaml")))
def test_the_searches_of_conf(name, run_condgen, fake, tmp_path):
    configs = fake(lambda config: 1.0 if isinstance(config["run"]["objective"], (str, type(None))) else (1.0, 0.5))
    more = {"vae": ["model=cvae_conv"], "none": ["seed=0"]}.get(name, [])
    count = [] if name == "none" else ["hydra.sweeper.n_trials=1"]
    result = run_condgen("train", "--multirun", f"hparams_search={name}", *more, *count)
    assert result.code == 0, result
    if name == "none":
        assert len(configs) == 1
        return
    search = yaml.safe_load((conf_dir() / "hparams_search" / f"{name}.yaml").read_text())["hydra"]["sweeper"]
    assert len(configs) == 1 and all(str(config["run"]["objective"]).count("mnist-cnn/val-2k") for config in configs)
    (folder,) = (tmp_path / "outputs").glob(f"*/{search['study']}")
    table = (folder / "sweep.md").read_text()
    assert all(key in table for key in search["params"])


# --- what counts ---


def test_failed_and_infinite_trials_count_and_the_search_goes_on(run_condgen, fake, tmp_path):
    def objective(config: dict[str, Any]) -> float:
        number = int(Path(config["paths"]["output_dir"]).name)
        if number == 1:
            raise CondgenError("losses stopped being finite.")
        if number == 2:
            raise ZeroDivisionError("a defect")
        return math.nan if number == 3 else bowl(config)

    fake(objective)
    result = run_condgen(*SEARCH, BETA, "hydra.sweeper.n_trials=5")
    assert result.code == 0 and "a defect" in result.out + result.err, result
    assert states(tmp_path) == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE"]
    assert "3 failed" in (tmp_path / "outputs/mnist-cvae_mlp/search/sweep.md").read_text()
    assert "ZeroDivisionError" in trials_in(tmp_path)[2].user_attrs["error"]


def test_where_every_trial_fails_the_command_does(run_condgen, fake):
    def objective(config: dict[str, Any]) -> float:
        raise CondgenError("No such thing.")

    fake(objective)
    result = run_condgen(*SEARCH, BETA, "hydra.sweeper.n_trials=2")
    assert result.code == 1 and "No trial of the study search succeeded" in result.err and "No such thing." in result.err


@pytest.mark.slow
def test_a_stopped_search_goes_on_as_if_it_had_not_been(fake, tmp_path):
    def stopping(config: dict[str, Any]) -> float:
        if len(configs) == 3:  # the third
            raise KeyboardInterrupt
        return bowl(config)

    arguments = (*SEARCH, BETA, LATENT, "hydra.sweeper.n_trials=4", "hydra.sweeper.startup=2")
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    fake(bowl)
    assert condgen_in(tmp_path / "whole", *arguments).code == 0
    configs = fake(stopping)
    assert condgen_in(tmp_path / "stopped", *arguments).code == 130
    assert states(tmp_path / "stopped") == ["COMPLETE", "COMPLETE", "FAIL", "WAITING"]
    again = fake(bowl)
    assert condgen_in(tmp_path / "stopped", *arguments).code == 0
    assert len(again) == 2
    whole, stopped = trials_in(tmp_path / "whole"), trials_in(tmp_path / "stopped")
    finished = [trial for trial in stopped if trial.state == TrialState.COMPLETE]
    assert [trial.params for trial in finished] == [trial.params for trial in whole]
    third = fake(bowl)
    assert condgen_in(tmp_path / "stopped", *arguments).code == 0 and not third  # finished: nothing is repeated or exceeded
    assert condgen_in(tmp_path / "stopped", *arguments, "hydra.sweeper.n_trials=5").code == 0 and len(third) == 1


def make_study(address: str) -> optuna.Study:
    return studies.open_study("s", address, studies.TPE(0, 10), ["minimize"], {})


SPACE: Any = {"a": optuna.distributions.FloatDistribution(0, 1)}


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_trials_of_the_dead_are_tried_again(kind, tmp_path):
    address = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else str(tmp_path / "study.log")
    study = make_study(address)
    host, dead = platform.node(), subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    owners = [
        {"host": host, "process": dead.pid},  # dead
        {"host": host, "process": os.getppid()},  # alive
        {"host": "elsewhere", "process": 1},  # seen just now
        {"host": "elsewhere", "process": 1},  # silent for long
    ]
    for owner in owners:
        (trial,) = studies.reserve(study, SPACE, 9, 1)
        trial.set_user_attr("owner", {"host": "elsewhere", "process": 1})  # until all are there
        trial.set_user_attr("wanted", owner)
    for trial in study.get_trials():
        study._storage.set_trial_user_attr(trial._trial_id, "owner", trial.user_attrs["wanted"])
    study._storage.set_trial_user_attr(study.get_trials()[3]._trial_id, "seen", time.time() - 2 * studies.GRACE)
    taken = studies.reserve(make_study(address), SPACE, 4, 9)
    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL", "RUNNING", "RUNNING", "FAIL", "RUNNING", "RUNNING"]
    assert [trial.params for trial in taken] == [trials[0].params, trials[3].params]
    assert len(studies.counted(study)) == 4


def test_settings_that_kill_their_workers_are_given_up(tmp_path):
    study = make_study(str(tmp_path / "study.log"))
    for attempt in range(studies.ATTEMPTS):
        (trial,) = studies.reserve(study, SPACE, 1, 1)
        assert trial.params == study.get_trials()[0].params
        assert trial.user_attrs.get("attempt", 1) == attempt + 1
        studies.withdraw(study, studies.frozen(study, trial.number), "its worker died", again=True)
    assert studies.reserve(study, SPACE, 1, 1) == []
    assert [trial.state.name for trial in studies.counted(study)] == ["FAIL"]


def test_workers_share_the_trials_of_a_study(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "alive", lambda trial: True)  # all workers are this process
    address, total = f"sqlite:///{tmp_path}/study.db", 12
    make_study(address)
    done: list[int] = []

    def work() -> None:
        study = make_study(address)
        while trials := studies.reserve(study, SPACE, total, 1):
            study.tell(trials[0], trials[0].params["a"])
            done.append(trials[0].number)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trials = studies.counted(make_study(address))
    assert sorted(done) == sorted(trial.number for trial in trials) and len(done) == total
    assert all(trial.state == TrialState.COMPLETE for trial in trials)


@pytest.mark.slow
def test_a_batch_runs_at_once_and_never_exceeds(run_condgen, fake, tmp_path):
    configs = fake(bowl)
    result = run_condgen(*SEARCH, BETA, "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=3")
    assert result.code == 0 and "Launching 3 jobs" in result.out and "Launching 2 jobs" in result.out, result
    assert len(configs) == 5 and states(tmp_path) == ["COMPLETE"] * 5


# --- what is refused ---


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([BETA, "hydra.sweeper.minimize=null"], ["hydra.sweeper.minimize="]),
        (["model.bta=interval(0.1,1)"], ["Unknown key 'model.bta'"]),
        ([], ["Nothing to search", "interval"]),
        ([BETA, "seed=0,1"], ["seed", "--multirun seed=0,1,2"]),
        (["model.beta=interval(2,1)"], ["model.beta=interval(2,1)", "nothing to search"]),
        (["model.beta=tag(log,interval(0.0,1.0))"], ["model.beta", "nothing to search"]),
        ([BETA, "hydra.sweeper.maximize=val/kl", "hydra/sweeper/pruner=median"], ["single objective", "pruner=none"]),
        ([BETA, "hydra.sweeper.n_trials=0"], ["n_trials", "at least 1"]),
        ([BETA, "hydra.sweeper.storage=nosuchdb://host/x"], ["storage=nosuchdb://host/x", "cannot be used"]),
    ],
)
def test_refusals(arguments, words, run_condgen, fake):
    configs = fake(bowl)
    result = run_condgen(*SEARCH, *arguments)
    assert all(word in result.sentence() for word in words), result
    assert not configs


def test_another_search_under_the_same_name_is_refused(run_condgen, fake):
    fake(bowl)
    assert run_condgen(*SEARCH, BETA, "hydra.sweeper.n_trials=1").code == 0
    sentence = run_condgen(*SEARCH, BETA, "hydra.sweeper.n_trials=2", "data.batch_size=7").sentence()
    assert "data.batch_size" in sentence and "hydra.sweeper.study=NAME" in sentence
    assert run_condgen(*SEARCH, BETA, "hydra.sweeper.n_trials=2", "run.threads=1").code == 0  # workers may differ in that


def test_a_metric_that_no_run_has_ends_the_search(run_condgen, fake, tmp_path):
    configs = fake(lambda config: None)
    result = run_condgen(*SEARCH, BETA, "hydra.sweeper.minimize=val/nothing")
    assert result.code == 1 and "val/nothing is not measured" in result.err and len(configs) == 1
    assert not studies.counted(optuna.load_study(study_name="search", storage=study_url(tmp_path)))


def study_url(root: Path) -> str:
    return f"sqlite:///{root}/outputs/mnist-cvae_mlp/search/study.db"


def test_an_unknown_quality_metric_is_refused_before_training(run_condgen):
    arguments = ("logger=none", "hydra.sweeper.n_trials=2", "hydra.sweeper.minimize=quality/fid/mnist-cnn/val-3k")
    result = run_condgen(*SEARCH, BETA, *arguments)
    assert result.code == 1 and "quality/fid/mnist-cnn/val-3k is not measured" in result.err, result
    assert "quality/fid/mnist-cnn/val-2k" in result.err.splitlines()[-1] and "Trained" not in result.err


def test_a_search_needs_optuna_and_multirun(run_condgen, monkeypatch):
    assert "add --multirun" in run_condgen("train", "hparams_search=gan_rates").sentence()
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'condgen[sweep]'" in run_condgen(*SEARCH, BETA).sentence()


# --- what is left behind ---


def test_a_grid_leaves_a_table(run_condgen, fake, tmp_path):
    def objective(config: dict[str, Any]) -> float:
        if config["model"]["beta"] == 4 and config["seed"] == 1:
            raise CondgenError("This one cannot work.")
        return float(config["model"]["beta"] + config["seed"])

    fake(objective)
    result = run_condgen(
        "train", "--multirun", "experiment=none", "model=cvae_mlp", "run.objective=val/loss", "model.beta=4,2", "seed=0,1"
    )
    assert result.code == 1 and "This one cannot work." in result.out + result.err, result
    (folder,) = (tmp_path / "outputs/mnist-cvae_mlp").iterdir()
    lines = (folder / "sweep.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert cells[0] == ["runs", "model.beta", "state", "best val/loss", "val/loss"]
    assert cells[2] == ["**2 3**", "2", "finished", "2", "2.5 ± 0.71"]
    assert cells[3] == ["0 1", "4", "finished, failed", "4", "4"]
    rows = (folder / "sweep.csv").read_text().splitlines()
    assert rows[0] == "runs,seeds,model.beta,states,val/loss n,val/loss mean,val/loss std,val/loss min,val/loss max"
    assert rows[1].startswith("2 3,0 1,2,finished finished,2,2.5,0.7071")


def test_ctrl_c_ends_a_sweep(run_condgen, fake):
    def objective(config: dict[str, Any]) -> float:
        raise pickle.loads(pickle.dumps(Interrupted("Stopped by SIGINT.", signal.SIGINT)))  # as another process sends it

    configs = fake(objective)
    result = run_condgen("train", "--multirun", "experiment=none", "model=cvae_mlp", "seed=0,1")
    assert result.code == 130 and "condgen: Stopped by SIGINT." in result.err and len(configs) == 1, result


@pytest.mark.slow
def test_tensorboard_shows_the_settings(run_condgen, fake, tmp_path):
    fake(bowl)
    assert run_condgen(*SEARCH, BETA, LATENT, "hydra.sweeper.n_trials=2").code == 0
    for trial in trials_in(tmp_path):
        folder = tmp_path / "outputs/mnist-cvae_mlp/search" / str(trial.number) / "tensorboard"
        events = EventAccumulator(str(folder))
        events.Reload()
        plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        start = plugin_data_pb2.HParamsPluginData.FromString(plugin).session_start_info
        assert start.hparams["model.beta"].number_value == pytest.approx(trial.params["model.beta"])
        assert start.hparams["model.generator.latent"].number_value == trial.params["model.generator.latent"]
        assert events.Scalars("best/val/loss")[-1].value == pytest.approx(trial.value)
    before = sorted(path.name for path in folder.iterdir())
    assert run_condgen(*SEARCH, BETA, LATENT, "hydra.sweeper.n_trials=2").code == 0
    assert sorted(path.name for path in folder.iterdir()) == before


def test_scales_of_parallel_coordinates():
    assert Scale(["0.001", "0.1", "1e-2"]).places == pytest.approx([0, 1, 0.5])
    assert Scale(["1", "3", "2"]).places == pytest.approx([0, 1, 0.5])
    assert Scale(["811", "1554", "1560"]).ticks == [(0, "811"), (pytest.approx(0.992, abs=1e-3), "1554")]
    assert Scale(["b", "a", "b"]).places == [0.75, 0.25, 0.75]
    assert Scale(["7", "7"]).places == [0.5, 0.5]
    assert Objective("x", "maximize").sign == -1
    assert direction_of("quality/label_accuracy/mnist-cnn/val-2k") == "maximize" and direction_of("val/loss") == "minimize"


# --- real runs ---

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
