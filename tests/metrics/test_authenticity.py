"""Authenticity, against its definition written out; found out: copies, a share of copies, copies with noise."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from condgen.metrics.authenticity import authenticity, nearest_other

TRAIN = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
NEW = torch.randn(300, 8, generator=torch.Generator().manual_seed(1))


def by_definition(samples, train):
    """Alaa et al. 2022: a sample is authentic if its nearest training image has another training image nearer to it."""
    across, within = cdist(samples, train), cdist(train, train)
    np.fill_diagonal(within, np.inf)
    nearest = across.argmin(1)
    return (across.min(1) > within.min(1)[nearest]).mean()


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_it_is_its_definition(scale):
    assert authenticity(NEW * scale, TRAIN) == pytest.approx(by_definition(NEW * scale, TRAIN), abs=1e-9)


def test_it_is_its_definition_over_several_blocks(monkeypatch):
    monkeypatch.setattr("condgen.metrics.manifold.BLOCK_ELEMENTS", 4000)  # 10 rows at a time
    assert authenticity(NEW, TRAIN) == pytest.approx(by_definition(NEW, TRAIN), abs=1e-9)


def test_a_share_of_copies_lowers_it_by_as_much():
    floor = authenticity(NEW, TRAIN)
    assert 0.4 < floor < 0.95
    assert authenticity(TRAIN[:300], TRAIN) == 0
    assert authenticity(torch.cat([TRAIN[:100], NEW]), TRAIN) == pytest.approx(0.75 * floor)
    noise = torch.randn(300, 8, generator=torch.Generator().manual_seed(2)) * 0.05
    assert authenticity(TRAIN[:300] + noise, TRAIN) < 0.05


def test_equal_training_images_and_their_copies_are_no_samples_of_ones_own():
    twice = torch.cat([TRAIN, TRAIN[:5]])
    assert authenticity(TRAIN[:5], twice) == 0
    assert nearest_other(twice, torch.arange(5)).tolist() == [0] * 5
