"""FID, KID and the inception score against torch-fidelity, scipy, and cases whose answer is known by hand."""

import logging

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from condgen.errors import CondgenError
from condgen.metrics.distances import FrechetDistance, InceptionScore, gaussian, kid, parts_of, warn_of_few
from condgen.metrics.features import Features
from condgen.metrics.suite import measure


def fid(real, generated):
    return float(FrechetDistance(real)(generated))


def inception_score(logits, splits=10, seed=0):
    metric = InceptionScore(logits.shape[1], splits)
    metric.update(logits, parts_of(len(logits), splits, seed))
    return float(metric.compute()), 0.0 if splits == 1 else float(metric.scores().std())


def features(count, dimensions, seed, shift=0.0):
    """ReLU features with correlations, some of them rare, as a classifier's are."""
    stream = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(99)) / dimensions**0.5
    scales = torch.logspace(0.5, -1.5, dimensions)
    return torch.relu(torch.randn(count, dimensions, generator=stream) * scales @ mixing + shift)


REAL, GENERATED = features(2000, 64, seed=1), features(1500, 64, seed=2, shift=0.1)

SINGULAR = {
    "full rank": features(1000, 32, seed=3),
    "dead units": torch.cat([features(1000, 32, seed=3), torch.zeros(1000, 40)], 1),
    "a unit twice": features(1000, 32, seed=3)[:, torch.arange(48) % 32],
    "few samples": features(100, 256, seed=4),
    "few samples, dead units, far from 0": torch.cat([features(100, 200, seed=4), torch.zeros(100, 56)], 1) + 50,
    "long tail": torch.randn(600, 300, generator=torch.Generator().manual_seed(5)) * torch.logspace(1, -6, 300),
}


def test_fid_is_torch_fidelitys():
    statistics = [fid_features_to_statistics(x) for x in (REAL, GENERATED)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert fid(REAL, GENERATED) == pytest.approx(expected, rel=1e-4)


def test_fid_is_the_formula_in_float64():
    (m, s), (n, t) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (REAL.double().numpy(), GENERATED.double().numpy()))
    expected = ((m - n) ** 2).sum() + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)
    assert fid(REAL, GENERATED) == pytest.approx(expected, rel=1e-8)


def test_fid_is_torchmetrics_in_float64():
    identity = nn.Identity()
    identity.num_features = 64
    metric = FrechetInceptionDistance(identity).set_dtype(torch.float64)
    metric.update(REAL.double(), real=True)
    metric.update(GENERATED.double(), real=False)
    assert fid(REAL, GENERATED) == pytest.approx(float(metric.compute()), rel=1e-6)


@pytest.mark.parametrize("x", SINGULAR.values(), ids=SINGULAR)
def test_fid_of_a_set_against_itself_is_zero(x):
    trace = float(x.double().var(0).sum())
    assert abs(fid(x, x.clone())) < 1e-6 * trace
    shuffled = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]  # the same Gaussian by another root
    assert abs(fid(x, shuffled)) < 1e-6 * trace


@pytest.mark.parametrize("x", SINGULAR.values(), ids=SINGULAR)
def test_fid_of_a_scaled_and_shifted_set(x):
    """A Gaussian scaled by s about its mean and shifted by v is |v|² + (1 - s)² tr S away, however singular S is."""
    x = x.double()
    y = x.mean(0) + 1.5 * (x - x.mean(0)) + 0.25
    expected = 0.25**2 * x.shape[1] + 0.25 * float(x.var(0).sum())
    assert fid(x, y) == pytest.approx(expected, rel=1e-6)


def test_fid_is_symmetric_also_between_long_and_short_sets():
    short = features(30, 64, seed=6)
    assert fid(REAL, short) == pytest.approx(fid(short, REAL), rel=1e-9)


def test_a_gaussian_holds_mean_and_covariance():
    for x in (REAL, REAL[:20]):
        one = gaussian(x)
        torch.testing.assert_close(one.mean, x.double().mean(0))
        torch.testing.assert_close(one.root.T @ one.root, x.double().T.cov())


