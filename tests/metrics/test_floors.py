"""What perfect looks like: of images that the extractor has not seen, brought to the samples' number where they are fewer."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from condgen.data import DataModule
from condgen.data.sources import MNIST
from condgen.metrics.catalogue import METRICS
from condgen.metrics.distances import FrechetDistance
from condgen.metrics.extractors import Shipped
from condgen.metrics.features import Features
from condgen.metrics.floors import DRAWS, FEWEST, floors, halves, most_alike, stratified, unseen_part
from condgen.metrics.suite import Known, measure
from condgen.randomness import generator

K, D = 5, 16
CENTRES = torch.randn(K, D, generator=torch.Generator().manual_seed(0)) * 2
WANTED = ["fid", "intra_fid", "is", "kid", "precision", "recall", "density", "coverage", "label_accuracy", "diversity"]


def images(count, seed, shown=None):
    """Features of images from K overlapping classes, recognized by the nearest centre."""
    shown = torch.arange(count) % K if shown is None else shown
    features = CENTRES[shown] + torch.randn(len(shown), D, generator=generator("floors", seed)) * 2
    logits = -torch.cdist(features, CENTRES)
    return Features(features, logits, shown, logits.argmax(1))


REFERENCE, UNSEEN, MANY = images(1000, 1), images(500, 2), images(5000, 3)


def perfect(count, metrics, reference=REFERENCE):
    """Figures of ``count`` new images, mean of four sets: the truth that a floor estimates."""
    known = Known.of(reference)
    sets = [measure(images(count, 100 + i), reference, metrics=metrics, known=known).figures for i in range(4)]
    return {name: sum(one[name] for one in sets) / len(sets) for name in sets[0]}


def test_with_enough_unseen_images_the_floor_is_the_mean_over_draws():
    found = floors(MANY, REFERENCE, 500, metrics=["fid", "coverage", "nearest"], seed=5)
    rows = [stratified(MANY, REFERENCE, 500, (5, "floor", draw)) for draw in range(DRAWS)]
    draws = [measure(MANY[one], REFERENCE, metrics=["fid", "coverage"]).figures for one in rows]
    for name in ("fid", "coverage"):
        assert found[name] == pytest.approx(sum(draw[name] for draw in draws) / DRAWS)
    assert len({draw["fid"] for draw in draws}) == DRAWS and found["nearest"] == 1
    assert found == floors(MANY, REFERENCE, 500, metrics=["fid", "coverage", "nearest"], seed=5, known=Known.of(REFERENCE))
    assert found["fid"] != floors(MANY, REFERENCE, 500, metrics=["fid"], seed=6)["fid"]


def test_with_fewer_unseen_images_than_samples_the_floor_is_that_of_as_many():
    """500 unseen images tell what 2,000 would get, within the spread of FIDs; as they are, FID is half more."""
    truth = perfect(2000, WANTED)
    found = floors(UNSEEN, REFERENCE, 2000, metrics=WANTED)
    assert float(FrechetDistance(REFERENCE.features)(UNSEEN.features)) > 1.5 * truth["fid"]
    near = {"fid": 0.25, "intra_fid": 0.25, "is": 0.06, "recall": 0.03, "coverage": 0.01, "precision": 0.03, "density": 0.05}
    for name, tolerance in near.items():
        assert found[name] == pytest.approx(truth[name], rel=tolerance), name
    assert found["label_accuracy"] == pytest.approx(truth["label_accuracy"], abs=0.03)
    assert found["diversity"] == pytest.approx(1, abs=0.05)


def test_halves_of_the_reference_stand_for_each_other_where_nothing_else_is_unseen():
    """The reference of a half is a half: FID of the whole is found all the same, of fewer samples and of as many."""
    for count in (250, 1000):
        truth = perfect(count, ["fid", "is", "coverage"])
        found = floors(None, REFERENCE, count, metrics=["fid", "is", "coverage"])
        assert found["fid"] == pytest.approx(truth["fid"], rel=0.3)
        assert found["is"] == pytest.approx(truth["is"], rel=0.06) and found["coverage"] == pytest.approx(
            truth["coverage"], abs=0.02
        )
    (one, other), swapped = halves(REFERENCE, 0)
    assert len(one) == len(other) == 500 and swapped == (other, one)
    assert torch.bincount(one.labels).tolist() == [100] * K


def test_draws_keep_the_references_proportions_and_repeat_nothing():
    uneven = images(100, 6, shown=torch.tensor([0] * 55 + [1] * 35 + [2] * 10))
    rows = stratified(UNSEEN, uneven, 50, (0,))
    assert torch.bincount(UNSEEN.labels[rows]).tolist() in ([28, 17, 5], [27, 18, 5]) and len(rows.unique()) == 50
    assert most_alike(UNSEEN, uneven) == 500  # 181 would be alike: most would be left out
    assert most_alike(UNSEEN[torch.arange(490)], REFERENCE) == 490
    assert most_alike(UNSEEN[(UNSEEN.labels != 3) | (torch.arange(500) < 450)], REFERENCE) == 450
    scarce = stratified(UNSEEN[torch.arange(40)], uneven, 40, (0,))  # 8 images of each class
    assert torch.bincount(scarce).max() == 1 and len(scarce) == 8 + 8 + 4
    assert len(stratified(replace(UNSEEN, labels=None), uneven, 50, (0,)).unique()) == 50


def test_too_few_unseen_images_are_no_floor():
    few = UNSEEN[torch.arange(FEWEST - 1)]
    assert floors(few, REFERENCE, 100, metrics=["fid", "nearest"]) == {"nearest": 1.0}
    tiny = floors(UNSEEN[torch.arange(FEWEST)], REFERENCE, 1000, metrics=["fid", "precision", "coverage"])
    assert tiny.keys() == {"fid", "precision", "coverage"}
    lacking = UNSEEN[UNSEEN.labels != 2]
    assert floors(lacking, REFERENCE, 100, metrics=["intra_fid"])["intra_fid"] > 0  # of the other classes


def test_the_extractors_card_decides_whether_validation_images_are_unseen():
    data = DataModule(MNIST(), lambda **known: None, split=5000)
    data.__dict__["_prepared"] = SimpleNamespace(val="its val", test="its test")
    shipped = Shipped("mnist-cnn")
    assert unseen_part(shipped, data, "test") == ("its val", "validation images")
    assert unseen_part(shipped, data, "val") == ("its test", "test images")
    halved = (None, "halves of the test images")
    assert unseen_part(Shipped("cifar10-resnet"), data, "test") == halved  # knows nothing of these data
    assert unseen_part(Shipped("mnist-attributes"), data, "test") == halved  # learned from other combinations
    for name, value in (("split", 6000), ("split_seed", 1), ("classes", ["3", "7"])):
        other = DataModule(MNIST(), lambda **known: None, **({"split": 5000} | {name: value}))
        other.__dict__["_prepared"] = data.__dict__["_prepared"]
        assert unseen_part(shipped, other, "test") == halved, name
    data.__dict__["_prepared"] = SimpleNamespace(val="its val", test=None)
    assert unseen_part(shipped, data, "val") == (None, "halves of the validation images")


def test_biases_are_those_that_floors_know():
    assert {metric.bias for metric in METRICS.values()} == {"none", "samples", "samples and real", "logarithm", "ratio"}
