"""What a sweep leaves behind: tables, charts, settings in TensorBoard, and nothing after Ctrl-C."""

import pickle
import signal
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from PIL import Image
from searches import BETA, LATENT, SEARCH, SPACE, bowl, trials_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from condgen.errors import CondgenError, Interrupted
from condgen.sweeps import study as studies
from condgen.sweeps import summary
from condgen.sweeps.charts import Scale
from condgen.sweeps.results import Objective, direction_of


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


def test_ctrl_c_ends_a_sweep(run_condgen, fake):
    def objective(config: dict[str, Any]) -> float:
        raise pickle.loads(pickle.dumps(Interrupted("Stopped by SIGINT.", signal.SIGINT)))  # as another process sends it

    configs = fake(objective)
    result = run_condgen("train", "--multirun", "experiment=none", "model=cvae_mlp", "seed=0,1")
    assert result.code == 130 and "condgen: Stopped by SIGINT." in result.err and len(configs) == 1, result