def test_few_samples_are_told_once(caplog):
    warn_of_few.cache_clear()
    with caplog.at_level(logging.WARNING, "condgen"):
        for _ in range(2):
            for generated in (GENERATED[:40], GENERATED):
                measure(*(Features(side, side) for side in (generated, REAL)), metrics=["fid"])
    (message,) = caplog.messages
    assert "2000 real" in message and "40 generated" in message and "64 features" in message


def test_one_image_is_too_few():
    for metric in (fid, kid):
        with pytest.raises(CondgenError, match="at least 2 images"):
            metric(REAL, GENERATED[:1])


def test_classes_of_one_image_have_no_distance():
    metric = FrechetDistance(REAL[:3], torch.tensor([0, 1, 2]))
    metric.update(GENERATED[:9], torch.arange(9) % 3)
    assert metric.distances().isnan().all()


def test_kid_of_everything_is_torch_fidelitys():
    real, generated = REAL[:1500], GENERATED
    expected = kid_features_to_metric(real, generated, kid_subsets=1, kid_subset_size=1500, verbose=False)
    mean, deviation = kid(real, generated, subsets=1, subset_size=1500)
    assert mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-3)
    assert mean > 1e-3 and deviation == 0


def test_kid_over_subsets_is_unbiased_and_has_a_spread():
    whole, _ = kid(REAL[:1500], GENERATED, subsets=1, subset_size=1500)
    mean, deviation = kid(REAL, GENERATED, subsets=50, subset_size=300)
    assert 0 < deviation < mean
    assert mean == pytest.approx(whole, abs=4 * deviation / 50**0.5)
    assert abs(kid(REAL[:1000], REAL[1000:], subsets=20, subset_size=500)[0]) < 0.05 * whole


def test_kid_subsets_are_capped_at_the_smaller_set():
    assert kid(REAL, GENERATED[:50], subsets=3) == kid(REAL, GENERATED[:50], subsets=3, subset_size=50)


def test_kid_subsets_of_everything_are_drawn_once():
    assert kid(REAL[:90], GENERATED[:90], subsets=10**9) == kid(REAL[:90], GENERATED[:90], subsets=1)


def test_inception_score_of_one_split_is_torch_fidelitys():
    logits = torch.randn(1000, 10, generator=torch.Generator().manual_seed(7)) * 4
    mean, deviation = inception_score(logits, splits=1)
    assert mean == pytest.approx(isc_features_to_metric(logits, splits=1)["inception_score_mean"], rel=1e-6)
    assert deviation == 0


def test_inception_score_of_ten_splits():
    logits = torch.randn(1000, 10, generator=torch.Generator().manual_seed(7)) * 4
    mean, deviation = inception_score(logits)
    expected = isc_features_to_metric(logits, splits=10)  # other splits
    assert mean == pytest.approx(expected["inception_score_mean"], abs=4 * deviation / 10**0.5)
    assert deviation == pytest.approx(expected["inception_score_std"], rel=1)


def test_inception_score_of_sure_and_of_clueless_classifiers():
    sure = torch.eye(10)[torch.arange(500) % 10] * 300
    assert inception_score(sure, splits=1)[0] == pytest.approx(10)
    assert inception_score(sure[:, :5].repeat(1, 2)[::10], splits=1)[0] == pytest.approx(1)  # always the same answer
    assert inception_score(torch.zeros(500, 10), splits=1)[0] == pytest.approx(1)
    assert inception_score(torch.eye(10)[torch.zeros(50, dtype=torch.long)] * 300)[0] == pytest.approx(1)  # others never occur


@pytest.mark.parametrize("score", [lambda seed: kid(REAL, GENERATED, 5, 100, seed), lambda s: inception_score(REAL, 5, s)])
def test_seeds_decide_and_the_global_state_stays(score):
    state = torch.random.get_rng_state()
    first = score(1)
    torch.rand(3)
    assert score(1) == first != score(2)
    torch.random.set_rng_state(state)
    score(3)
    assert torch.equal(torch.random.get_rng_state(), state)
