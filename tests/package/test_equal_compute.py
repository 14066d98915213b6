"""Quality for equal compute: what a budget buys, and the table of it. The trainings themselves take minutes."""

from pathlib import Path
from typing import Any

import equal_compute
import equal_tables
import pytest
from command import condgen
from config.tiny_data import write_zip
from PIL import Image

from condgen.errors import CondgenError

FIGURES = {"fid": 100.0, "sfid": 50.0, "label_accuracy": 0.5, "coverage": 0.25, "swd": 9.0}
FLOORS = {"fid": 4.0, "sfid": 3.0, "label_accuracy": 0.94, "coverage": 0.96, "swd": 1.0}
TITLES = {"gan": "GAN", "glow": "Glow"}


def row(family: str, minutes: float, generated: int = 2000) -> dict[str, Any]:
    """A row as a run leaves it."""
    protocol = {"extractor": "cifar10-resnet", "sha256": "0", "reference": "val", "data": "0", "real": 5000, "resize": "none"}
    return {
        "family": family,
        "minutes": minutes,
        "updates": int(600 * minutes),
        "flop": 3e12 * minutes,
        "flop_per_update": 5e9,
        "seconds_per_update": 0.1,
        "precision": "bf16-mixed",
        "product_rate": {"float32": 1.5e11, "bfloat16": 1e12},
        "figures": FIGURES,
        "floors": FLOORS,
        "protocol": protocol | {"generated": generated, "seed": 0, "weights": "ema"},
    }


def test_the_table_has_what_was_measured_and_says_what_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, chart = tmp_path / "results.md", tmp_path / "chart.png"
    page.write_text("before\n<!-- equal compute -->\nold\n<!-- end of equal compute -->\nafter\n")
    monkeypatch.setattr(equal_tables, "PAGE", page)
    monkeypatch.setattr(equal_tables, "CHART", chart)
    equal_tables.write([row("glow", 1), row("gan", 5), row("gan", 1)], TITLES, (1.0, 5.0, 25.0))
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after") and "old" not in lines
    found = [line for line in lines if line.startswith("|")][2:]
    assert found[0] == "| 1 | GAN | 600 | 3.0 | 100.0 | 50.0 | 0.500 | 0.250 | 9.0 |"
    starts = ["| 1 | GAN |", "| 1 | Glow |", "| 5 | GAN |", "| 5 | Glow: not run yet |", "| 25 | all: not run yet |"]
    assert [line[: len(start)] for line, start in zip(found, starts, strict=False)] == starts
    assert found[-1].startswith("| | *floor") and "*0.940*" in found[-1]
    assert "1,000 GFLOP/s in bfloat16" in page.read_text() and "GAN 50" in page.read_text()
    assert Image.open(chart).width > 1000 and chart.stat().st_size < 100_000


def test_figures_of_unlike_numbers_of_samples_share_no_table() -> None:
    with pytest.raises(CondgenError, match="generated is 2000 in one and 5000"):
        equal_tables.write([row("gan", 1), row("gan", 5, generated=5000)], TITLES, (1.0,))


def test_what_is_measured_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    tables: list[list[dict[str, Any]]] = []

    def one(name: str, minutes: float, *rest: Any) -> dict[str, Any]:
        trained.append(name)
        return row(name, minutes)

    monkeypatch.setattr(equal_compute, "one", one)
    monkeypatch.setattr(equal_compute, "write", lambda rows, *rest: tables.append(rows))
    words = ["--archive", "train.zip", "--minutes", "1", "--out", str(tmp_path)]
    equal_compute.main([*words, "--families", "glow"])
    equal_compute.main(words)
    assert sorted(trained) == sorted(equal_compute.FAMILIES)  # each once
    assert [len(rows) for rows in tables] == [1, len(equal_compute.FAMILIES)]


@pytest.mark.parametrize("name", equal_compute.FAMILIES)
def test_a_family_composes(name: str, tmp_path: Path) -> None:
    result = condgen("train", *equal_compute.words_of(name, 1, "train.zip", []), "--cfg", "job", cwd=tmp_path)
    assert result.code == 0, result


def test_an_update_is_timed_and_counted_where_gradients_are_penalized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter of FLOP, as it is, ends at the first `torch.autograd.grad`."""
    for key in ("WARMUP", "TIMED", "COUNTED"):
        monkeypatch.setattr(equal_compute, key, 1)
    monkeypatch.setattr(equal_compute, "product_rate", lambda *of: 1e12)
    archive = write_zip(tmp_path / "train.zip", 32, 3, 10, 8)
    small = ["data.batch_size=4", "data.split=[0.5,0.25,0.25]", "trainer.precision=32-true", "model.regularizers.r1.every=1"]
    small += ["model.generator.network.width=4", "model.discriminator.width=4"]
    found = equal_compute.probe(equal_compute.words_of("r3gan", 1, str(archive), small), tmp_path)
    assert found["seconds_per_update"] > 0 and found["flop_per_update"] > 1e6
    assert (found["images_per_update"], found["precision"]) == (4, "32-true")
