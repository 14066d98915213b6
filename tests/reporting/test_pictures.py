"""Pictures and charts: that they show what they say."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import condgen
from condgen.conditions import ClassLabel, LearnedEmbedding, NoCondition, OneHot
from condgen.generators.base import Generator
from condgen.nets.conv import ConvDecoder, ConvGenerator
from condgen.nets.mlp import MLPDecoder, MLPGenerator
from condgen.reporting.charts import confusion_chart, curves_chart, needs_log, read_curves, running_mean
from condgen.reporting.pictures import condition_interpolation, latent_interpolation, nearest_rows, neighbours, slerp, spread
from condgen.spaces import Images, to_float, to_uint8

SPACE = Images((1, 28, 28))


class Plain(Generator):
    """Decodes by a linear map of latent and class, with a dropout that must be off."""

    def __init__(self, classes: int = 10):
        super().__init__(SPACE, ClassLabel([str(i) for i in range(classes)]) if classes else NoCondition())
        torch.manual_seed(0)
        self.map = nn.Linear(6 + classes, 28 * 28)
        self.drop = nn.Dropout(0.5)

    def latents(self, count, generator):
        return torch.randn(count, 3, 2, generator=generator)

    def decode(self, z, condition):
        vector = self.condition.vector(condition)
        return self.drop(self.map(torch.cat([z.flatten(1), vector], dim=1)).tanh()).view(-1, 1, 28, 28)


def cell(grid, row, column, side=28):
    """Cut one picture out of a grid of grey images: uint8 (side, side)."""
    top, left = row * (side + 2) + 2, column * (side + 2) + 2
    return grid[0, top : top + side, left : left + side]


def fixed_latents(model, monkeypatch, count):
    """Let ``model`` draw known latents, and return them."""
    z = torch.randn(count, *model.latents(1, torch.Generator()).shape[1:], generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(model, "latents", lambda wanted, generator: z[:wanted])
    return z


@torch.inference_mode()
def expected(model, z, condition):
    """Decode one latent for one condition: uint8 (28, 28)."""
    return to_uint8(model.eval().decode(z[None], condition[None]))[0, 0]


def close(a, b):
    """Whether two pictures are equal but for rounding, which batches of another size may change."""
    return bool(((a.int() - b.int()).abs() <= 1).all())


# --- interpolations ---


@pytest.mark.parametrize("family", ["gan_run", "vae_run"])
def test_a_latent_walk_begins_and_ends_at_samples(family, request, monkeypatch):
    model = condgen.load(request.getfixturevalue(family))
    z = fixed_latents(model, monkeypatch, 2)
    grid = latent_interpolation(model, steps=5)
    assert grid.dtype == torch.uint8 and grid.shape == (3, 10 * 30 + 2, 5 * 30 + 2)
    for row in (0, 7):
        first, middle, last = (cell(grid, row, column) for column in (0, 2, 4))
        assert close(first, expected(model, z[0], torch.tensor(row)))
        assert close(last, expected(model, z[1], torch.tensor(row)))
        assert close(middle, expected(model, slerp(z[:1], z[1:], 0.5)[0], torch.tensor(row)))
        assert not close(first, middle) and not close(middle, last)


@pytest.mark.parametrize("family", ["gan_run", "vae_run"])
def test_a_class_walk_begins_and_ends_at_samples_of_its_classes(family, request, monkeypatch):
    model = condgen.load(request.getfixturevalue(family))
    z = fixed_latents(model, monkeypatch, 1)
    grid = condition_interpolation(model, steps=3)
    assert grid.dtype == torch.uint8 and grid.shape == (3, 9 * 30 + 2, 3 * 30 + 2)
    for row in (0, 8):
        ends = [expected(model, z[0], torch.tensor(label)) for label in (row, row + 1)]
        assert close(cell(grid, row, 0), ends[0]) and close(cell(grid, row, 2), ends[1])
        mixture = torch.zeros(10)
        mixture[[row, row + 1]] = 0.5
        assert close(cell(grid, row, 1), expected(model, z[0], mixture))


def test_a_model_without_classes(monkeypatch):
    model = Plain(classes=0)
    z = fixed_latents(model, monkeypatch, 6)
    grid = latent_interpolation(model, rows=3, steps=4)
    assert grid.shape == (3, 3 * 30 + 2, 4 * 30 + 2)
    for row in range(3):  # each row has two latents of its own
        assert close(cell(grid, row, 0), expected(model, z[row], torch.empty(0)))
        assert close(cell(grid, row, 3), expected(model, z[3 + row], torch.empty(0)))
    assert condition_interpolation(model) is None and condition_interpolation(Plain(classes=1)) is None


def test_of_many_classes_some_are_shown():
    assert latent_interpolation(Plain(300), steps=2).shape == (3, 10 * 30 + 2, 2 * 30 + 2)
    assert condition_interpolation(Plain(300), rows=4, steps=2).shape == (3, 4 * 30 + 2, 2 * 30 + 2)
    assert spread(torch.arange(300), 4).tolist() == [0, 100, 199, 299]
    assert spread(torch.arange(3), 4).tolist() == [0, 1, 2]


@pytest.mark.parametrize("draw", [latent_interpolation, condition_interpolation])
def test_the_seed_decides_and_the_training_does_not_notice(draw):
    model = Plain().train()
    state = torch.get_rng_state()
    first = draw(model, steps=4, seed=1)
    torch.manual_seed(5)
    assert torch.equal(draw(model, steps=4, seed=1), first)  # so dropout was off, too
    torch.set_rng_state(state)
    assert not torch.equal(draw(model, steps=4, seed=2), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and model.drop.training and all(p.grad is None and p.requires_grad for p in model.parameters())


def test_the_arc_keeps_length_and_pace():
    a, b = torch.randn(2, 7, 50, generator=torch.Generator().manual_seed(0)).unbind()
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    assert torch.equal(slerp(a, b, 0.0), a) and torch.equal(slerp(a, b, 1.0), b)
    angle = (a * b).sum(1).acos()
    for t in (0.25, 0.5, 0.9):
        c = slerp(a, b, t)
        torch.testing.assert_close(c.norm(dim=1), torch.ones(7))
        torch.testing.assert_close((a * c).sum(1).acos(), t * angle)
    assert torch.lerp(a, b, 0.5).norm(dim=1).max() < 0.9  # what a straight line does
    torch.testing.assert_close(slerp(a, 3 * a, 0.5), 2 * a)
    assert slerp(a, -a, 0.5).isfinite().all() and slerp(0 * a, a, 0.5).isfinite().all()


@pytest.mark.parametrize("embedding", [OneHot, lambda condition: LearnedEmbedding(condition, 6)], ids=["one-hot", "learned"])
@pytest.mark.parametrize("make", [ConvGenerator, ConvDecoder, MLPGenerator, MLPDecoder])
def test_every_network_takes_a_mixture_of_classes(make, embedding):
    torch.manual_seed(0)
    condition = ClassLabel(["frog", "ship", "toad"])
    size = {"width": 4, "depth": 2} if make in (ConvGenerator, ConvDecoder) else {"hidden": [8]}
    network = make(latent=5, condition=condition, space=SPACE, embedding=embedding, **size).eval()
    z, labels = torch.randn(3, 5), torch.arange(3)
    torch.testing.assert_close(network(z, torch.eye(3)), network(z, labels))
    halves = network(z[:1], torch.tensor([[0.5, 0.5, 0.0]]))
    assert not torch.allclose(halves, network(z[:1], labels[:1])) and not torch.allclose(halves, network(z[:1], labels[1:2]))


# --- neighbours ---


def grey(*levels):
    """Return grey images of 4 x 4 pixels: uint8 (N, 1, 4, 4)."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


