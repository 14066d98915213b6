"""L1 and SSIM against plain numpy, trivial answers against their definitions, and what a record of them holds."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from condgen.conditions import ClassLabel, Colorize, Edges, Inpaint, NoCondition, Together
from condgen.data import DataModule
from condgen.data.sources import MNIST
from condgen.data.tables import Part, Table, Tables
from condgen.metrics.catalogue import chosen
from condgen.metrics.evaluator import Evaluator
from condgen.metrics.extractors import Shipped
from condgen.metrics.paired import Paired, baselines
from condgen.metrics.record import read_records, write_record
from condgen.metrics.results import table
from condgen.spaces import Images, to_float, to_uint8


def drawn(count, *shape, seed=0):
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def ssim(a, b):
    """Wang et al. 2004, equations 13 to 16, channel by channel, of images that are mirrored at their edges."""
    weights = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    found = []
    for x, y in zip(a.reshape(-1, *a.shape[2:]) / 255, b.reshape(-1, *b.shape[2:]) / 255, strict=True):
        height, width = x.shape
        x, y = np.pad(x, 5, mode="reflect"), np.pad(y, 5, mode="reflect")
        for i in range(height):
            for j in range(width):
                p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                cov = (window * (p - mp) * (q - mq)).sum()
                top, bottom = (2 * mp * mq + 1e-4) * (2 * cov + 9e-4), (mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)
                found.append(top / bottom)
    return np.mean(found)


def paired(metrics, images, real):
    return Paired(metrics, Images(images.shape[1:]), images.shape[1:])(images, real)


@pytest.mark.parametrize("channels", [1, 3])
def test_figures_are_those_of_their_definitions(channels):
    real = drawn(3, channels, 14, 16)
    images = (0.7 * real + 0.3 * drawn(3, channels, 14, 16, seed=1)).to(torch.uint8)
    found = paired(["fid", "l1", "ssim"], images, real)
    a, b = images.double().numpy(), real.double().numpy()
    assert found.keys() == {"l1", "ssim"}
    assert found["l1"] == pytest.approx(np.abs(a - b).mean() / 255, rel=1e-5)
    assert found["ssim"] == pytest.approx(ssim(a, b), abs=1e-4) and 0.1 < found["ssim"] < 0.99


def test_copies_are_perfect_and_only_what_is_wanted_and_possible_is_measured():
    real = drawn(1001, 1, 12, 12)  # more than two blocks
    assert paired(["l1", "ssim"], real, real) == {"l1": 0.0, "ssim": pytest.approx(1.0, abs=1e-6)}
    assert paired(["l1"], real, real.flip(0)).keys() == {"l1"}
    assert paired(["l1", "ssim"], real[:, :, :10], real[:, :, :10]).keys() == {"l1"}
    assert {"l1", "ssim"} <= set(chosen("all"))


# --- trivial answers ---

TRAIN = Part(Table(drawn(700, 3, 12, 12), torch.zeros(700, dtype=torch.int64)), torch.arange(1, 700, 2))
REAL = drawn(5, 3, 12, 12, seed=3)


def encoded(condition):
    u = torch.rand(5, condition.draws, generator=torch.Generator().manual_seed(0))
    return condition.make(to_float(REAL), u)


def test_holes_are_filled_with_means():
    condition = Inpaint((3, 12, 12))
    c = encoded(condition)
    answers, known = baselines(condition, c, TRAIN), c[:, -1] > 0
    assert answers.keys() == {"mean fill", "training mean"}
    mean = TRAIN.images.double().mean(0).round()
    for i in range(5):
        colour = REAL[i, :, known[i]].double().mean(1, keepdim=True).expand(3, int((~known[i]).sum()))
        assert (answers["mean fill"][i, :, ~known[i]] - colour).abs().max() <= 0.51
        assert (answers["training mean"][i].double() - mean)[:, ~known[i]].abs().max() <= 1
        for answer in answers.values():
            assert torch.equal(answer[i, :, known[i]], REAL[i, :, known[i]])


@pytest.mark.parametrize("condition", [Edges((3, 12, 12)), Colorize((3, 12, 12))], ids=["edges", "colorize"])
def test_the_nearest_training_image_has_the_nearest_condition(condition):
    c = encoded(condition)
    answers = baselines(condition, c, TRAIN)
    maps = condition.make(to_float(TRAIN.images), torch.empty(350, 0))
    for i, answer in enumerate(answers["nearest training image"]):
        assert any(torch.equal(answer, image) for image in TRAIN.images)
        distances = (maps - c[i]).square().sum((1, 2, 3))
        found = (condition.make(to_float(answer[None]), torch.empty(1, 0)) - c[i]).square().sum()
        assert found == pytest.approx(distances.min().item(), rel=1e-5)
    assert ("grey image" in answers) is isinstance(condition, Colorize) and "training mean" in answers
    if "grey image" in answers:
        grey = np.tensordot([0.299, 0.587, 0.114], REAL.double().numpy(), (0, 1))
        assert np.abs(answers["grey image"].double().numpy() - grey[:, None]).max() <= 0.51


# --- in a record ---


class Few(MNIST):
    """The first digits of MNIST."""

    def load(self, decoding=None):
        tables = super().load()
        return Tables(Table(tables.train.images[:800], tables.train.labels[:800]), tables.test, tables.classes)


@pytest.fixture(scope="module")
def evaluator():
    data = DataModule(Few(), lambda classes: ClassLabel(classes), split=200, batch_size=8)
    return Evaluator(Shipped("mnist-cnn"), data, "val")


class Copier(SimpleNamespace):
    """A model that knows the answers, but for a shade."""

    def sample_block(self, index, condition, seed, generator=None):
        pixels = to_float(self.answers[250 * index : 250 * index + len(condition)])
        return self.condition.finish(pixels + 4 / 255, condition)


def measured(evaluator, condition, **options):
    rows = evaluator.matching_rows(150)
    model = Copier(condition=condition, answers=evaluator.part.images[rows], device=torch.device("cpu"), space=Images(GREY))
    generated = evaluator.sample(model, rows, ["fid", "label_accuracy", "l1", "ssim"])
    options = {"with_floors": True, "weights": "raw"} | options
    return evaluator.record(generated, condition=condition, source="best", step=1, **options)


DIGITS = ClassLabel([str(digit) for digit in range(10)])
GREY = (1, 28, 28)


def test_a_sample_is_compared_with_the_image_whose_condition_it_has(evaluator, tmp_path):
    record = measured(evaluator, Inpaint(GREY, hole=0.5))
    assert record.figures.keys() == {"fid", "l1", "ssim"} and record.floors.keys() == {"fid"}  # nothing asks for a class
    assert 0 < record.figures["l1"] <= 2 / 255 / 4 + 1e-6 and record.figures["ssim"] > 0.95
    assert record.protocol.start == "inpaint, hole 0.5, centred False"
    assert record.baselines.keys() == {"mean fill", "training mean"}
    for trivial in record.baselines.values():
        assert list(trivial) == ["fid", "l1", "ssim"]
        assert trivial["l1"] > 5 * record.figures["l1"] and trivial["ssim"] < record.figures["ssim"]
        assert trivial["fid"] > record.figures["fid"]
    assert measured(evaluator, Inpaint(GREY, hole=0.5)) == record  # from the cache
    write_record(tmp_path / "metrics.json", record)
    assert read_records(tmp_path / "metrics.json") == [record]
    assert measured(evaluator, Inpaint(GREY, hole=0.5), with_floors=False).baselines == {}


def test_a_class_beside_the_image_is_measured_too_and_the_table_shows_all(evaluator):
    record = measured(evaluator, Together(DIGITS, Edges(GREY)))
    assert list(record.figures) == ["fid", "label_accuracy", "l1", "ssim"] and record.figures["label_accuracy"] > 0.95
    assert record.protocol.start == "edges, threshold 0.15"
    lines = table(record).splitlines()
    assert lines[1] == "  each sample starts from an image (edges, threshold 0.15)"
    assert lines[2].split("  ")[-2:] == ["nearest training image", "training mean"]
    figures = [record.baselines[name]["l1"] for name in ("nearest training image", "training mean")]
    (row,) = [line.split() for line in lines if line.split()[0] == "L1"]
    assert row[1:] == [f"{value:.4f}" for value in [record.figures["l1"], *figures]]
    assert len({len(line) for line in lines[2:]}) == 1  # all columns end where their titles do


def test_where_nothing_starts_from_an_image_nothing_changes(evaluator):
    for condition in (DIGITS, NoCondition()):
        record = measured(evaluator, condition)
        assert not {"l1", "ssim"} & record.figures.keys() and record.baselines == {} and record.protocol.start is None
        assert "starts from" not in table(record) and table(record).splitlines()[1] == f"  {'':24} {'samples':>10} {'real':>10}"
    assert to_uint8(to_float(REAL)).equal(REAL)
