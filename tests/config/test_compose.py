"""What is chosen where nothing is said, what runs are called, and what ``none``, ``debug``, ``paths`` and ``extras`` do."""

from pathlib import Path

import pytest
import torch
import yaml
from command import TINY, condgen, only_run

from condgen.config.compose import RECIPE, run_name, with_recipe
from condgen.config.folder import choices, groups
from condgen.training.vae import VAE

QUICK = (*TINY[:-1], "callbacks=none", "logger=none", "trainer.max_epochs=1")
NOTHING = {"experiment": "none", "data": "cifar10", "model": "dcgan"}


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ([], 0),
        (["--cfg", "job"], 2),
        (["seed=1", "loss=hinge", "--multirun"], 0),
        (["--multirun", "debug=default", "model.latent=3", "data.batch_size=2"], 1),
        (["data=cifar10"], None),
        (["model=dcgan", "--cfg", "job"], None),
        (["experiment=none"], None),
        (["-sc", "query=bash"], None),
    ],
)
def test_whoever_chooses_nothing_gets_the_quick_recipe(arguments, place):
    expected = list(arguments)
    if place is not None:
        expected.insert(place, RECIPE)
    assert with_recipe(arguments) == expected


@pytest.mark.parametrize(
    ("choice", "overrides", "name"),
    [
        ({"experiment": "mnist_cgan"}, ["experiment=mnist_cgan", "model=dcgan"], "mnist_cgan"),
        ({}, [], "cifar10-dcgan"),
        ({}, ["regularizer=[r1,r2]", "seed=0,1"], "cifar10-dcgan"),
        ({}, ["model=dcgan,sngan"], "cifar10"),
        ({}, ["data=choice(mnist,cifar10)"], "dcgan"),
        ({}, ["model=dcgan,sngan", "data=mnist,cifar10"], "sweep"),
        ({}, ["experiment=mnist_cgan,mnist_gan"], "sweep"),
        ({"experiment": "mnist_cgan"}, ["experiment=mnist_cgan", "model=dcgan,sngan"], "mnist_cgan"),
    ],
)
def test_a_run_is_called_after_its_recipe_or_its_data_and_model(choice, overrides, name):
    assert run_name(NOTHING | choice, overrides) == name


def stored(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text())


def test_runs_lie_where_their_names_and_paths_say(tmp_path):
    assert condgen("train", "model=cgan_mlp", *QUICK, cwd=tmp_path).code == 0
    run = only_run(tmp_path)
    assert run.parent.name == stored(run)["run"]["name"] == "mnist-cgan_mlp"
    assert stored(run)["trainer"]["max_epochs"] == 1 and stored(run)["paths"]["output_dir"] == str(run)
    own = ("run.name=mine", "paths.log_dir=elsewhere")
    assert condgen("train", "model=cgan_mlp", *QUICK, *own, cwd=tmp_path).code == 0
    (run,) = (tmp_path / "elsewhere/mine").iterdir()
    assert stored(run)["run"]["name"] == "mine"


def test_a_sweep_over_models_has_one_folder(tmp_path):
    result = condgen("train", "--multirun", "model=cgan_mlp,cvae_mlp", *QUICK, cwd=tmp_path)
    assert result.code == 0, result
    (sweep,) = (tmp_path / "outputs").glob("*/*")
    assert sweep.parent.name == "mnist"
    assert [stored(sweep / number)["run"]["name"] for number in "01"] == ["mnist-cgan_mlp", "mnist-cvae_mlp"]


def test_no_recipe_means_lightnings_settings_of_the_trainer(run_condgen):
    alone = yaml.safe_load(run_condgen("train", "--cfg", "job").out)
    chosen = yaml.safe_load(run_condgen("train", "--cfg", "job", "model=dcgan").out)
    assert alone["trainer"]["max_epochs"] == 2 and chosen["trainer"]["max_epochs"] == 10
    assert alone["model"]["auxiliary"]["_target_"].endswith("ACGAN")
    assert yaml.safe_load(run_condgen("train", "--cfg", "job", "auxiliary=none").out)["model"]["auxiliary"] is None


def test_every_group_that_can_be_left_out_has_none(run_condgen):
    needed = {"data", "model", "loss", "trainer", "paths"}
    known = [group for group in groups() if not group.startswith("hydra") and group not in needed]
    assert {group for group in known if "none" not in choices(group)} == set()
    result = run_condgen(
        "train", "--cfg", "job", "model=cvae_mlp", *(f"{group}=none" for group in known if group != "auxiliary")
    )
    config = yaml.safe_load(result.out)
    assert result.code == 0 and config["callbacks"] == config["logger"] == config["extractor"] == {}, result


def test_debug_overfit_sees_the_same_batches_again(tmp_path, monkeypatch):
    seen: list[torch.Tensor] = []
    step = VAE.training_step

    def watched(self, batch, batch_idx):
        seen.append(batch[0].clone())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(VAE, "training_step", watched)
    result = condgen("train", "debug=overfit", "model=cvae_mlp", "data.batch_size=4", cwd=tmp_path)
    assert result.code == 0 and "Trained 60 updates" in result.err, result
    assert not list(tmp_path.iterdir())
    assert len(seen) == 60 and all(torch.equal(seen[i], seen[i % 3]) for i in range(60)) and not torch.equal(seen[0], seen[1])


def test_debug_profiler_tells_where_the_time_went(tmp_path):
    result = condgen("train", "debug=profiler", "trainer.limit_train_batches=2", "model=cvae_mlp", cwd=tmp_path)
    assert result.code == 0 and "Trained 2 updates" in result.err and "run_training_batch" in result.err + result.out, result


def test_extras(tmp_path):
    options = (
        "debug=default",
        "model=cvae_mlp",
        "data.batch_size=4",
        "extras.print_config=true",
        "extras.ignore_warnings=true",
    )
    result = condgen("train", *options, cwd=tmp_path)
    assert result.code == 0 and "\n  batch_size: 4\n" in result.out, result


@pytest.mark.parametrize("experiment", ["mnist_cvae", "mnist_attributes_flow"])
def test_a_recipe_can_be_debugged_and_trained_without_callbacks(experiment, tmp_path):
    small = (
        ("data.batch_size=4", "data.source.samples=400", "data.split=40")
        if "attributes" in experiment
        else ("data.batch_size=4",)
    )
    result = condgen("train", f"experiment={experiment}", "debug=default", *small, cwd=tmp_path)
    assert result.code == 0 and "Trained 2 updates" in result.err, result
