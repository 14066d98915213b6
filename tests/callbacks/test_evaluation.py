"""Measuring while training: honest names, nothing disturbed. Figures of two processes are in run/test_two_processes.py."""

import csv
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import FEWER, Result
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from condgen.metrics.kept import cached
from condgen.metrics.record import read_records

Run = Callable[..., Result]
UNMEASURED = (
    "experiment=none",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=6",
    "trainer.limit_val_batches=2",
    "data.batch_size=16",
    FEWER,
)
SHORT = (
    *UNMEASURED,
    "callbacks.evaluation.samples=500",
    "callbacks.evaluation.final=[fid,label_accuracy,diversity]",
    "callbacks.evaluation.final_samples=300",
)
FID = "quality/fid/mnist-cnn/val-500"


def state(run: Path) -> dict[str, Any]:
    """The last checkpoint's weights and optimizers."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {"weights": checkpoint["state_dict"], "optimizers": checkpoint["optimizer_states"]}


def same(a: Any, b: Any) -> bool:
    """Whether two trees of plain values and tensors are equal, bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


def curve(run: Path, name: str) -> list[float]:
    """A curve of metrics.csv."""
    with (run / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


@pytest.mark.parametrize(
    "model", [("model=cgan_conv", "model.discriminator.dropout=0.3"), pytest.param(("model=cvae_mlp",), marks=pytest.mark.slow)]
)
def test_measuring_does_not_disturb_training(run_condgen: Run, tmp_path: Path, model: tuple[str, ...]) -> None:
    assert run_condgen("train", *SHORT, *model, "hydra.run.dir=on").code == 0
    assert run_condgen("train", *UNMEASURED, *model, "callbacks.evaluation=null", "hydra.run.dir=off").code == 0
    assert len(curve(tmp_path / "on", FID)) == 2
    assert same(state(tmp_path / "on"), state(tmp_path / "off"))


def test_a_run_leaves_figures_with_protocols_pictures_and_curves(run_condgen: Run, tmp_path: Path, real_curves: None) -> None:
    monitor = (f"callbacks.checkpoint.monitor={FID}", f"run.objective={FID}")
    result = run_condgen("train", *SHORT, "model=cgan_conv", *monitor, "hydra.run.dir=run")
    assert result.code == 0 and "Measuring took" in result.err, result
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    stamp = metrics["protocols"]["mnist-cnn/val-500"]
    assert (stamp["real"], stamp["generated"], stamp["weights"], stamp["resize"]) == (5000, 500, "ema", "none")
    assert metrics["last"][FID] == pytest.approx(curve(run, FID)[-1])
    assert metrics["best"][FID] == pytest.approx(min(curve(run, FID)))
    folder = run / "evaluation" / "last-val-300-mnist-cnn"
    (record,) = read_records(folder / "metrics.json")
    assert record.step == 12 and record.floors.keys() == record.figures.keys() == {"fid", "label_accuracy", "diversity"}
    assert {"confusion.png", "neighbours.png", "latents.png", "classes.png"} <= {path.name for path in folder.iterdir()}
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert FID in events.Tags()["scalars"] and "evaluation/confusion" in events.Tags()["images"]
    assert (run / "report.html").is_file()


def test_early_stopping_watches_a_figure(run_condgen: Run, tmp_path: Path) -> None:
    arguments = ("callbacks=early_stopping", f"callbacks.early_stopping.monitor={FID}", "callbacks.early_stopping.mode=max")
    arguments = (*arguments, "callbacks.early_stopping.patience=1", "trainer.max_epochs=6", "model.generator_optimizer.lr=0")
    result = run_condgen("train", *SHORT, "model=cgan_mlp", *arguments, "hydra.run.dir=run")
    assert result.code == 0, result
    assert len(curve(tmp_path / "run", FID)) < 6  # a generator that stands still does not improve


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["callbacks.checkpoint.monitor=quality/fid/mnist-cnn/val-9k"], f"not measured during training: take one of {FID}"),
        (["callbacks.evaluation.samples=3"], "at least 100"),
        (["callbacks.evaluation.metrics=[fit]"], "'fit'"),
        (["data.image_size=32"], "takes images of 1x28x28 and the samples are 1x32x32: extractor.resize=bilinear"),
        (["extractor=cifar10-resnet", "extractor.resize=bilinear"], "tells 10 classes apart"),
        (["extractor=custom"], "extractor.network has no value"),
    ],
)
def test_an_evaluation_that_cannot_work_is_refused_before_training(
    run_condgen: Run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    assert words in run_condgen("train", *SHORT, "model=cgan_conv", *arguments, "hydra.run.dir=run").sentence()
    assert not (tmp_path / "run").exists()


def test_a_classifier_of_the_user_measures(run_condgen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, width), torch.nn.ReLU())\n"
        "        self.head = torch.nn.Linear(width, 10)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.body(x))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    network = (
        "extractor=custom",
        "extractor.name=mine",
        "extractor.network={_target_: mine.Net, width: 16}",
        "extractor.shape=[1,28,28]",
    )
    assert run_condgen("train", *SHORT, "model=cgan_mlp", *network, "hydra.run.dir=run").code == 0
    assert len(curve(tmp_path / "run", "quality/fid/mine/val-500")) == 2


def test_the_cache_is_filled_once_by_jobs_that_start_together(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> dict[str, Tensor]:
        calls.append(1)
        time.sleep(0.3)
        return {"x": torch.arange(3.0)}

    found: list[Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(cached("together", compute)["x"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and len(found) == 3 and all(torch.equal(x, torch.arange(3.0)) for x in found)
