"""The command line: help, sweeps, shell completion, and what a run leaves on disk."""

import csv
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from command import TINY
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import condgen
from condgen.cli import subcommands
from condgen.config.build import plain
from condgen.config.folder import conf_dir
from condgen.train import train

ROOT = Path(__file__).parents[2]
SCRIPT = "import sys; sys.argv[0] = 'condgen'; from condgen.cli import main; main()"


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter, which finds this checkout wherever it is started."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


# --- help ---


def test_help_names_the_commands_and_does_not_wait_for_torch(tmp_path):
    loaded = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules)); " + SCRIPT
    result = python("-c", loaded, "--help", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    assert all(f"  {name} " in result.stdout for name in subcommands())
    assert result.stdout.splitlines()[-1] == "False"


def test_train_help_is_hydras(run_condgen, tmp_path):
    result = run_condgen("train", "--help")
    assert result.code == 0
    for choice in ("cgan_mlp", "cvae_mlp", "lsgan", "mnist", "mnist_quick", "debug"):
        assert choice in result.out
    assert "batch_size: 32" in result.out and "--multirun" in result.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["sample", "resume"])
def test_the_plain_commands_have_help(command, run_condgen):
    result = run_condgen(command, "--help")
    assert result.code == 0 and "--trust" in result.out


