"""The default recipe, trained to its end, draws digits of the class that was asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import condgen

from condgen.metrics.record import read_records


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Compute with two threads, and leave this process as it was: other tests in it compare bits with one of one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_the_default_recipe_learns_its_condition(tmp_path: Path, two_threads: None, real_curves: None) -> None:
    """At least 96 % of the samples are read as what they were asked for, and no class is drawn in one way only."""
    result = condgen("train", "callbacks.evaluation.final=null", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert result.code == 0, result
    result = condgen("evaluate", "run", "suite=[fid,label_accuracy,coverage,diversity]", cwd=tmp_path)
    assert result.code == 0, result
    (record,) = read_records(tmp_path / "run" / "evaluation" / "best-test-10k-mnist-cnn" / "metrics.json")
    assert record.figures["label_accuracy"] > 0.96 and record.floors["label_accuracy"] > 0.99
    assert record.figures["fid"] < 8 and record.figures["coverage"] > 0.7
    assert min(record.per_class["diversity"]) > 0.5
    assert (tmp_path / "run" / "report.html").is_file()
