"""Training in two processes (gloo), started by condgen itself."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import FEWER, condgen
from witness import told, watched

from condgen import load
from condgen.evaluate import evaluate

SHORT = ("trainer.limit_train_batches=25", "trainer.limit_val_batches=2", "data.batch_size=16", "trainer.log_every_n_steps=1")
MEASURED = ("callbacks.evaluation.every_epochs=2", "callbacks.evaluation.samples=500")
MEASURED = (*MEASURED, "callbacks.evaluation.final=[fid]", "callbacks.evaluation.final_samples=300", FEWER)
SMALL = ("experiment=none", "trainer.max_epochs=1", "trainer.limit_train_batches=6", "trainer.limit_val_batches=1")
SMALL = (*SMALL, "data.batch_size=16", "trainer.log_every_n_steps=1", "callbacks.samples=null")


OF_ONE = {"diagnosis/logit_deviation", "diagnosis/least_class_diversity"}
"""Curves in which two processes may differ from one: a mean of two deviations, and what a second epoch's evaluation says."""


def losses(directory: Path) -> dict[str, list[float]]:
    """Read the losses of a run's updates and what the diagnosis says of them, by name."""
    curves: dict[str, list[float]] = {}
    with (directory / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name.startswith(("train/", "val/", "diagnosis/")) and name not in OF_ONE:
                    curves.setdefault(name, []).append(float(value))
    return curves


def tolerance(name: str) -> float:
    """Return by how much a curve may differ: statistics of gradients and logits carry more rounding than losses."""
    return 1e-3 if name.startswith("diagnosis/") else 1e-4


def measured_alike(directory: Path, samples: int) -> None:
    """Assert that one process measures at a run's checkpoint what the run's processes together measured."""
    together = json.loads((directory / "metrics.json").read_text())["last"]
    together = {name: value for name, value in together.items() if name.startswith("quality/")}
    suite = f"suite=[{','.join(name.split('/')[1] for name in together)}]"
    overrides = ["split=val", f"samples={samples}", suite]
    alone = evaluate(directory / "checkpoints/last.ckpt", overrides, out=directory / "alone", trust=True)[0].named()
    assert together and together.keys() == alone.keys()
    for name, value in together.items():
        assert alone[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("model, asked", [("cgan_mlp", "trainer.devices=2"), ("cvae_mlp", "trainer=ddp_cpu")])
def test_two_processes_train_what_one_trains(model: str, asked: str, tmp_path: Path) -> None:
    """Without batch norm the same global batches and noise give the same losses; both processes end with the same weights."""
    for name, trainer, epochs in (("one", "trainer=cpu", 1), ("two", asked, 2)):
        arguments = ("experiment=none", f"model={model}", trainer, f"trainer.max_epochs={epochs}", *SHORT)
        directory = tmp_path / name
        result = condgen(
            "train", *arguments, *MEASURED, f"hydra.run.dir={directory}", watched(directory / "seen"), cwd=tmp_path
        )
        assert result.code == 0, result
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() and max(map(len, one.values())) == 25
    for name in one:
        assert two[name][: len(one[name])] == pytest.approx(one[name], rel=tolerance(name)), name
    assert [rank["samples"] for rank in told(tmp_path / "two/seen", "start")] == [8, 8]
    first, second = told(tmp_path / "two/seen", "end")
    assert first == second and first["step"] == 50
    measured_alike(tmp_path / "two", 500)
    assert "Effective batch 16: 2 processes, 8 samples each." in (tmp_path / "two/train.log").read_text()

    sampled = condgen("sample", "two", "--condition", "3", "--count", "4", "--out", "three.npz", cwd=tmp_path)
    assert sampled.code == 0, sampled
    images = load(tmp_path / "two").sample(3, count=4, seed=0)
    written = np.load(tmp_path / "three.npz")
    assert written["labels"].tolist() == [3, 3, 3, 3]
    assert np.array_equal(written["images"][..., 0], ((images[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy())

    if model == "cgan_mlp":
        resumed = condgen("resume", "two", "--trust", "trainer.max_epochs=3", "callbacks.evaluation=null", cwd=tmp_path)
        assert resumed.code == 0, resumed
        path = tmp_path / "two" / "checkpoints" / "last.ckpt"
        assert torch.load(path, weights_only=True)["global_step"] == 75


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        ("model=cgan_mlp", "auxiliary=acgan", "model.alternation.micro_batches=2"),
        (
            "model=cgan_mlp",
            "auxiliary=infogan",
            "condition=codes",
            "model.discriminator.projection=false",
            "model.discriminator.embedding=null",
        ),
        (
            "model=acgan_conv",
            "model.generator.network.width=8",
            "model.discriminator.width=8",
            "++trainer.sync_batchnorm=true",
        ),
    ],
    ids=["acgan", "infogan", "synchronized-batch-norm"],
)
def test_heads_of_the_discriminator_are_trained_and_measured_by_two_processes(model: tuple[str, ...], tmp_path: Path) -> None:
    evaluation = ("callbacks.evaluation.samples=750", "callbacks.evaluation.final=null")  # three blocks: not a multiple of two
    for name in ("cpu", "ddp_cpu"):
        arguments = (f"trainer={name}", *SMALL, *model, *evaluation, f"hydra.run.dir={tmp_path / name}")
        result = condgen("train", *arguments, watched(tmp_path / name / "seen"), cwd=tmp_path)
        assert result.code == 0, result
    one, two = losses(tmp_path / "cpu"), losses(tmp_path / "ddp_cpu")
    assert one and one.keys() == two.keys()
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=tolerance(name)), name
    first, second = told(tmp_path / "ddp_cpu/seen", "end")
    assert first == second
    measured_alike(tmp_path / "ddp_cpu", 750)


@pytest.mark.slow
def test_a_multirun_trains_each_seed_in_both_processes(tmp_path: Path) -> None:
    job = watched(tmp_path / "seen" / "${seed}")
    arguments = ("--multirun", "trainer=ddp_cpu", "seed=0,1", "model=cgan_mlp", "callbacks.evaluation=null")
    result = condgen("train", *arguments, *SMALL, job, f"hydra.sweep.dir={tmp_path / 'sweep'}", cwd=tmp_path)
    assert result.code == 0, result
    weights = set()
    for seed in (0, 1):
        seen = told(tmp_path / f"seen/{seed}", "start")
        assert [(rank["seed"], rank["world"]) for rank in seen] == [(seed, 2), (seed, 2)]
        assert {rank["directory"] for rank in seen} == {str(tmp_path / f"sweep/{seed}")}
        first, second = told(tmp_path / f"seen/{seed}", "end")
        assert first == second
        weights.add(first["weights"])
    assert len(weights) == 2


def test_a_batch_that_two_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    sentence = condgen("train", "trainer=ddp_cpu", "data.batch_size=15", cwd=tmp_path).sentence()
    assert "data.batch_size=15 cannot be shared by 2 processes" in sentence
