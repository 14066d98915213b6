"""The ring of Gaussians: where its points lie, whose they are, how they are split and shown, and what they refuse."""

import numpy as np
import pytest
import torch

from condgen.augment.images import Flip
from condgen.conditions import ClassLabel, NoCondition
from condgen.config.build import build
from condgen.data import DataModule
from condgen.data.sources import Ring
from condgen.data.tables import Decoding
from condgen.errors import CondgenError
from condgen.metrics.ring import named, score
from condgen.spaces import Points


def module(ring=None, condition=ClassLabel, **options):
    return DataModule(ring or Ring(samples=800), condition, **({"split": [0.7, 0.15, 0.15]} | options))


def test_points_lie_around_the_centre_of_their_mode():
    ring = Ring(samples=80000)
    table = ring.load().train
    assert table.images.shape == (80000, 2) and table.images.dtype == torch.float32
    assert table.labels.bincount().tolist() == [10000] * 8
    for label, angle in enumerate(torch.arange(8) * torch.pi / 4):
        mine = table.images[table.labels == label].double()
        centre = 0.75 * torch.stack([angle.cos(), angle.sin()])
        torch.testing.assert_close(mine.mean(0), centre.double(), atol=5 * ring.sigma / 100, rtol=0)
        torch.testing.assert_close(mine.T.cov(), ring.sigma**2 * torch.eye(2).double(), atol=0.06 * ring.sigma**2, rtol=0)


def test_with_two_modes_a_class_these_are_opposite():
    ring = Ring(per_class=2)
    tables = ring.load()
    assert tables.classes == ["0", "1", "2", "3"] and ring.owners.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    torch.testing.assert_close(ring.centres[:4], -ring.centres[4:])
    assert score(tables.train.images, tables.train.labels, ring).passed


def test_the_seed_decides_the_points():
    first, again, other = (Ring(seed=seed).load().train.images for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_ring_is_split_and_batched_like_any_data():
    data = module()
    assert (len(data.train), len(data.val), len(data.test)) == (560, 120, 120)
    assert data.train.labels.bincount().tolist() == [70] * 8 and isinstance(data.space, Points)
    x, condition = next(iter(data.train_dataloader()))
    assert x.shape == (64, 2) and x.dtype == torch.float32 and condition.shape == (64,)
    assert score(x, condition, Ring()).within > 0.9  # each point with its own label
    assert (x[:, None] == data.train.images).all(2).any(1).all()  # as they are in the table, bit for bit


def test_some_classes_are_relabelled():
    data = module(classes=["5", "2"])
    assert data.condition.classes == ["5", "2"] and len(data.train) == 140
    assert score(data.train.images, torch.tensor([5, 2])[data.train.labels], Ring()).within > 0.95


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ring(modes=8, per_class=3), "per_class"),
        (lambda: Ring(radius=0.9, sigma=0.05), "radius"),
        (lambda: Ring(samples=7), "samples"),
        (lambda: Ring().load(Decoding(image_size=32)), "image_size"),
        (lambda: module(channels=1).prepare(), "channels"),
        (lambda: module(augment=Flip()).prepare(), "data.augment"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(make, words):
    with pytest.raises(CondgenError, match=words) as caught:
        make()
    assert str(caught.value).endswith(".")


# --- the space ---


def test_the_space_rebuilds_itself_and_exports_floats():
    space = build("space", Points().config())
    name, points = space.export(torch.zeros(3, 2, dtype=torch.bfloat16))
    assert space.shape == (2,) and name == "points" and points.dtype == torch.float32


def test_a_point_is_drawn_at_its_place_in_the_colour_of_its_row():
    corners = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    picture = Points().grid(corners, 1)
    assert picture.dtype == torch.uint8 and picture.shape == (3, Points.side, Points.side)
    red, green, blue = picture.int()
    assert red[-3, 2] > 200 and max(green[-3, 2], blue[-3, 2]) < 200  # down left, the first of two hues
    assert green[2, -3] > red[2, -3] and blue[2, -3] > red[2, -3]  # up right, the opposite one
    assert (picture[:, 5:-5, 5:-5] == 255).all()
    assert torch.equal(Points().grid(corners.flip(0), 2), Points().grid(corners, 2))  # in one row, no order matters


def test_the_layout_has_a_row_for_each_condition():
    assert Points().layout(8) == (250, 250) and Points().layout(1) == (2000, 2000) and Points().layout(3, 7) == (7, 7)


# --- the check ---


def test_a_perfect_generator_passes_and_its_figures_are_those_of_the_gaussian():
    ring = Ring(samples=80000)
    table = ring.load().train
    verdict = score(table.images, table.labels, ring)
    assert verdict.within == pytest.approx(1 - np.exp(-4.5), abs=0.002)
    assert verdict.spread == pytest.approx(0.974, abs=0.01) and verdict.passed and verdict.covered == 8


def test_each_failure_is_seen():
    ring = Ring()
    table = ring.load().train
    assert not score(table.images, table.labels.roll(1), ring).passed  # wrong classes
    assert score(table.images, table.labels[torch.randperm(10000)], ring).within == pytest.approx(0.989 / 8, abs=0.02)
    missing = table.images.clone()
    missing[table.labels == 3] = ring.centres[4]
    assert score(missing, None, ring).covered == 7 and not score(missing, None, ring).passed
    assert not score(torch.where(torch.arange(10000)[:, None] % 10 < 1, 0.0, table.images), None, ring).passed  # bridges
    collapsed = score(ring.centres[table.labels], table.labels, ring)
    assert collapsed.passed and collapsed.spread < 0.01  # passes, and the figure beside it tells


def test_codes_are_named_by_the_modes_they_stand_for():
    ring = Ring()
    table = ring.load().train
    codes = (table.labels * 3 + 1) % 8
    assert torch.equal(named(table.images, codes, ring), table.labels)
    assert (score(table.images, named(table.images, torch.zeros_like(codes), ring), ring)).within < 0.13


def test_without_a_condition_points_still_train(tmp_path):
    assert next(iter(module(condition=NoCondition).train_dataloader()))[1].shape == (64, 0)
