"""Which training images an imbalance keeps, and how batches even classes out."""

import pytest
import torch
from command import TINY, condgen, only_run

from condgen.data.imbalance import balanced_order, kept_counts
from condgen.errors import CondgenError
from condgen.randomness import generator

SIZES = torch.tensor([600, 500, 700])
CLASSES = ["ant", "bee", "cat"]


def test_a_long_tail_has_its_ratio():
    assert kept_counts("longtail:100", CLASSES, SIZES) == {0: 500, 1: 50, 2: 5}
    assert kept_counts("longtail:4:40", CLASSES, SIZES) == {0: 40, 1: 20, 2: 10}


def test_single_classes_keep_a_fraction_or_a_number():
    assert kept_counts({"bee": 0.5, 2: 20}, CLASSES, SIZES) == {1: 250, 2: 20}
    assert kept_counts({0: 1, 1: 0.0001}, CLASSES, SIZES) == {0: 600, 1: 1}
    assert kept_counts(None, CLASSES, SIZES) == {}


@pytest.mark.parametrize(
    "imbalance, words",
    [
        ("longtail", "is none: write longtail:100"),
        ("longtail:0.5", "is none: write longtail:100"),
        ("longtail:100:20", "leaves no image of the last class: 20 / 100 is less than one"),
        ("longtail:10:800", "keeps 800 training images of class ant, which has 600: keep fewer"),
        ({"bee": 501}, "keeps 501 training images of class bee, which has 500"),
    ],
)
def test_what_cannot_be_kept_is_told(imbalance, words):
    with pytest.raises(CondgenError, match=words):
        kept_counts(imbalance, CLASSES, SIZES)


def test_a_balanced_order_draws_every_class_alike_and_repeats_late():
    labels = torch.tensor([0] * 60 + [1] * 25 + [2] * 5)
    order = balanced_order(labels, 1.0, generator(0))
    assert torch.bincount(labels[order]).tolist() == [30, 30, 30]
    times = torch.bincount(order, minlength=90)
    assert times[:60].max() == 1 and set(times[60:85].tolist()) == {1, 2} and set(times[85:].tolist()) == {6}
    assert torch.equal(order, balanced_order(labels, 1.0, generator(0)))
    assert balanced_order(labels, 0.0, generator(0)).sort()[0].tolist() == list(range(90))
    tempered = torch.bincount(labels[balanced_order(labels, 0.5, generator(0))]).double()
    expected = torch.tensor([60.0, 25.0, 5.0]).sqrt()
    torch.testing.assert_close(tempered / 90, (expected / expected.sum()).double(), atol=0.012, rtol=0)


def test_a_run_says_what_it_has_of_each_class(tmp_path):
    kept = ("data.imbalance=longtail:100:1000", "data.balance=1", "trainer.max_epochs=1")
    result = condgen("train", "experiment=none", "model=cgan_mlp", *TINY, *kept, cwd=tmp_path)
    assert result.code == 0, result
    run = only_run(tmp_path)
    said = "kept by data.imbalance=longtail:100:1000: 0 1,000, 1 599, 2 359"
    assert said in result.err and said in (run / "train.log").read_text() and "9 10; drawn with data.balance=1." in result.err
    assert "imbalance: longtail:100:1000" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["data.imbalance=[1]"], "data.imbalance must be longtail:RATIO such as longtail:100, or"),
        (["data.imbalance={1: 1.5}"], "data.imbalance must be longtail:RATIO"),
        (["data.imbalance=longtail:0"], "data.imbalance=longtail:0 is none"),
        (["data.balance=2"], "data.balance must be a number"),
        (["data=ring", "condition=none", "model=gan_points", "data.imbalance={9: 20}"], "no class '9'"),
    ],
)
def test_what_cannot_be_is_refused_by_a_run(run_condgen, arguments, words):
    assert words in run_condgen("train", "experiment=none", "model=cgan_mlp", *TINY, *arguments).sentence()
