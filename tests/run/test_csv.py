"""metrics.csv of a run that was killed: no row twice, none that is cut short, none that is lost."""

import csv
from pathlib import Path
from typing import Any

import pytest
from command import TINY, condgen

from condgen.run.loggers import CSV
from condgen.training.base import Training


def rows(directory: Path) -> list[dict[str, str]]:
    """What the table says, without empty cells."""
    with (directory / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_an_evaluation_that_is_repeated_stands_once(tmp_path: Path) -> None:
    logger = CSV(str(tmp_path))
    logger.log_metrics({"train/loss": 0.5}, 3)
    logger.log_metrics({"fid": 7.25}, 4)
    logger.log_metrics({"train/loss": 0.25}, 4)
    logger.log_metrics({"fid": 7.25}, 4)  # at the end of the run, where nothing has changed since
    resumed = CSV(str(tmp_path))
    resumed.resume(4)
    resumed.log_metrics({"fid": 7.25}, 4)  # of a run that was killed in its last evaluation
    resumed.log_metrics({"fid": 7.25}, 5)
    assert [(row["step"], row.get("fid")) for row in rows(tmp_path)] == [("3", None), ("4", "7.25"), ("4", None), ("5", "7.25")]


def test_rows_after_the_checkpoint_and_one_cut_short_are_dropped(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    for text, kept in (
        ("step,fid\n1,9.5\n2,8.5\n3,7.5\n", ["1", "2"]),
        ("step,fid\n1,9.5\n2,8.", ["1"]),
        ("step,fid\n1,9.5\n2", ["1"]),
        ("step,fid\n1,9.5\n2,8.5\n\n", ["1", "2"]),
        ("step,fid\n2,", []),
    ):
        table.write_text(text)
        CSV(str(tmp_path)).resume(2)
        assert [row["step"] for row in rows(tmp_path)] == kept, text


def test_the_last_losses_of_a_run_killed_after_its_last_update_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: Training) -> Any:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "on_train_epoch_end", die)
        limits = ("trainer.max_epochs=-1", "trainer.max_steps=3", "trainer.limit_train_batches=9")
        assert "killed" in condgen("train", *TINY, *limits, "model=cvae_mlp", "hydra.run.dir=run", cwd=tmp_path).err
    result = condgen("resume", "run", cwd=tmp_path)
    assert result.code == 0, result
    assert [row["step"] for row in rows(tmp_path / "run") if "train/loss" in row] == ["3"]
