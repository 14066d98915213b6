"""Searches: what is tried, what counts, what is refused. Runs are fakes, through the real command and sweeper."""

import math
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from command import Result, condgen
from optuna.trial import TrialState
from searches import BETA, LATENT, SEARCH, bowl, states, trials_in

from condgen.config.folder import conf_dir
from condgen.errors import CondgenError
from condgen.sweeps import study as studies

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


def condgen_in(folder: Path, *arguments: str) -> Result:
    return condgen(*arguments, cwd=folder)


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
