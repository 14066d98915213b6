"""Samples as bytes: what Python and a server get are the files that ``condgen sample`` writes."""

import io

import numpy as np
import pytest
import torch
from recipes import make_model

import condgen
from condgen.conditions.text import written
from condgen.errors import CondgenError
from condgen.samples import Request, draw, encode
from condgen.spaces import Points


@pytest.mark.parametrize(
    "asked, options",
    [
        (Request("3,7", count=3, seed=5), ("--condition", "3,7", "--count", 3, "--seed", 5)),
        (Request(["3", "7"], to="5", count=4), ("--condition", '["3", 7]', "--to", "5", "--count", 4)),
        (Request(count=26, sampling={"truncation": 1}), ("--count", 26, "--truncation", "1.0")),
    ],
    ids=["classes", "walk", "blocks"],
)
def test_bytes_are_those_of_the_files(asked, options, run_condgen, gan_run, tmp_path):
    samples = draw(condgen.load(gan_run), asked)
    for name in ("a.png", "a.npz", "folder"):
        assert run_condgen("sample", gan_run, *options, "--out", name).code == 0
    assert samples.png() == (tmp_path / "a.png").read_bytes()
    assert samples.npz() == (tmp_path / "a.npz").read_bytes()
    assert list(samples.pngs()) == [path.read_bytes() for path in sorted((tmp_path / "folder").glob("*.png"))]
    assert len(samples.names) == len(samples.values) == len(samples.requested)


def test_points_have_no_pictures_each_but_a_scatter_and_numbers():
    model = make_model("model=gan_points", space=Points()).generator.eval()
    samples = draw(model, Request("3", count=5))
    assert samples.png().startswith(b"\x89PNG")
    with np.load(io.BytesIO(samples.npz())) as file:
        assert file["points"].shape == (5, 2) and np.array_equal(file["points"], samples.values.numpy())
    with pytest.raises(CondgenError, match="watermark is for images"):
        encode(model, Request("3", watermark="secret"))


def test_encoding_draws_nothing_and_leaves_the_generator_as_it_was(gan_run, monkeypatch):
    model = condgen.load(gan_run)
    monkeypatch.setattr(model, "decode", None)
    requested, rows, names = encode(model, Request("3,7", count=2, sampling={"truncation": 2.0}))
    assert requested.tolist() == [3, 3, 7, 7] and rows == 2 and names == ["3", "3", "7", "7"] and model.sampling == {}
    with pytest.raises(CondgenError, match="guidance"):
        encode(model, Request("3", sampling={"guidance": 2.0}))


def test_standing_statistics_go_with_the_request_that_wanted_them():
    model = make_model("model=dcgan", "model.generator.network.width=8").generator.eval()
    with torch.no_grad():
        model.network.get_buffer(next(name for name, _ in model.network.named_buffers() if "running_mean" in name)).fill_(0.1)
    before = draw(model, Request("3", count=2))
    standing = draw(model, Request("3", count=2, sampling={"standing": 1}))
    after = draw(model, Request("3", count=2))
    assert not torch.equal(before.values, standing.values) and before.png() == after.png()
    assert standing.origin and before.origin and standing.origin.weights == before.origin.weights


@pytest.mark.parametrize(
    "value, text",
    [
        ("0-9", "0-9"),
        (3, "3"),
        ([3], "3"),
        ({"digit": 3, "colour": "red"}, "digit=3,colour=red"),
        ('{"digit": 3, "colour": "red"}', "digit=3,colour=red"),
        ('["3", 7]', '["3", "7"]'),
        ({"pet, or not": "cat=dog"}, '"pet, or not"="cat=dog"'),
    ],
)
def test_a_condition_has_one_text(value, text):
    assert written(value) == written(written(value)) == text


def test_an_empty_list_asks_for_nothing(gan_run):
    with pytest.raises(CondgenError, match="empty list"):
        condgen.load(gan_run).sample([])
