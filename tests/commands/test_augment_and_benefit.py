"""``condgen data``, ``condgen augment`` and ``condgen benefit`` on few digits of MNIST, by a model that has learned little."""

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import TINY, Result, condgen, only_run
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder

from condgen import augmented
from condgen.data.sources import ImageArchive, ImageFolder
from condgen.downstream import pieces
from condgen.downstream.training import Budget
from condgen.files import hold
from condgen.generators.base import Generator

RARE = "data.imbalance={0: 40, 1: 30, 2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 4, 8: 4, 9: 4}"
SPLIT = "data.split=[0.989,0.006,0.005]"
"""Few validation and test images: every classifier looks at them."""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The directory of a GAN of rare digits; not to be changed."""
    root = tmp_path_factory.mktemp("rare")
    choices = ("experiment=none", "model=cgan_mlp", *TINY, "trainer.max_epochs=1", RARE, SPLIT)
    assert (result := condgen("train", *choices, cwd=root)).code == 0, result
    return only_run(root)


def test_data_shows_counts_and_pictures(run_condgen: Callable[..., Result], tmp_path):
    result = run_condgen("data", "mnist", RARE, SPLIT, "--augment", "rotate_crop", "--out", "look")
    assert result.code == 0, result
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[2][:2] == ["0", "40"] and rows[12][:3] == ["in", "all", "102"] and "Each is 1x28x28" in result.out
    for name in ("images", "augmented"):
        assert Image.open(tmp_path / "look" / f"{name}.png").size[0] > 12 * 28


def test_a_balanced_folder_is_read_by_condgen_and_torchvision(run, run_condgen, tmp_path):
    result = run_condgen("augment", run, "--balance", "--out", "more")
    assert "102 real and 298 generated training images" in result.out, result
    tables = ImageFolder(tmp_path / "more").load()
    assert torch.bincount(tables.train.labels).tolist() == [40] * 10 and len(tables.test) == 350
    seen = TorchvisionFolder(str(tmp_path / "more" / "train"))
    assert len(seen) == 400 and seen.classes == [str(digit) for digit in range(10)]
    rows = list(csv.DictReader((tmp_path / "more" / "table.csv").open()))
    made = [row for row in rows if row["source"] == "generated"]
    assert len(rows) == 750 and len(made) == 298 and {row["part"] for row in made} == {"train"}
    assert len({row["weights"] for row in made}) == 1 and len(made[0]["weights"]) == 64
    told = run_condgen("inspect", tmp_path / "more" / made[-1]["file"], "--model", run)
    assert told.code == 0 and made[-1]["weights"][:8] in told.out, told
    assert not list(tmp_path.glob(".*unfinished"))


def test_a_zip_with_the_surest_and_no_copies(run, run_condgen, tmp_path, monkeypatch):
    monkeypatch.setattr(augmented, "JUDGE", Budget(3, 8, 1e-3))
    result = run_condgen("augment", run, "--count", "8=20,9=10", "--keep", "0.5", "--no-copies", "--out", "more.zip")
    assert "102 real and 30 generated" in result.out and "more-test.zip" in result.out, result
    tables = ImageArchive(tmp_path / "more.zip", tmp_path / "more-test.zip").load()
    assert torch.bincount(tables.train.labels).tolist()[7:] == [4, 24, 14] and len(tables.test) == 350
    with zipfile.ZipFile(tmp_path / "more.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("table.csv").decode())))
    made = [row for row in rows if row["source"] == "generated"]
    assert len(made) == 30 and all(float(row["nearest"]) >= 1 and 0 <= float(row["confidence"]) <= 1 for row in made)


def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(run, tmp_path, monkeypatch):
    asked = ("augment", run, "--count", "300", "--condition", "7,8")
    assert condgen(*asked, "--out", "whole", cwd=tmp_path).code == 0
    calls = []
    write = pieces.write_json

    def killed(path, value):
        calls.append(path)
        if path.name == "generated-8-0.json":
            raise KeyboardInterrupt
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "write_json", killed)
        assert condgen(*asked, "--out", "cut", cwd=tmp_path).code == 130
    assert not (tmp_path / "cut").exists() and (tmp_path / ".cut.unfinished").is_dir()
    assert "was begun for something else" in condgen(*asked, "--out", "cut", "--seed", 1, cwd=tmp_path).sentence()
    held = hold(tmp_path / ".cut.unfinished", "free")
    assert "is being written by another condgen augment" in condgen(*asked, "--out", "cut", cwd=tmp_path).sentence()
    os.close(held)
    with monkeypatch.context() as patch:
        drawn, draw = [], Generator.sample_block
        patch.setattr(Generator, "sample_block", lambda self, i, *rest: (drawn.append(i), draw(self, i, *rest))[1])
        assert condgen(*asked, "--out", "cut", cwd=tmp_path).code == 0
        assert drawn == [0, 1]  # class 7 was finished
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    assert len(files) == 1 + 102 + 350 + 600
    assert all((tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes() for file in files)


def test_benefit_writes_table_chart_and_sentence_and_goes_on(run, run_condgen, tmp_path):
    small = ("seeds=2", "updates=3", "batch_size=8", "network.widths=[8,8]", "shares=[0.5,1.0]")
    first = run_condgen("benefit", run, "--generator", run, *small, "methods=[real,generated]", "--out", "b")
    assert first.code == 0, first
    found = json.loads((tmp_path / "b" / "benefit.json").read_text())
    assert list(found["methods"]) == ["real", "generated"] and found["counts"] == [40, 30] + [4] * 8
    assert found["rare"] == [str(digit) for digit in range(2, 10)] and found["methods"]["generated"]["share"] in (0.5, 1.0)
    assert "over 2 seeds (95 % interval, paired)" in found["sentence"] and found["sentence"] in first.out
    assert "recall of 9 (4 real)" in (tmp_path / "b" / "benefit.md").read_text()
    assert Image.open(tmp_path / "b" / "benefit.png").size[0] > 800 and not (tmp_path / "b" / "trials").exists()
    again = run_condgen("benefit", run, "--generator", run, *small, "methods=[real,generated]", "--out", "c")
    assert json.loads((tmp_path / "c" / "benefit.json").read_text()) == found and again.code == 0


@pytest.mark.slow
def test_benefit_trains_every_method(run, run_condgen):
    small = ("seeds=1", "updates=4", "batch_size=8", "network.widths=[8,8]", "shares=[0.5]")
    result = run_condgen("benefit", run, "--generator", run, *small)
    assert result.code == 0 and "One seed cannot tell chance from gain" in result.out, result
    assert result.out.count("\n| ") >= 9


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["benefit", "mnits", "--generator", "RUN"], "mnits is no data: choose archive, "),
        (["benefit", "mnist", "--generator", "RUN"], "was not trained on these training images (data.imbalance is {"),
        (["benefit", "RUN", "--generator", "RUN", "methods=[reel]"], "methods=reel does not exist: there are real, "),
        (["benefit", "RUN", "--generator", "RUN", "augment=none"], "augment=none leaves the standard augmentation out"),
        (["benefit", "RUN", "--generator", "RUN", "updates=0"], "updates must be a whole number of at least 1"),
        (["benefit", "RUN", "--generator", "RUN", "shares=[2]"], "shares"),
        (["benefit", "RUN", "--generator", "RUN", "network.widths=[]"], "network.widths must be"),
        (["augment", "RUN", "--out", "x"], "Say how many images to generate: --balance, --count 500"),
        (["augment", "RUN", "--out", "x", "--balance", "--count", "5"], "Say how many images to generate"),
        (["augment", "RUN", "--out", "x", "--count", "12=5"], "--count: this data set has no class '12'"),
        (["augment", "RUN", "--out", "x", "--count", "1=many"], "--count 1=many must be a number such as 500"),
        (["augment", "RUN", "--out", "x", "--count", "1=5", "--condition", "1"], "names classes already"),
        (["augment", "RUN", "--out", "x", "--balance", "--condition", "0"], "There is nothing to generate"),
        (["augment", "RUN", "--out", "x", "--balance", "--keep", "1.5"], "--keep 1.5 must be above 0 and at most 1"),
        (["augment", "RUN", "--out", "x.png", "--balance"], "--out x.png must be a new folder, or a .zip"),
        (["augment", "RUN", "--out", "RUN", "--balance"], "exists already: choose another, nothing was overwritten"),
        (["augment", "zoo:mnist-inpaint", "--out", "x", "--balance"], "must make images of classes"),
        (["data", "mnist", "--augment", "flop"], "augment=flop does not exist"),
        (["data", "mnist", "--augment", "flip", "--augment", "affine"], "--augment flip is a choice and stands alone"),
        (["data", "ring", "--out", "x"], "--out is for images, and these samples are none"),
        (["data", "nothing.zip"], "nothing.zip is no data"),
    ],
)
def test_mistakes_are_told_in_a_sentence(run, run_condgen, arguments, words):
    result = run_condgen(*[run if argument == "RUN" else argument for argument in arguments])
    assert words in result.sentence()
