"""What watches a training run: non-finite losses, curves, pictures, early stopping."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import torch
from command import TINY, Result, condgen
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SHORT = (
    "callbacks.evaluation=null",
    "trainer=cpu",
    "trainer.limit_train_batches=6",
    "trainer.limit_val_batches=2",
    "data.batch_size=16",
)


def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_good_checkpoint(
    run_condgen: Callable[..., Result], tmp_path: Path
) -> None:
    overrides = ("model.optimizer.lr=1e20", "trainer.log_every_n_steps=1", "callbacks.checkpoint.every_steps=1")
    result = run_condgen("train", "model=cvae_mlp", f"hydra.run.dir={tmp_path / 'run'}", *SHORT, *overrides)
    assert result.code == 1 and "Traceback" not in result.err
    last = result.err.splitlines()[-1]
    assert "Training stopped: " in last and " became " in last and "batch 1 " in last
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 1
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_a_non_finite_window_is_not_saved(run_condgen: Callable[..., Result], tmp_path: Path) -> None:
    """The loss is looked at every 50 batches, but never after a checkpoint was written over the last good one."""
    overrides = ("model.optimizer.lr=1e20", "trainer.log_every_n_steps=50", "callbacks.checkpoint.every_steps=1")
    result = run_condgen("train", "model=cvae_mlp", f"hydra.run.dir={tmp_path / 'run'}", *SHORT, *overrides)
    assert result.code == 1 and "batch 1 " in result.err.splitlines()[-1]
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 1


def test_curves_count_updates_of_the_generator(run_condgen: Callable[..., Result], tmp_path: Path) -> None:
    """Two D steps for each of G: six batches are three updates, in every curve, picture and file."""
    overrides = (
        "model=cgan_mlp",
        "model.alternation.discriminator_steps=2",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=2",
    )
    result = run_condgen("train", f"hydra.run.dir={tmp_path / 'run'}", *SHORT, *overrides)
    assert result.code == 0, result
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss_g")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Images("samples")] == [3, 6]
    names = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert names == ["step-00000003.png", "step-00000006.png"]
    # Ten rows and twice eight columns of 28 pixels, two apart, and the gap between the halves.
    assert Image.open(tmp_path / "run" / "samples" / names[0]).size == (2 * (8 * 30 + 2) + 12, 10 * 30 + 2)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file) if row["train/loss_d"]] == ["1", "2", "3", "4", "5", "6"]
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["last"]["step"] == 6


def test_early_stopping_ends_the_run_for_good(run_condgen: Callable[..., Result], tmp_path: Path) -> None:
    overrides = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "model.optimizer.lr=1e-30")
    overrides = (*overrides, "model=cvae_mlp", "trainer.max_epochs=9")
    assert run_condgen("train", f"hydra.run.dir={tmp_path / 'run'}", *SHORT, *overrides).code == 0
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12
    assert "is finished" in run_condgen("resume", tmp_path / "run").out


def test_pictures_of_conditions_that_no_real_sample_has(tmp_path: Path) -> None:
    """Codes are drawn: beside the rows that were asked for stand any real samples."""
    overrides = ["model=cgan_mlp", "auxiliary=infogan", "model.discriminator.embedding=null"]
    result = condgen("train", "experiment=none", *overrides, *TINY, "trainer.max_epochs=1", cwd=tmp_path)
    assert result.code == 0, result
    assert len(list(tmp_path.glob("outputs/*/*/samples/*.png"))) == 1


def test_the_second_head_of_the_default_recipe_can_be_taken_away(tmp_path: Path) -> None:
    for choice, heads in ((), True), (("auxiliary=none",), False):
        name = "with" if heads else "without"
        result = condgen("train", *choice, f"hydra.run.dir={name}", *TINY, "trainer.max_epochs=1", cwd=tmp_path)
        assert result.code == 0, result
        weights = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        assert any(key.startswith("auxiliary.") for key in weights) is heads


def test_the_end_of_a_run_is_saved_however_seldom_it_saves(run_condgen: Callable[..., Result], tmp_path: Path) -> None:
    seldom = ("callbacks.checkpoint.every_epoch=false", "callbacks.checkpoint.every_steps=7", "trainer.max_epochs=2")
    result = run_condgen("train", "model=cgan_mlp", f"hydra.run.dir={tmp_path / 'run'}", *SHORT, *seldom)
    assert result.code == 0, result
    for name in ("last", "best"):  # no metric decides: the newest is the best
        checkpoint = torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 12