def test_neighbours_are_the_nearest_training_images_in_order():
    space = Images((1, 4, 4))
    train, places = grey(*range(0, 200, 10)), torch.arange(20.0)[:, None] * torch.tensor([[3.0, 4.0]])  # 5 apart
    generated, features = grey(201, 202, 203), torch.tensor([[0.0, 0.0], [30.0, 40.5], [57.0, 70.0]])  # at 0, 10.1, 18.x
    picture = neighbours(to_float(generated), features, train, places, space, columns=2)
    wanted = [(201, 0, 10, 20), (202, 100, 110, 90), (203, 180, 190, 170)]
    strip = (1 * 6 + 2) + 6 + (3 * 6 + 2)  # a sample, a gap, three neighbours
    assert picture.dtype == torch.uint8 and picture.shape == (3, 2 * 6 + 2, 2 * strip + 18)
    for i, levels in enumerate(wanted):
        group = picture[:, i // 2 * 6 :, i % 2 * (strip + 18) :]
        shown = [group[0, 3, left + 3].item() for left in (0, 14, 20, 26)]
        assert shown == list(levels)
        assert (group[:, :, 8:14] == 255).all()
    assert (picture[:, 8:, strip + 18 :] == 255).all()  # there is no fourth sample


def test_copies_are_found_where_rounding_hides_small_distances():
    """Far from the origin |a|^2 - 2ab + |b|^2 has no digits left for distances of 0.01."""
    points = torch.rand(5000, 64, generator=torch.Generator().manual_seed(0)) + 100
    points[1234] = points[77] + 0.001
    points[4000] = points[77] + 0.003
    assert nearest_rows(points[77:78], points, 3).tolist() == [[77, 1234, 4000]]
    assert nearest_rows(points[:2], points[:2], 3).tolist() == [[0, 1], [1, 0]]  # there are no three


# --- charts ---


def test_a_confusion_chart_shows_where_the_samples_went():
    classes = ["<b>$x$", "カエル", "a name that is far too long for an axis"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = confusion_chart([[5, 0, 0, 0], [0, 5, 0, 0], [0, 0, 0, 0]], classes)
        wrong = confusion_chart(torch.tensor([[0, 0, 0, 5], [5, 0, 0, 0], [0, 0, 0, 0]]), classes)
    assert right.dtype == torch.uint8 and right.shape == wrong.shape and right.shape[0] == 3
    full = torch.tensor([8, 48, 107])  # the colour of 100 %
    places = [(full == chart.permute(1, 2, 0)).all(2).nonzero().double().mean(0) for chart in (right, wrong)]
    assert places[0][1] < places[1][1]  # the diagonal of the first two classes lies left of (first, other) and (second, first)
    for count in (1, 20, 21, 120):
        assert max(confusion_chart(torch.eye(count, count + 1), [f"class {i}" for i in range(count)]).shape) < 2000


def test_curves_are_read_as_far_as_they_are_numbers(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,val/loss,empty\n10,1.5,,\n20,nan,0.25,\n30,inf,x,\n40,2.5\n,7,7,\n5")
    assert read_curves(path) == {"train/loss": ([10, 40], [1.5, 2.5]), "val/loss": ([20], [0.25])}
    path.write_bytes(b"\xff\x00\n\x00")
    assert read_curves(path) == {}
    path.write_text("")
    assert read_curves(path) == {}


def test_curves_have_a_panel_each(tmp_path):
    steps = list(range(0, 5000, 10))
    noisy = [1 + float(np.sin(i)) for i in steps]
    curves = {"train/loss": (steps, noisy), "val/loss": ([5], [1.0]), "train/zero": (steps, [0.0] * 500), "": ([1], [2])}
    picture = curves_chart(curves | {"quality/$fid$/" + 80 * "x": ([0, 10], [1e-9, 1e9])})
    assert picture.dtype == torch.uint8 and picture.shape[0] == 3
    alone = curves_chart({"val/loss": ([5], [1.0])})
    assert picture.shape[1] == pytest.approx(4 * alone.shape[1], abs=4)  # four groups
    assert picture.shape[2] == pytest.approx(2 * alone.shape[2], abs=2)  # of two panels at most


def test_an_axis_is_logarithmic_only_where_it_helps():
    assert needs_log([300, 30, 3]) and needs_log([1e4, 0.01])
    assert not needs_log([0.001, 0.99])  # a share
    assert not needs_log([100, 50, 80]) and not needs_log([1000, 0]) and not needs_log([-5, 500])


def test_the_running_mean_is_the_mean_of_the_neighbourhood():
    values = np.random.default_rng(0).normal(size=50)
    means = running_mean(values, 4)
    assert means == pytest.approx([values[max(0, i - 4) : i + 5].mean() for i in range(50)])