def test_python_m_condgen(tmp_path):
    result = python("-m", "condgen", "train", "--cfg", "job", "seed=7", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert yaml.safe_load(result.stdout)["seed"] == 7
    refused = python("-m", "condgen", "status", "nowhere", cwd=tmp_path)  # loads no torch
    assert refused.returncode == 1 and refused.stderr.startswith("condgen: ") and refused.stderr.count("\n") == 1


def test_cfg_job_shows_what_would_run_and_runs_nothing(run_condgen, tmp_path):
    result = run_condgen("train", "--cfg", "job", "model=cvae_mlp", "seed=3")
    assert result.code == 0
    config = yaml.safe_load(result.out)
    assert config["seed"] == 3 and config["loss"]["_target_"].endswith("SquaredError")  # brought by the model
    assert not list(tmp_path.iterdir())


def test_what_the_command_line_names_wins_over_the_recipe(run_condgen):
    result = run_condgen(
        "train", "--cfg", "job", "experiment=mnist_quick", "model=cvae_conv", "loss=gaussian", "trainer.max_epochs=9"
    )
    config = yaml.safe_load(result.out)
    assert config["model"]["_target_"].endswith("VAE") and config["loss"]["_target_"].endswith("Gaussian")
    assert config["trainer"]["max_epochs"] == 9


# --- runs ---


def test_a_run_directory_holds_what_the_readme_promises(vae_run):
    files = {str(path.relative_to(vae_run)) for path in vae_run.rglob("*") if path.is_file()}
    (events,) = (name for name in files if name.startswith("tensorboard/events.out.tfevents"))
    differences = {name for name in files if name.startswith("git-")}  # none where the checkout is clean
    assert files - {events} - differences == {
        "config.yaml",
        "status.json",
        "provenance.json",
        ".lock",
        "metrics.csv",
        "metrics.json",
        "curves.png",
        "report.html",
        "samples/step-00000002.png",
        "samples/step-00000004.png",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "train.log",
    }
    config = yaml.safe_load((vae_run / "config.yaml").read_text())
    assert config["seed"] == 0 and config["data"]["batch_size"] == 4 and "${" not in (vae_run / "config.yaml").read_text()
    rows = list(csv.DictReader((vae_run / "metrics.csv").open()))
    losses = {int(row["step"]): float(row["val/loss"]) for row in rows if row["val/loss"]}
    metrics = json.loads((vae_run / "metrics.json").read_text())
    assert sorted(losses) == [2, 4] and metrics["last"]["step"] == 4
    assert metrics["best"]["val/loss"] == pytest.approx(min(losses.values()))
    assert "Trained 4 updates" in (vae_run / "train.log").read_text()


def test_a_run_directory_repeats_itself(vae_run, run_condgen, tmp_path):
    """config.yaml is all that is needed: the same weights, bit for bit."""
    config = yaml.safe_load((vae_run / "config.yaml").read_text())
    again = tmp_path / "again"
    config["paths"]["output_dir"] = str(again)
    train(config | {"logger": {}, "callbacks": {"checkpoint": config["callbacks"]["checkpoint"]}}, again)
    first, second = (condgen.load(run / "checkpoints" / "last.ckpt").state_dict() for run in (vae_run, again))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_train_returns_the_best_validation_loss(tmp_path):
    """What a sweep minimizes: the best epoch, not the last; here a huge rate makes the later ones worse."""
    GlobalHydra.instance().clear()
    overrides = ["experiment=none", "model=cvae_mlp", *TINY, "trainer.max_epochs=3", "logger=csv", "model.optimizer.lr=0.03"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = plain(compose("train", [*overrides, "run.name=test", f"paths.output_dir={tmp_path}"]))
    returned = train(config, tmp_path)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    losses = [float(row["val/loss"]) for row in rows if row["val/loss"]]
    assert len(losses) == 3 and len(set(losses)) == 3
    assert returned == pytest.approx(min(losses))
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)["global_step"]
    assert best == 2 * (1 + losses.index(min(losses)))


def test_debug_leaves_no_files(run_condgen, tmp_path):
    result = run_condgen("train", "debug=default", "data.batch_size=4", "model=cgan_mlp")
    assert result.code == 0 and "Trained 2 updates" in result.err, result
    assert not list(tmp_path.iterdir())


def test_multirun_gives_each_job_its_seed_and_its_directory(run_condgen, tmp_path):
    result = run_condgen("train", "--multirun", "seed=0,1", "experiment=none", "model=cgan_mlp", *TINY, "trainer.max_epochs=1")
    assert result.code == 0, result
    runs = sorted(path.parent for path in tmp_path.rglob("config.yaml"))
    assert [run.name for run in runs] == ["0", "1"] and runs[0].parent == runs[1].parent
    models = [condgen.load(run) for run in runs]
    assert [yaml.safe_load((run / "config.yaml").read_text())["seed"] for run in runs] == [0, 1]
    assert [yaml.safe_load((run / "config.yaml").read_text())["paths"]["output_dir"] for run in runs] == [
        str(run) for run in runs
    ]
    first, second = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert not torch.equal(first, second)


def test_a_run_lets_go_of_its_log(run_condgen, tmp_path):
    """What the next job of a sweep says while it is being prepared does not belong to this one's train.log."""
    result = run_condgen("train", "experiment=none", "model=cgan_mlp", *TINY, "trainer.max_epochs=1")
    assert result.code == 0, result
    assert not [handler for handler in logging.getLogger("condgen").handlers if isinstance(handler, logging.FileHandler)]


# --- shell completion ---


def complete(line: str, cwd: Path) -> list[str]:
    """Ask as Hydra's bash function asks."""
    result = python("-c", SCRIPT, "-sc", "query=bash", cwd=cwd, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert result.returncode == 0 and result.stderr == "", result.stderr
    return result.stdout.split()


def test_completion(tmp_path):
    assert complete("condgen tr", tmp_path) == ["train"]
    assert complete("condgen ", tmp_path) == list(subcommands())
    assert "model=" in complete("condgen train mod", tmp_path)
    models = {f"model={path.stem}" for path in (conf_dir() / "model").glob("[!_]*.yaml")}  # bases are nobody's choice
    assert set(complete("condgen train model=", tmp_path)) == models
    assert complete("condgen train model=cgan_m", tmp_path) == ["model=cgan_mlp"]
    assert "loss=lsgan" in complete("condgen train model=cgan_mlp loss=ls", tmp_path)
    assert complete("condgen sample ", tmp_path) == []  # files
    assert complete("condgen sample RUN --co", tmp_path) == ["--condition", "--count"]
    assert complete("condgen evaluate RUN extractor=mnist", tmp_path) == ["extractor=mnist-attributes", "extractor=mnist-cnn"]
    assert complete("condgen train see", tmp_path) == ["seed="]
    assert "trainer.max_epochs=" in complete("condgen train trainer.max_", tmp_path)


def test_completion_in_a_real_bash(tmp_path):
    """Install the function the way Hydra tells to, and press the key."""
    if not shutil.which("bash"):
        pytest.skip("no bash")
    installed = python("-c", SCRIPT, "train", "-sc", "install=bash", cwd=tmp_path)
    assert installed.returncode == 0 and "condgen" in installed.stdout, installed.stderr
    (tmp_path / "complete.sh").write_text(installed.stdout)
    (tmp_path / "condgen").write_text(f"#!{sys.executable}\n{SCRIPT}\n")
    (tmp_path / "condgen").chmod(0o755)
    keys = """
        source complete.sh
        COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=($COMP_LINE); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        function=$(complete -p condgen | sed -E 's/.*-F +([^ ]+).*/\\1/')
        "$function" condgen "" ""
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for line, wanted in (("condgen tr", "train"), ("condgen train model=cgan_m", "cgan_mlp")):
        result = subprocess.run(
            ["bash", "-c", keys, "bash", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert wanted in result.stdout, (line, result)
