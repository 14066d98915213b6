"""The default recipe, trained for half of its length, draws digits of the class that was asked for."""

from pathlib import Path

import pytest
from command import condgen

from condgen.metrics.record import read_records


@pytest.mark.slow
def test_the_default_recipe_learns_its_condition(tmp_path: Path, real_curves: None) -> None:
    """At least 96 % of the samples are read as what they were asked for, and no class is drawn in one way only."""
    result = condgen(
        "train", "trainer.max_epochs=2", "callbacks.evaluation.final=null", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path
    )
    assert result.code == 0, result
    result = condgen("evaluate", "run", "suite=[fid,label_accuracy,coverage,diversity]", cwd=tmp_path)
    assert result.code == 0, result
    (record,) = read_records(tmp_path / "run" / "evaluation" / "best-test-10k-mnist-cnn" / "metrics.json")
    assert record.figures["label_accuracy"] > 0.96 and record.floors["label_accuracy"] > 0.99
    assert record.figures["fid"] < 8 and record.figures["coverage"] > 0.7
    assert min(record.per_class["diversity"]) > 0.5
    assert (tmp_path / "run" / "report.html").is_file()
