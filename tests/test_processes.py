"""Training in two processes (gloo), started by condgen itself."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from command import condgen

from condgen import load

SHORT = ("trainer.max_epochs=1", "trainer.limit_train_batches=6", "trainer.limit_val_batches=2", "data.batch_size=16")
SHORT = (*SHORT, "trainer.log_every_n_steps=2", "callbacks.evaluation=null")


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
    """Without batch norm the same global batches and noise give the same losses; the checkpoint loads, samples and resumes."""
    for name, trainer in (("one", "trainer=cpu"), ("two", "trainer=ddp_cpu")):
        arguments = ("experiment=none", f"model={model}", trainer, f"hydra.run.dir={tmp_path / name}", *SHORT)
        result = condgen("train", *arguments, cwd=tmp_path)
        assert result.code == 0, result
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
    first, second = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("one", "two"))
    assert first["global_step"] == second["global_step"] == 6
    for key, value in first["state_dict"].items():
        assert torch.allclose(value, second["state_dict"][key], atol=2e-4), key

    sampled = condgen("sample", "two", "--condition", "3", "--count", "4", "--out", "three.npz", cwd=tmp_path)
    assert sampled.code == 0, sampled
    images = load(tmp_path / "two").sample(3, count=4, seed=0)
    written = np.load(tmp_path / "three.npz")
    assert written["labels"].tolist() == [3, 3, 3, 3]
    assert np.array_equal(written["images"][..., 0], ((images[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy())

    if model == "cgan_mlp":
        resumed = condgen("resume", "two", "trainer.max_epochs=2", cwd=tmp_path)
        assert resumed.code == 0, resumed
        path = tmp_path / "two" / "checkpoints" / "last.ckpt"
        assert torch.load(path, weights_only=True)["global_step"] == 12


def test_a_batch_that_two_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    sentence = condgen("train", "trainer=ddp_cpu", "data.batch_size=15", cwd=tmp_path).sentence()
    assert "data.batch_size=15 cannot be shared by 2 processes" in sentence
