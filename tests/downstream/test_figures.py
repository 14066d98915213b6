"""Figures of classifiers against independent references, and what chooses and mixes."""

import math
import statistics

import pytest
import torch
from scipy import stats
from torchmetrics.classification import MulticlassCalibrationError, MulticlassRecall

from condgen.data.tables import Part, Table
from condgen.downstream.figures import estimate, figures
from condgen.downstream.methods import METHODS, Training, filled, fitted
from condgen.downstream.outcome import Outcome, Result
from condgen.downstream.selection import Selection, known_images
from condgen.downstream.training import Budget, draws, features_of, logits_of, make_network
from condgen.nets.classifier import Classifier

STREAM = torch.Generator().manual_seed(0)


def test_figures_are_those_of_torchmetrics():
    logits, labels = torch.randn(200, 5, generator=STREAM) * 3, torch.randint(0, 5, (200,), generator=STREAM)
    found = figures(logits, labels)
    assert found.balanced_accuracy == pytest.approx(float(MulticlassRecall(5)(logits, labels)), abs=1e-6)
    assert found.recall == pytest.approx(MulticlassRecall(5, average=None)(logits, labels).tolist(), abs=1e-6)
    assert found.ece == pytest.approx(float(MulticlassCalibrationError(5, n_bins=15)(logits.softmax(1), labels)), abs=1e-5)


@pytest.mark.parametrize("count", [2, 5, 12, 31, 60])
def test_intervals_are_students(count):
    values = torch.randn(count, generator=STREAM).tolist()
    low, high = stats.t.interval(0.95, count - 1, statistics.fmean(values), stats.sem(values))
    found = estimate(values)
    assert (found.low, found.high) == pytest.approx((low, high), rel=2e-3, abs=2e-3)
    assert math.isnan(estimate([1.0]).low)


def result(name, accuracies, chosen_by):
    return Result(name, 0.5 if METHODS[name].added else None, chosen_by, [figures_of(value) for value in accuracies])


def figures_of(value):
    return figures(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])).__class__(value, value, [value, value], 0.1)


@pytest.mark.parametrize(
    "generated, words",
    [
        ([0.92, 0.93, 0.94], "beat the best baseline, and hardly by chance: 2.00 ± 0.00 points"),
        ([0.93, 0.90, 0.92], "did not beat the best baseline by more than chance"),
        ([0.88, 0.89, 0.90], "did not help, and lost by more than chance: -2.00 ± 0.00 points"),
    ],
)
def test_the_sentence_compares_what_validation_chose_paired_by_seed(generated, words):
    results = [
        result("real", [0.99, 0.99, 0.99], 0.5),  # better on test images alone, which choose nothing
        result("oversampling", [0.90, 0.91, 0.92], 0.9),
        result("generated", generated, 0.9),
    ]
    sentence = Outcome(results, ["a", "b"], [9, 1], [1]).sentence()
    assert words in sentence and "real + generated (to 0.5) against oversampling" in sentence


def toy(count=(40, 6)):
    labels = torch.tensor([0] * count[0] + [1] * count[1])
    images = (torch.rand(len(labels), 1, 12, 12, generator=STREAM) * 60 + 120 * labels[:, None, None, None]).byte()
    return images, labels


def training(updates=40):
    def make(space, classes):
        return Classifier(space, classes, (8, 8))

    return Training(*toy(), 2, make, None, Budget(updates, 8, 1e-2))


@pytest.mark.parametrize("name", ["real", "class_weights", "oversampling", "feature_mixing", "generated", "generated_alone"])
def test_each_method_learns_two_easy_classes(name):
    given, made = training(), toy((30, 30))
    network = fitted(METHODS[name], given, made, 1.0, 3, "cpu")
    images, labels = toy((20, 20))
    assert figures(logits_of(network, images), labels).balanced_accuracy > 0.9


def test_a_method_repeats_to_the_bit():
    given, made = training(updates=4), toy((30, 30))
    first, second = (fitted(METHODS["generated"], given, made, 1.0, 3, "cpu").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_generated_images_fill_up_to_the_share_and_no_further():
    given, made = training(), toy((30, 30))
    images, labels = filled(given, made, 0.5)
    assert torch.bincount(labels).tolist() == [40, 20] and torch.equal(images[:46], given.images)


def test_draws_are_as_many_as_asked_for_and_even_where_balanced():
    labels = toy()[1]
    assert torch.bincount(labels[draws(labels, 184, 1.0, 0)]).tolist() == [92, 92]


def test_features_and_the_factor_behind_them_give_the_logits():
    given = training()
    network = make_network(given.network, given.images, 2, 0).eval()
    features, factor = features_of(network, given.images)
    torch.testing.assert_close(factor * network[-1](features), logits_of(network, given.images))
    assert factor == pytest.approx(1 / 9)


def test_copies_are_left_out_and_the_surest_are_taken():
    images, labels = toy()
    train, val = Part(Table(images, labels), torch.arange(40)), Part(Table(*toy()), torch.arange(40))
    known = known_images(train, val)
    candidates = torch.cat([images[:3], toy((5, 0))[0]])
    chosen, told = Selection(None, None, known)(candidates, 0, 8)
    assert not {0, 1, 2} & set(chosen.tolist()) and all(float(one["nearest"]) >= 1 for one in told)
    judge = fitted(METHODS["oversampling"], training(), None, None, 0, "cpu")
    mixed = torch.cat([toy((4, 0))[0], toy((0, 4))[0]])
    chosen, told = Selection(0.5, judge, None)(mixed, 1, 4)
    assert chosen.tolist() == [4, 5, 6, 7] and all(float(one["confidence"]) > 0.5 for one in told)
