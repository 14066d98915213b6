"""Sets of tags as samples, and the file that they come from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command import TINY, condgen
from config.tiny_data import write_tagged

import condgen as package
from condgen.data.sources import TaggedFeatures
from condgen.errors import CondgenError
from condgen.spaces import TagSets

SPACE = TagSets(["red", "thick", "dog"])


def test_sets_are_named_shown_and_written() -> None:
    samples = torch.tensor([[0.9, -0.1, 0.2], [-1.0, -1.0, -1.0], [0.0, 1.0, -1.0]])
    assert SPACE.texts(samples) == ["red dog", "", "thick"] and SPACE.shape == (3,)
    name, values = SPACE.export(samples)
    assert name == "tags" and values.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    picture = SPACE.grid(samples, 2)
    assert picture.shape == (3, 2 * SPACE.cell, 8 * SPACE.cell) and picture.dtype == torch.uint8
    middles = picture[0, SPACE.cell // 2 :: SPACE.cell, SPACE.cell // 2 :: SPACE.cell]
    assert (middles < 100).tolist() == [[True, False, True, False, False, False, False, False], [False, True] + [False] * 6]
    assert SPACE.file(samples) == b"red dog\n\nthick\n"
    with pytest.raises(CondgenError, match="at least two tags"):
        TagSets(["red", "red"])


def test_features_are_attributes_of_their_sets(tmp_path: Path) -> None:
    tables = TaggedFeatures(str(write_tagged(tmp_path / "a.npz"))).load()
    kept = np.load(tmp_path / "a.npz")
    assert tables.train.images[:4].tolist() == (2.0 * kept["tags"][:4] - 1).tolist()
    torch.testing.assert_close(tables.train.values, torch.from_numpy(kept["features"]))
    assert [field.name for field in tables.fields] == ["feature0", "feature1", "feature2"]


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({}, "has no features: give an .npz"),
        (
            {"features": np.ones((3, 2)), "tags": np.ones((3, 2)), "names": np.array(["a"])},
            r"not \(3, 2\), \(3, 2\) and \(1,\)",
        ),
        ({"features": np.full((3, 2), np.nan), "tags": np.ones((3, 1)), "names": np.array(["a"])}, "finite numbers"),
        ({"features": np.ones((3, 2)), "tags": np.full((3, 1), 2), "names": np.array(["a"])}, "tags 0 or 1"),
    ],
)
def test_what_is_wrong_with_the_file_is_told(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(CondgenError, match=said):
        TaggedFeatures(str(tmp_path / "a.npz")).load()
    with pytest.raises(CondgenError, match="cannot be read"):
        TaggedFeatures(str(tmp_path / "b.npz")).load()


def test_from_features_to_files_of_tags(tmp_path: Path) -> None:
    write_tagged(tmp_path / "a.npz")
    choices = ["experiment=none", "data=tagged", "data.source.file=a.npz", "model=gan_points"]
    assert condgen("train", *choices, *TINY, "hydra.run.dir=run", cwd=tmp_path).code == 0
    assert package.load(tmp_path / "run").sample("feature0=0.5,feature2=0", 3).shape == (3, 5)
    for name in ("x.png", "x.npz", "x.txt", "x"):
        assert condgen("sample", "run", "--condition", "feature0=0.5", "--count", 3, "--out", name, cwd=tmp_path).code == 0
    assert len((tmp_path / "x.txt").read_text().splitlines()) == 3 and np.load(tmp_path / "x.npz")["tags"].shape == (3, 5)
    refused = condgen("train", "data=tagged", "data.source.file=a.npz", "model=cgan_conv", *TINY, cwd=tmp_path).sentence()
    assert "set model=gan_points" in refused
