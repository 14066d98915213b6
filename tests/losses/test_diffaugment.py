"""Differentiable augmentation: each operation by hand, its gradients, and what must not change."""

import pytest
import torch

from condgen.augment.diffaugment import (
    ADA,
    OPERATIONS,
    DiffAugment,
    brightness,
    contrast,
    cutout,
    flip,
    saturation,
    translation,
)

STREAM = torch.Generator().manual_seed(0)


def images(channels=3, count=5, height=8, width=6):
    return torch.rand(count, channels, height, width, generator=STREAM, dtype=torch.float64) * 2 - 1


def uniform(count, draws):
    return torch.rand(count, draws, generator=STREAM, dtype=torch.float64)


def rows(*values):
    return torch.tensor([values], dtype=torch.float64)


# --- the operations ---


def test_brightness_adds():
    x = images(count=3)
    moved = brightness(x, torch.tensor([[0.0], [0.5], [0.75]], dtype=torch.float64), 0.5)
    for i, change in enumerate((-0.5, 0.0, 0.25)):
        torch.testing.assert_close(moved[i], x[i] + change)


def test_saturation_scales_the_distance_from_grey():
    x = images(count=2)
    grey, vivid = saturation(x, torch.tensor([[0.0], [1.0]], dtype=torch.float64), 1.0)
    torch.testing.assert_close(grey, x[0].mean(0).expand(3, -1, -1))
    torch.testing.assert_close(vivid, 2 * x[1] - x[1].mean(0))


def test_saturation_leaves_grey_images_alone():
    x = images(channels=1)
    assert torch.equal(saturation(x, uniform(5, 1), 1.0), x)


def test_contrast_scales_the_distance_from_the_mean():
    x = images(count=2)
    flat, steep = contrast(x, torch.tensor([[0.0], [1.0]], dtype=torch.float64), 0.5)
    torch.testing.assert_close(flat, x[0].mean() + 0.5 * (x[0] - x[0].mean()))
    torch.testing.assert_close(steep, x[1].mean() + 1.5 * (x[1] - x[1].mean()))


def test_flip():
    x = images(count=2)
    first, second = flip(x, torch.tensor([[0.29], [0.31]]), 0.3)
    assert torch.equal(first, x[0].flip(-1)) and torch.equal(second, x[1])


