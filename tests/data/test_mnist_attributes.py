"""MNIST with attributes: what is drawn is what the values say, the same each time, and left-out combinations are left out."""

import math

import pytest
import torch

from condgen.data.sources import MNIST, MNISTAttributes
from condgen.data.sources.mnist_attributes import COLOURS, PENS, dilate, draw, thin, turn
from condgen.data.tables import Decoding
from condgen.errors import CondgenError

UNSEEN = ["digit=3|5,colour=red", "colour=blue,thickness=thin"]


@pytest.fixture(scope="module")
def tables():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDGEN_CACHE", "/nonexistent")  # drawn in memory
        return MNISTAttributes(UNSEEN, samples=400).load()


def test_a_digit_keeps_its_class_and_gets_attributes(tables):
    digits = MNIST().load()
    assert tables.test.images.shape == (400, 3, 28, 28) and tables.test.images.dtype == torch.uint8
    assert torch.equal(tables.test.labels, digits.test.labels[:400])
    assert [field.name for field in tables.fields] == ["digit", "rotation", "colour", "thickness"]
    assert tables.classes == list(tables.fields[0].values)
    assert tables.test.values.dtype == torch.float32
    for i, field in enumerate(tables.fields):
        field.check(tables.test.values[:, i], "test")
    assert torch.equal(tables.test.values[:, 0].long(), tables.test.labels)
    rotation = tables.test.values[:, 1]
    assert rotation.min() < -40 and rotation.max() > 40 and rotation.mean().abs() < 4  # three deviations of the mean
    assert (tables.test.values[:, 2].long().bincount() > 50).all() and (tables.test.values[:, 3].long().bincount() > 100).all()


def test_unseen_combinations_are_in_the_test_part_alone(tables):
    def unseen(values):
        digit, _, colour, thickness = values.unbind(1)
        return ((digit == 3) | (digit == 5)) & (colour == 0) | (colour == 2) & (thickness == 0)

    assert not unseen(tables.train.values).any() and 20 < unseen(tables.test.values).sum() < 60
    assert len(tables.train) < 400
    everything = MNISTAttributes(samples=400)._table("train", MNIST().load().train, [], Decoding())
    kept = ~unseen(everything.values)  # what is left is as it was
    assert torch.equal(everything.values[kept], tables.train.values)
    assert torch.equal(everything.images[kept], tables.train.images)


def test_the_seed_decides(tables, cache_folder):
    again = MNISTAttributes(UNSEEN, samples=400)
    for _ in range(2):  # drawn, then taken from the cache
        assert torch.equal(again.load().train.images, tables.train.images)
    assert len(list(cache_folder.glob("mnist-attributes-*.npy"))) == 2
    other = MNISTAttributes(UNSEEN, samples=50, seed=1).load()
    assert not torch.equal(other.test.values[:, 1:], tables.test.values[:50, 1:])


def test_colours_and_pens_are_as_they_are_named(tables):
    images, values = tables.test.images.float(), tables.test.values
    for i, colour in enumerate(COLOURS.values()):
        brightest = images[values[:, 2] == i].flatten(2).max(2).values
        assert (brightest <= torch.tensor(colour) + 0.5).all()
        assert (brightest / torch.tensor(colour) - (brightest / torch.tensor(colour)).mean(1, keepdim=True)).abs().max() < 0.02
    ink = images.amax(1).sum((1, 2)) / 255
    mean = [ink[values[:, 3] == pen].mean().item() for pen in range(len(PENS))]
    assert mean[0] * 1.5 < mean[1] < mean[2] / 1.3


def test_turning_is_anticlockwise_and_by_as_much():
    bar = torch.zeros(3, 1, 28, 28)
    bar[:, :, 4:24, 12:16] = 1
    degrees = torch.tensor([0.0, 30.0, -45.0])
    turned = turn(bar, degrees)[:, 0]
    y, x = (torch.arange(56) - 27.5).expand(56, 56).T, (torch.arange(56) - 27.5).expand(56, 56)
    for image, angle in zip(turned, degrees, strict=True):
        mass = image.sum()
        xy, xx, yy = ((image * a * b).sum() / mass for a, b in ((x, y), (x, x), (y, y)))
        axis = 0.5 * math.degrees(math.atan2(2 * xy, yy - xx))  # of the bar, from the vertical, y downwards
        assert axis == pytest.approx(angle.item(), abs=0.5)
    slanted = torch.zeros(1, 1, 28, 28)
    for row in range(4, 24):
        slanted[0, 0, row, 18 - row // 3 : 22 - row // 3] = 1
    upright = turn(slanted, torch.zeros(1))[0, 0]
    assert ((upright * x * y).sum() / (upright * y * y).sum()).abs() < 0.02


def test_strokes_are_thinned_to_lines_and_drawn_with_a_disc():
    ink = torch.zeros(1, 20, 20, dtype=torch.bool)
    ink[0, 3:8, 2:18] = True
    line = thin(ink)
    assert line.sum(1).max() == 1 and (line & ~ink).sum() == 0 and 10 <= line.sum() <= 16  # one pixel wide, nearly as long
    assert torch.equal(thin(line), line)
    dot = torch.zeros(1, 1, 11, 11)
    dot[0, 0, 5, 5] = 1
    assert [int(dilate(dot, radius).sum()) for radius in (1.0, 2.5, 4.0)] == [5, 21, 49]


def test_an_empty_image_stays_empty():
    assert draw(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.zeros(2, 4)).sum() == 0


@pytest.mark.parametrize("text", ["digit=3,color=red", "digit=11", "rotation=3,digit=2", "colour=pink"])
def test_combinations_that_cannot_be_are_refused(text):
    with pytest.raises(CondgenError):
        MNISTAttributes([text])
