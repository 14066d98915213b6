"""The suite as a whole: what it says of good, collapsed, copying and disobedient generators, and what it refuses."""

from dataclasses import replace

import pytest
import safetensors.torch
import torch

from condgen.errors import CondgenError
from condgen.metrics.catalogue import ELSEWHERE, JUDGED, LIKELIHOODS, METRICS, TEXT
from condgen.metrics.distances import FrechetDistance, kid
from condgen.metrics.features import Features
from condgen.metrics.floors import floors
from condgen.metrics.suite import PROBES, Known, measure

K, D, N = 10, 32, 500
CENTRES = torch.randn(K, D, generator=torch.Generator().manual_seed(0)) * 3
ALL = [name for name in METRICS if name not in JUDGED]


def images(count, seed, shown=None, spread=1.0):
    """Features of images that show the classes ``shown``, one cluster a class, recognized without a mistake."""
    shown = torch.arange(count) % K if shown is None else shown
    noise = torch.randn(count, D, generator=torch.Generator().manual_seed(seed)) * spread
    logits = torch.eye(K)[shown] * 12
    return Features(CENTRES[shown] + noise, logits, shown, shown)


def shuffled(labels, seed=0):
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


REFERENCE, TRAIN, GOOD = images(N, 1), images(3 * N, 2), images(N, 3)
KNOWN = Known.of(REFERENCE, TRAIN)


@pytest.fixture(scope="module")
def good():
    return measure(GOOD, REFERENCE, metrics=ALL, train=TRAIN, known=KNOWN)


def test_a_good_generator(good):
    figures = good.figures
    assert list(figures) == [
        name for name in ALL if name not in (*ELSEWHERE, *LIKELIHOODS, *TEXT) and not name.startswith("attribute")
    ]
    assert figures["label_accuracy"] == 1
    assert figures["fid"] < 0.1 * D  # of a squared distance of about 18 D between classes
    assert 9 < figures["is"] <= K  # splits of 50 images do not hold all classes equally often
    half = images(N, 4, shown=torch.arange(N) % 5)
    assert abs(figures["kid"]) < 0.05 * measure(half, REFERENCE, metrics=["kid"], known=KNOWN).figures["kid"]
    for name in ("precision", "recall", "coverage"):
        assert figures[name] > 0.5, name
    for name in ("density", "diversity", "diversity_worst", "nearest"):
        assert figures[name] == pytest.approx(1, abs=0.1), name


def test_single_figures_are_those_of_the_functions(good):
    assert good.figures["fid"] == float(FrechetDistance(REFERENCE.features)(GOOD.features))
    assert good.figures["kid"] == kid(REFERENCE.features, GOOD.features)[0]
    one = [float(FrechetDistance(REFERENCE.features[k::K])(GOOD.features[k::K])) for k in range(K)]
    assert good.per_class["intra_fid"] == pytest.approx(one)
    assert good.figures["intra_fid"] == pytest.approx(sum(one) / K)
    assert good.figures["intra_fid_worst"] == pytest.approx(max(one))
    assert good.figures["diversity"] == pytest.approx(sum(good.per_class["diversity"]) / K)
    assert good.figures["diversity_worst"] == min(good.per_class["diversity"])


def test_a_generator_that_ignores_its_condition_is_exposed(good):
    """The same images, asked for by other labels: FID sees nothing, label accuracy and intra-class FID everything."""
    ignoring = replace(GOOD, labels=shuffled(GOOD.labels))
    found = measure(ignoring, REFERENCE, metrics=ALL, known=KNOWN)
    for name in ("fid", "kid", "is", "precision", "recall", "density", "coverage"):
        assert found.figures[name] == good.figures[name], name
    assert found.figures["label_accuracy"] == pytest.approx(1 / K, abs=0.03)
    assert found.figures["intra_fid"] > 10 * good.figures["intra_fid"]
    assert found.figures["intra_fid_worst"] > found.figures["intra_fid"]
    assert found.figures["diversity"] > 2  # a class holds images of all classes
    assert sum(map(sum, found.confusion)) == N and found.confusion[0][0] < 15


def test_a_collapsed_class_is_seen():
    collapsed = replace(GOOD, features=torch.where((GOOD.labels == 3)[:, None], GOOD.features[3], GOOD.features))
    found = measure(collapsed, REFERENCE, metrics=["diversity", "diversity_worst", "intra_fid"], known=KNOWN)
    assert found.figures["diversity_worst"] == found.per_class["diversity"][3] < 0.01
    assert found.figures["diversity"] == pytest.approx(0.9, abs=0.03)
    assert max(found.per_class["intra_fid"]) == found.per_class["intra_fid"][3]


def test_copies_of_training_images_are_seen():
    found = measure(TRAIN[torch.arange(N)], REFERENCE, metrics=["nearest", "authenticity"], train=TRAIN, known=KNOWN)
    assert found.figures == {"nearest": 0, "authenticity": 0}


def test_nearest_looks_at_all_images_up_to_the_cap():
    far = replace(GOOD, features=GOOD.features + 100)
    mixed = Features(*(torch.cat(pair) for pair in zip(columns(GOOD), columns(far[torch.arange(N - 10)]), strict=True)))
    assert len(mixed) < PROBES
    found = measure(mixed, REFERENCE, metrics=["nearest"], train=TRAIN, known=KNOWN)
    assert found.figures["nearest"] < 5  # the median is still among the near half


def columns(some):
    return some.features, some.logits, some.labels, some.recognized


