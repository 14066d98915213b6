"""Conditions that are images, alone and beside a class: how they are made, asked for, put back and loaded."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from condgen.augment.images import Compose, Crop, Flip
from condgen.conditions import ClassLabel, Colorize, Edges, ImageCondition, Inpaint, OneHot, Tasks, Together
from condgen.config.build import build
from condgen.data import DataModule
from condgen.data.loader import BatchLoader
from condgen.data.tables import Table, Tables
from condgen.errors import CondgenError
from condgen.spaces import to_float, to_uint8

PETS = ClassLabel(["frog", "ship", "toad"])
COLOUR = (3, 12, 10)
PIXELS = torch.randint(0, 256, (23, *COLOUR), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
X = to_float(PIXELS)
TASKS = Tasks({"edges": Edges(COLOUR), "inpaint": Inpaint(COLOUR), "colorize": Colorize(COLOUR)}, COLOUR)
ALL = [Edges(COLOUR), Inpaint(COLOUR), Colorize(COLOUR), TASKS, Together(PETS, Edges(COLOUR)), Together(PETS, Inpaint(COLOUR))]


def numbers(condition, count=23, seed=0):
    return torch.rand(count, condition.draws, generator=torch.Generator().manual_seed(seed))


def completed(condition, x=X):
    return condition.complete(condition.from_data(torch.arange(len(x)) % 3), x, numbers(condition, len(x)))


# --- how they are made ---


@pytest.mark.parametrize("channels", [1, 3])
def test_edges_are_where_sobel_says(channels):
    x, threshold = X[:4, :channels].double().numpy(), 0.25
    luma = np.tensordot([0.299, 0.587, 0.114], x, (0, 1)) if channels == 3 else x[:, 0]
    padded = np.pad(luma, ((0, 0), (1, 1), (1, 1)), mode="edge")
    expected = np.empty((4, 12, 10))
    for n in range(4):
        for i in range(12):
            for j in range(10):
                (a, b, c), (d, _, f), (g, h, k) = padded[n, i : i + 3, j : j + 3]
                across, down = ((c + 2 * f + k) - (a + 2 * d + g)) / 8, ((g + 2 * h + k) - (a + 2 * b + c)) / 8
                expected[n, i, j] = 1 if np.hypot(across, down) > threshold else -1
    found = Edges((channels, 12, 10), threshold).make(X[:4, :channels], torch.empty(4, 0))
    assert found.shape == (4, 1, 12, 10) and np.array_equal(found[:, 0].numpy(), expected)
    assert 0.1 < (expected == 1).mean() < 0.9


def test_a_ramp_has_the_slope_that_the_threshold_names():
    ramp = (torch.arange(10) * 0.1 - 0.5).expand(1, 1, 12, 10)  # 0.1 from one pixel to the next
    inside = (slice(None), 0, slice(None), slice(1, -1))
    assert (Edges((1, 12, 10), 0.099).make(ramp, torch.empty(1, 0))[inside] == 1).all()
    assert (Edges((1, 12, 10), 0.101).make(ramp, torch.empty(1, 0)) == -1).all()


@pytest.mark.parametrize("hole, size", [(0.5, (6, 5)), (0.25, (3, 2)), (0.01, (1, 1)), (0.99, (12, 10))])
def test_a_hole_has_its_size_and_lies_anywhere(hole, size):
    condition, x = Inpaint(COLOUR, hole), X[:1].expand(2000, -1, -1, -1)
    condition, u = Inpaint(COLOUR, hole), numbers(condition, 2000)
    made = condition.make(x, u)
    known = made[:, -1] > 0
    assert made.shape == (2000, 4, 12, 10) and set(made[:, -1].unique().tolist()) <= {-1.0, 1.0}
    assert torch.equal(made[:, :3], x * known[:, None])
    for axis, side in ((1, 0), (2, 1)):
        inside = (~known).any(3 - axis)  # (N, side)
        assert (inside.sum(1) == size[side]).all()  # one stretch, for it is where a rectangle is
        assert inside[:, 0].any() and inside[:, -1].any()  # up to both ends
    assert ((~known).sum((1, 2)) == size[0] * size[1]).all()
    middle = Inpaint(COLOUR, hole, centred=True).make(X, numbers(condition))[:, -1]
    assert torch.equal(middle, middle[:1].expand_as(middle))


def test_known_pixels_come_back_exactly_also_as_bytes_and_from_bfloat16():
    condition = Inpaint(COLOUR)
    c = condition.make(X, numbers(condition))
    known = (c[:, -1:] > 0).expand_as(X)
    for dtype in (torch.float32, torch.bfloat16):
        drawn = torch.full_like(X, 0.123).to(dtype)
        finished = condition.finish(drawn, c)
        assert torch.equal(to_uint8(finished)[known], PIXELS[known]) and torch.equal(finished[known], X[known])
        assert torch.equal(finished[~known], drawn.float()[~known])


def test_colorize_shows_brightness():
    luma = np.tensordot([0.299, 0.587, 0.114], PIXELS.double().numpy(), (0, 1)) / 127.5 - 1
    np.testing.assert_allclose(completed(Colorize(COLOUR))[:, 0].numpy(), luma, atol=1e-5)
    with pytest.raises(CondgenError, match=r"data.channels=3"):
        Colorize((1, 12, 10))


def test_a_class_and_an_image_lie_side_by_side():
    both, image = Together(PETS, Inpaint(COLOUR)), Inpaint(COLOUR)
    c = completed(both)
    assert c.shape == (23, 3 + 4 * 120) and torch.equal(both.vector(c), torch.eye(3)[torch.arange(23) % 3])
    assert torch.equal(both.map(c), image.make(X, numbers(image))) and torch.equal(OneHot(both)(c), both.vector(c))
    assert both.describe(c)[:4] == ["frog", "ship", "toad", "frog"] and both.classes == PETS.classes
    assert torch.equal(both.finish(torch.zeros_like(X), c), image.finish(torch.zeros_like(X), both.map(c)))
    assert torch.equal(both.check(c), c)
    with pytest.raises(CondgenError, match="together"):
        both.check(c[:, 1:])


@pytest.mark.parametrize("condition", ALL, ids=lambda condition: type(condition).__name__)
def test_config_rebuilds_them(condition):
    again = build("condition", condition.config())
    assert type(again) is type(condition) and torch.equal(completed(again), completed(condition))
    assert isinstance(again.image, ImageCondition) and again.image.title == condition.image.title


# --- how a user asks ---


def test_a_picture_is_asked_for():
    assert torch.equal(Edges(COLOUR).ask(None, X[0]), Edges(COLOUR).make(X[:1], torch.empty(1, 0)))
    transparent = torch.where(torch.arange(10) < 4, -1.0, 1.0).expand(1, 12, 10)  # on the left
    transparent = torch.where(torch.arange(10) == 4, 0.9, transparent)  # and nearly opaque: its colour is not sure
    asked = Inpaint(COLOUR).ask(None, torch.cat([X[0], transparent]))
    assert (asked[0, -1, :, :5] == -1).all() and (asked[0, -1, :, 5:] == 1).all()
    assert torch.equal(asked[0, :3, :, 5:], X[0, :, :, 5:]) and not asked[0, :3, :, :5].any()
    middle = Inpaint(COLOUR, centred=True).make(X[:1], torch.zeros(1, 2))
    for opaque in (X[0], torch.cat([X[0], torch.ones(1, 12, 10)])):
        assert torch.equal(Inpaint(COLOUR).ask(None, opaque), middle)
    both = Together(PETS, Edges(COLOUR))
    asked = both.ask("ship,frog", X[0])
    assert torch.equal(both.vector(asked), torch.eye(3)[[1, 0]]) and torch.equal(both.map(asked)[0], both.map(asked)[1])
    assert len(both.ask(None, X[0])) == 3  # every class


@pytest.mark.parametrize("condition", ALL, ids=lambda condition: type(condition).__name__)
def test_what_cannot_be_asked_for_is_told_in_one_sentence(condition):
    for ask in (lambda: condition.ask(None), lambda: condition.parse("frog"), lambda: condition.draw(3, torch.Generator())):
        with pytest.raises(CondgenError) as caught:
            ask()
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    with pytest.raises(CondgenError, match="not conditioned on an image"):
        PETS.ask(None, X[0])
    with pytest.raises(CondgenError, match="Encoded"):
        condition.check(torch.zeros(2, 5))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Edges((2,)), "samples are none"),
        (lambda: Together(Edges(COLOUR), Edges(COLOUR)), "said must be"),
        (lambda: Together(PETS, PETS), "image one that is an image"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(CondgenError, match=words):
        make()


# --- how they are loaded ---


@pytest.mark.parametrize("condition", ALL, ids=lambda condition: type(condition).__name__)
def test_batches_hold_the_condition_of_what_they_show_wherever_a_run_starts_and_whoever_shares_them(condition):
    options = {"condition": condition, "shuffle": True, "drop_last": True, "seed": 3, "augment": Compose(Flip(), Crop(2))}
    labels = condition.from_data(torch.arange(23) % 3)

    def batches(epoch, batch=0, **more):
        return list(BatchLoader(PIXELS, labels, 6, position=lambda: (epoch, batch), **options, **more))

    def same(left, right):
        return all(torch.equal(a, b) for one, two in zip(left, right, strict=True) for a, b in zip(one, two, strict=True))

    whole = batches(1)
    for x, c in whole:
        if not condition.draws:
            assert torch.equal(condition.map(c), condition.image.make(x, torch.empty(len(x), 0)))
        elif condition is not TASKS:
            assert torch.equal(condition.finish(torch.zeros_like(x), c) != 0, (x != 0) & (condition.map(c)[:, -1:] > 0))
    assert same(batches(1, 2), whole[2:])  # as a killed run goes on
    shares = [batches(1, rank=rank, world=2) for rank in range(2)]
    assert same([tuple(map(torch.cat, zip(*pair, strict=True))) for pair in zip(*shares, strict=True)], whole)
    assert not same(batches(2), whole)


def test_rows_of_a_part_have_the_same_conditions_in_every_run_and_in_any_order():
    tables = Tables(Table(PIXELS, torch.arange(23) % 3), None, PETS.classes)
    source = SimpleNamespace(load=lambda decoding: tables)

    def encode(rows, **options):
        data = DataModule(source, lambda shape: Inpaint(shape), batch_size=2, split=[0.4, 0.4, 0.2], **options)
        return data.encode(data.val, torch.tensor(rows)), data.val.images[torch.tensor(rows)]

    whole, images = encode(range(9))
    some, _ = encode([7, 2, 2], seed=5)
    assert torch.equal(some, whole[[7, 2, 2]]) and not torch.equal(whole[:, -1], whole[:1, -1].expand(9, -1, -1))
    known = (whole[:, -1:] > 0).expand_as(images)
    assert torch.equal(to_uint8(whole[:, :-1])[known], images[known])


# --- several tasks ---


def test_the_task_is_drawn_for_each_sample_and_asked_for_by_its_name():
    parts = {"edges": Edges(COLOUR), "inpaint": Inpaint(COLOUR), "colorize": Colorize(COLOUR)}
    condition = Tasks(parts, COLOUR)
    u = numbers(condition)
    shown = condition.check(condition.make(X, u))
    names = condition.describe(shown)
    assert names == [list(parts)[int(share * 3)] for share in u[:, 0]] and set(names) == set(parts)
    for row, name in enumerate(names):
        part = parts[name]
        assert torch.equal(shown[row, : part.channels], part.make(X[[row]], u[[row], 1 : 1 + part.draws])[0])
        assert not shown[row, part.channels : 4].any()
    samples = torch.zeros_like(X)
    finished = condition.finish(samples, shown)
    for row, name in enumerate(names):
        expected = parts[name].finish(samples[[row]], shown[[row], : parts[name].channels])[0]
        assert torch.equal(finished[row], expected)
    assert condition.describe(condition.ask("task=colorize|edges", X[0])) == ["colorize", "edges"]
    assert condition.describe(condition.ask(None, X[0])) == list(parts)
    condition = Tasks(parts, COLOUR, only="inpaint")
    assert set(condition.describe(condition.make(X, u))) == {"inpaint"} and "mean fill" in condition.guesses(shown)
    with pytest.raises(CondgenError, match="Unknown task 'paint': this model knows edges, inpaint, colorize"):
        condition.ask("paint", X[0])
    for wrong, only in (({"edges": Edges(COLOUR)}, None), ({"edges": Edges(COLOUR), "class": PETS}, None), (parts, "paint")):
        with pytest.raises(CondgenError, match=r"condition\.(tasks|only=paint)"):
            Tasks(wrong, COLOUR, only)
    with pytest.raises(CondgenError, match="image one that is an image"):
        Together(PETS, condition)