@pytest.mark.parametrize("down", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("right", [-1, 0, 1])
def test_translation_shifts_and_fills_with_zero(down, right):
    """Of 8 rows and 4 columns a quarter: up to 2 and 1 pixels."""
    x = images(count=1, height=8, width=4)
    expected = torch.zeros_like(x)
    for row in range(8):
        for column in range(4):
            if 0 <= row - down < 8 and 0 <= column - right < 4:
                expected[:, :, row, column] = x[:, :, row - down, column - right]
    assert torch.equal(translation(x, rows((2 - down + 0.5) / 5, (1 - right + 0.5) / 3), 0.25), expected)


def test_translations_are_uniform():
    """Every shift as often as every other, none beyond."""
    x = torch.zeros(3000, 1, 8, 8)
    x[:, :, 4, 4] = 1
    places = translation(x, torch.rand(3000, 2, generator=STREAM), 0.25).flatten(1).argmax(1)
    counts = torch.bincount(places, minlength=64).view(8, 8)
    assert counts[2:7, 2:7].min() > 60 and counts.sum() == counts[2:7, 2:7].sum()  # 120 expected


def test_cutout_is_a_rectangle_around_its_centre():
    x = torch.ones(1, 3, 8, 6)
    inner = cutout(x, rows(4.5 / 9, 3.5 / 6), 0.5)  # 4 rows from 2, 3 columns around 3
    expected = torch.ones(1, 3, 8, 6)
    expected[:, :, 2:6, 2:5] = 0
    assert torch.equal(inner, expected)
    corner = cutout(x, rows(0.0, 0.0), 0.5)
    expected = torch.ones(1, 3, 8, 6)
    expected[:, :, :2, :2] = 0
    assert torch.equal(corner, expected)


def test_cutout_reaches_every_pixel():
    x = torch.ones(2000, 1, 8, 8)
    left = cutout(x, torch.rand(2000, 2, generator=STREAM), 0.5).mean((0, 1))
    assert left.max() < 0.95 and left[3:5, 3:5].mean() < left[0, 0]


@pytest.mark.parametrize("operation, draws", OPERATIONS)
def test_nothing_changes_at_zero_strength(operation, draws):
    x = images()
    assert torch.equal(operation(x, uniform(5, draws), 0.0), x)


@pytest.mark.parametrize("operation, draws", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_sample_by_its_own_numbers(operation, draws, channels):
    """A sample alone is changed as it is among others."""
    x, u = images(channels), uniform(5, draws)
    whole = operation(x, u, 0.5)
    assert whole.shape == x.shape and whole.dtype == x.dtype
    for i in range(5):
        torch.testing.assert_close(operation(x[i : i + 1], u[i : i + 1], 0.5), whole[i : i + 1])


@pytest.mark.parametrize("operation, draws", OPERATIONS)
def test_gradients_of_both_orders(operation, draws):
    """G learns through it; penalties on D's slope differentiate through it once more."""
    x, u = images(count=2, height=4, width=4).requires_grad_(), uniform(2, draws)
    assert torch.autograd.gradcheck(lambda x: operation(x, u, 0.5), x)
    assert torch.autograd.gradgradcheck(lambda x: operation(x, u, 0.5).square(), x)


# --- all of them ---


@pytest.mark.parametrize("channels", [1, 3])
def test_all_operations_one_after_the_other(channels):
    augment, x = DiffAugment(flip=0.5), images(channels)
    u = uniform(5, augment.draws)
    assert augment.draws == 8
    expected = contrast(saturation(brightness(flip(x, u[:, :1], 0.5), u[:, 1:2], 0.5), u[:, 2:3], 1.0), u[:, 3:4], 0.5)
    expected = cutout(translation(expected, u[:, 4:6], 0.125), u[:, 6:], 0.5)
    assert torch.equal(augment(x, u), expected) and not torch.equal(expected, x)


def test_published_strengths():
    assert {operation.__name__: strength for operation, _, strength in DiffAugment().operations} == {
        "brightness": 0.5,
        "saturation": 1.0,
        "contrast": 0.5,
        "translation": 0.125,
        "cutout": 0.5,
    }


def test_strength_zero_leaves_out():
    nothing = DiffAugment(brightness=0.0, saturation=0.0, contrast=0.0, translation=0.0, cutout=0.0)
    x = images()
    assert nothing.draws == 0 and nothing(x, uniform(5, 0)) is x


# --- ADA ---


def test_ada_with_probability_one_is_diffaugment():
    ada, plain, x = ADA(), DiffAugment(), images()
    own = uniform(5, plain.draws)
    gates = uniform(5, 5)
    parts = own.split([draws for _, draws, _ in plain.operations], 1)
    u = torch.cat([part for i in range(5) for part in (gates[:, i : i + 1], parts[i])], 1)
    assert u.shape[1] == ada.draws
    assert torch.equal(ada(x, u), x)  # p starts at 0
    ada.probability.fill_(1.0)
    assert torch.equal(ada(x, u), plain(x, own))
    ada.probability.fill_(0.5)
    some = ada(x, u)
    assert not torch.equal(some, x) and not torch.equal(some, plain(x, own))


def test_ada_applies_with_its_probability():
    ada = ADA(saturation=0.0, contrast=0.0, translation=0.0, cutout=0.0)
    ada.probability.fill_(0.3)
    x = torch.zeros(4000, 1, 1, 1)
    changed = ada(x, torch.rand(4000, 2, generator=STREAM)).ne(0).float().mean().item()
    assert changed == pytest.approx(0.3, abs=0.03)


def test_ada_follows_overfitting():
    """Two turns of 50 samples a step: 1/10 of the 1,000 images on which p goes from 0 to 1."""
    ada = ADA(target=0.5, images=1000, interval=2)
    sure, unsure = torch.full((50,), 2.0), torch.cat([torch.full((30,), 0.1), torch.full((20,), -5.0)])  # r = 1 and 0.2
    seen = []
    for turn, margin in enumerate([sure, sure, sure, unsure, unsure, unsure, unsure, unsure, unsure, unsure]):
        ada.adapt(margin, turn, lambda value: value, 50)
        seen.append(ada.probability.item())
    assert seen == pytest.approx([0, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.0, 0.0, 0.0], abs=1e-6)  # never below 0