def test_confusion_counts_asked_for_by_recognized():
    reference = images(30, 4)
    labels, seen = torch.tensor([0, 0, 0, 1, 1, 9]), torch.tensor([0, 2, -1, 1, 1, -1])
    asked = replace(images(6, 5), labels=labels, recognized=seen)
    found = measure(asked, reference, metrics=["label_accuracy"])
    assert found.figures == {"label_accuracy": 0.5}
    assert found.confusion[0] == [1, 0, 1] + [0] * 7 + [1]
    assert found.confusion[1] == [0, 2] + [0] * 9
    assert found.confusion[9] == [0] * 10 + [1]
    assert found.per_class["label_accuracy"][:2] == pytest.approx([1 / 3, 1])
    assert all(value != value for value in found.per_class["label_accuracy"][2:9])


def test_a_class_with_too_few_images_is_left_out_of_the_mean(good):
    some = GOOD[(GOOD.labels != 4) | (torch.arange(N) == 4)]  # one image of class 4
    found = measure(some, REFERENCE, metrics=["intra_fid", "diversity", "diversity_worst"], known=KNOWN)
    for name in ("intra_fid", "diversity"):
        assert found.per_class[name][4] != found.per_class[name][4]
        rest = [value for k, value in enumerate(good.per_class[name]) if k != 4]
        assert found.figures[name] == pytest.approx(sum(rest) / 9)
    assert found.figures["diversity_worst"] == min(rest)


def test_what_does_not_apply_is_left_out():
    unconditional = replace(GOOD, labels=None)
    found = measure(unconditional, REFERENCE, metrics=ALL, known=KNOWN)
    assert list(found.figures) == ["fid", "is", "kid", "precision", "recall", "density", "coverage"]
    assert found.per_class == {} and found.confusion is None
    foreign = measure(replace(GOOD, recognized=None), REFERENCE, metrics=["label_accuracy", "diversity"], known=KNOWN)
    assert list(foreign.figures) == ["diversity"] and foreign.confusion is None
    unlabelled = replace(REFERENCE, labels=None)
    assert list(measure(GOOD, unlabelled, metrics=["label_accuracy", "intra_fid", "fid"]).figures) == ["fid"]


def test_only_what_was_asked_for_in_its_order():
    found = measure(GOOD, REFERENCE, metrics=["label_accuracy", "fid"], known=KNOWN)
    assert list(found.figures) == ["label_accuracy", "fid"] and list(found.per_class) == ["label_accuracy"]


def test_what_is_known_changes_nothing_and_can_be_stored(good):
    stored = safetensors.torch.load(safetensors.torch.save(KNOWN.tensors()))
    for known in (None, Known.of(REFERENCE), Known.from_tensors(stored)):
        found = measure(GOOD, REFERENCE, metrics=ALL, train=TRAIN, known=known)
        assert found == good


def test_a_reference_without_labels_or_with_a_rare_class_can_be_stored():
    rare = REFERENCE[(REFERENCE.labels != 4) | (torch.arange(N) == 4)]
    for reference in (rare, replace(REFERENCE, labels=None)):
        stored = Known.from_tensors(safetensors.torch.load(safetensors.torch.save(Known.of(reference).tensors())))
        wanted = ["intra_fid", "fid"]
        first = measure(GOOD, reference, metrics=wanted)
        assert measure(GOOD, reference, metrics=wanted, known=stored).figures == first.figures
        assert len(stored.classes) == (K if reference is rare else 0)


def test_seeds_decide_and_the_global_state_stays(good):
    torch.manual_seed(123)  # not where an earlier measurement could have left it
    state = torch.random.get_rng_state()
    again = measure(GOOD, REFERENCE, metrics=ALL, train=TRAIN, known=KNOWN)
    floors(TRAIN, REFERENCE, 500, metrics=["kid", "is"], known=KNOWN)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again == good
    noisy = replace(GOOD, logits=torch.randn(N, K, generator=torch.Generator().manual_seed(7)))
    assert len({measure(noisy, REFERENCE, metrics=["is"], known=KNOWN, seed=seed).figures["is"] for seed in (0, 0, 1)}) == 2


def test_refusals():
    with pytest.raises(CondgenError, match=r"no metric 'fidd'; there are fid, intra_fid"):
        measure(GOOD, REFERENCE, metrics=["fid", "fidd"], known=KNOWN)
    broken = replace(GOOD, features=GOOD.features.clone())
    broken.features[7] = float("nan")
    with pytest.raises(CondgenError, match=r"1 of 500 generated images .* NaN"):
        measure(broken, REFERENCE, metrics=["label_accuracy"], known=KNOWN)
    with pytest.raises(CondgenError, match=r"500 of 500 generated images .* NaN"):
        measure(replace(GOOD, logits=GOOD.logits / 0), REFERENCE, metrics=["is"], known=KNOWN)
    with pytest.raises(CondgenError, match="real images"):
        measure(GOOD, broken, metrics=["fid"])
    with pytest.raises(CondgenError, match=r"Class 10 was asked for.*0\.\.9"):
        measure(replace(GOOD, labels=GOOD.labels + 1), REFERENCE, metrics=["fid", "label_accuracy"], known=KNOWN)
    with pytest.raises(CondgenError, match="at least 6 images on each side, not 3"):
        measure(GOOD[torch.arange(3)], REFERENCE, metrics=["precision"], known=KNOWN)


def test_every_metric_is_described():
    for name, metric in METRICS.items():
        assert metric.title and metric.meaning.endswith("."), name
        assert format(1.5, metric.format)
