"""Whole-batch augmentations against one sample at a time."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from condgen.augment.images import Compose, Crop, Flip, Rotate


@pytest.fixture
def x():
    return torch.rand(16, 3, 10, 14, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def u():
    return torch.rand(16, 4, generator=torch.Generator().manual_seed(1))


def test_flip(x, u):
    expected = torch.stack([image.flip(-1) if value < 0.3 else image for image, value in zip(x, u[:, 0], strict=True)])
    assert torch.equal(Flip(0.3)(x, u[:, :1]), expected)
    assert torch.equal(Flip(0)(x, u[:, :1]), x) and torch.equal(Flip(1)(x, u[:, :1]), x.flip(-1))


@pytest.mark.parametrize("reflect", [False, True])
def test_crop(x, u, reflect):
    pad = 3
    padded = F.pad(x, (pad,) * 4, "reflect") if reflect else F.pad(x, (pad,) * 4, value=-1)
    corners = [(int(a * 7), int(b * 7)) for a, b in u[:, :2].tolist()]
    assert {0, 6} <= {value for corner in corners for value in corner}  # both edges are met
    expected = torch.stack([p[:, t : t + 10, s : s + 14] for p, (t, s) in zip(padded, corners, strict=True)])
    assert torch.equal(Crop(pad, reflect)(x, u[:, :2]), expected)


@pytest.mark.parametrize("degrees", [15, 180])
def test_rotate(x, u, degrees):
    expected = [
        rotate(image, (2 * value - 1) * degrees, InterpolationMode.BILINEAR)
        for image, value in zip(x + 1, u[:, 0].tolist(), strict=True)
    ]
    torch.testing.assert_close(Rotate(degrees)(x, u[:, :1]), torch.stack(expected) - 1, atol=2e-4, rtol=0)


def test_compose_gives_each_its_own_numbers(x, u):
    both = Compose(Flip(), Crop(2), Rotate(10))
    assert both.draws == 4
    assert torch.equal(both(x, u), Rotate(10)(Crop(2)(Flip()(x, u[:, :1]), u[:, 1:3]), u[:, 3:]))
