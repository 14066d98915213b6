"""Training in two processes (gloo), started by condgen itself."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import condgen

COMMON = ("trainer.max_epochs=1", "trainer.limit_train_batches=6", "trainer.limit_val_batches=2", "data.batch_size=16")
COMMON = (*COMMON, "trainer.log_every_n_steps=2")


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a condgen command in a process of its own."""
    command = [sys.executable, "-m", "condgen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=directory, env=dict(os.environ), timeout=300)


def losses(directory: Path) -> dict[str, list[float]]:
    """Read the curves of a run, by name."""
    curves: dict[str, list[float]] = {}
    with (directory / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name.startswith(("train/", "val/")):
                    curves.setdefault(name, []).append(float(value))
    return curves


@pytest.mark.parametrize("model", ["cgan_mlp", "cvae_mlp"])
def test_two_processes_train_what_one_trains(model: str, tmp_path: Path) -> None:
    """Without batch norm the same global batches and noise give the same losses, and the checkpoint loads and samples."""
    for name, trainer in (("one", "trainer=cpu"), ("two", "trainer=ddp_cpu")):
        done = run(tmp_path, "train", "experiment=none", f"model={model}", trainer, f"hydra.run.dir={tmp_path / name}", *COMMON)
        assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        if name.startswith("train/"):  # each rank validates with noise of its own
            assert two[name] == pytest.approx(one[name], rel=1e-4)
    first, second = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("one", "two"))
    assert first["global_step"] == second["global_step"] == 6
    for key, value in first["state_dict"].items():
        assert torch.allclose(value, second["state_dict"][key], atol=2e-4), key

    sampled = run(tmp_path, "sample", "two", "--condition", "3", "--count", "4", "--out", "three.npz")
    assert sampled.returncode == 0, sampled.stderr
    images = condgen.load(tmp_path / "two").sample(3, count=4, seed=0)
    written = np.load(tmp_path / "three.npz")
    assert written["labels"].tolist() == [3, 3, 3, 3]
    assert np.array_equal(written["images"][..., 0], ((images[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy())


def test_a_killed_run_of_two_processes_goes_on(tmp_path: Path) -> None:
    """Resume starts both processes again, from the configuration alone."""
    directory = tmp_path / "run"
    arguments = ("experiment=none", "model=cgan_mlp", "trainer=ddp_cpu", f"hydra.run.dir={directory}", *COMMON)
    assert run(tmp_path, "train", *arguments).returncode == 0
    longer = run(tmp_path, "resume", str(directory), "trainer.max_epochs=2")
    assert longer.returncode == 0, longer.stderr
    assert torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12


def test_a_batch_that_two_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    refused = run(tmp_path, "train", "trainer=ddp_cpu", "data.batch_size=15")
    assert refused.returncode == 1
    assert "batch_size" in refused.stderr.splitlines()[-1] and "Traceback" not in refused.stderr
