"""Neighbours in feature space against the published definitions, by brute force in float64."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from torch_fidelity.metric_prc import prc_features_to_metric

from condgen.metrics import manifold as module
from condgen.metrics.manifold import Manifold, manifold, nearest, radii, spreads


def gaussians(count, seed, dimensions=24, shift=0.0, scale=1.0):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed)) * scale + shift


REAL, GENERATED = gaussians(700, 1), gaussians(500, 2, shift=0.25, scale=0.9)


@pytest.fixture(params=[2**23, 5000], ids=["one block", "many blocks"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", request.param)


def by_definition(real, generated):
    """Kynkäänniemi et al., equations 1 and 2 (k = 3); Naeem et al., equations 2 and 3 (k = 5)."""
    real, generated = real.double().numpy(), generated.double().numpy()
    between, across = cdist(generated, real), cdist(real, generated)  # (M, N), (N, M)
    near, wide = np.sort(cdist(real, real), 1)[:, [3, 5]].T  # column 0 is the sample itself
    reach = np.sort(cdist(generated, generated), 1)[:, 3]
    return Manifold(
        precision=(between <= near).any(1).mean(),
        recall=(across <= reach).any(1).mean(),
        density=(between <= wide).sum() / (5 * len(generated)),
        coverage=(between.min(0) <= wide).mean(),
    )


SETS = {
    "overlapping": (REAL, GENERATED),
    "more generated": (GENERATED, REAL),
    "far from 0": (REAL + 1000, GENERATED + 1000),
    "narrow": (REAL, gaussians(300, 3, scale=0.3)),
    "wide": (REAL, gaussians(300, 3, scale=2)),
    "few": (REAL[:6], GENERATED[:7]),
}


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize(("real", "generated"), SETS.values(), ids=SETS)
def test_the_four_are_as_published(real, generated):
    assert manifold(real, generated) == pytest.approx(by_definition(real, generated), abs=1e-9)


def test_the_cases_are_not_trivial():
    for real, generated in SETS.values():
        found = by_definition(real, generated)
        assert len(set(found)) > 1, found
    assert by_definition(*SETS["narrow"]).precision > 0.9 > 0.1 > by_definition(*SETS["narrow"]).recall


def test_precision_and_recall_are_torch_fidelitys():
    expected = prc_features_to_metric(
        GENERATED, REAL, prc_neighborhood=3, prc_batch_size=10000, save_cpu_ram=False, verbose=False
    )
    found = manifold(REAL, GENERATED)
    assert (found.precision, found.recall) == pytest.approx((expected["precision"], expected["recall"]), abs=1e-6)


def test_known_radii_change_nothing_and_are_used():
    assert manifold(REAL, GENERATED, radii(REAL)) == manifold(REAL, GENERATED)
    assert manifold(REAL, GENERATED, radii(REAL) * 0).precision == 0


@pytest.mark.usefixtures("_blocks")
def test_radii_are_squared_distances_to_the_third_and_fifth_other():
    expected = np.sort(cdist(REAL.double(), REAL.double()), 1)[:, [3, 5]] ** 2
    np.testing.assert_allclose(radii(REAL), expected, rtol=1e-5)


def test_a_copy_of_the_real_images_and_a_single_image():
    assert manifold(REAL, REAL.clone())[:2] == (1, 1)
    collapsed = manifold(REAL, GENERATED[:1].repeat(500, 1))
    assert collapsed.recall == 0 and collapsed.coverage < 0.05


@pytest.mark.usefixtures("_blocks")
def test_spreads_are_mean_distances_of_pairs():
    labels = torch.arange(700) % 3
    labels[-1] = 4  # class 3 has no sample, class 4 one
    found = spreads(REAL + 1000, labels, 5)
    expected = [pdist((REAL + 1000)[labels == k].double()).mean() for k in range(3)]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-6)
    assert found[3:].isnan().all()


def test_a_collapsed_class_has_no_spread():
    labels = torch.zeros(50, dtype=torch.long)
    assert float(spreads(REAL[:1].repeat(50, 1) + 100, labels, 1)) < 1e-3 * float(spreads(REAL[:50], labels, 1))


@pytest.mark.usefixtures("_blocks")
def test_nearest_training_images():
    expected = cdist(GENERATED.double(), REAL.double())
    distances, rows = nearest(GENERATED, REAL)
    np.testing.assert_array_equal(rows, expected.argmin(1))
    np.testing.assert_allclose(distances, expected.min(1), rtol=1e-6)


def test_copies_are_at_distance_zero():
    order = torch.randperm(700, generator=torch.Generator().manual_seed(0))[:100]
    distances, rows = nearest(REAL[order] + 1000, REAL + 1000)
    assert torch.equal(rows, order) and float(distances.max()) == 0
