"""``condgen sample``: what it writes, from what, and what it refuses."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from command import TINY
from data.pictures import noise, png
from torchvision.io import decode_image

import condgen
from condgen.spaces import Points, to_uint8


def pixels(path):
    """Read a PNG: uint8 (C, H, W)."""
    return decode_image(str(path))


def test_a_grid_has_a_row_for_each_condition(run_condgen, gan_run, tmp_path):
    assert run_condgen("sample", gan_run, "--condition", "0-9", "--count", 4, "--out", "grid.png").code == 0
    assert pixels(tmp_path / "grid.png").shape == (3, 10 * 30 + 2, 4 * 30 + 2)
    assert run_condgen("sample", gan_run, "--condition", "3", "--count", 9, "--out", "square.png").code == 0
    assert pixels(tmp_path / "square.png").shape == (3, 3 * 30 + 2, 3 * 30 + 2)
    cell = to_uint8(condgen.load(gan_run).sample("7", 4, seed=0))  # one class alone draws other noise than ten do
    assert cell.shape == (4, 1, 28, 28)


def test_an_npz_holds_images_and_the_labels_that_were_asked_for(run_condgen, gan_run, tmp_path):
    result = run_condgen("sample", gan_run, "--condition", "0-9", "--count", 3, "--seed", 5, "--out", "deep/digits.npz")
    assert result.code == 0, result
    with np.load(tmp_path / "deep" / "digits.npz") as file:
        images, labels = file["images"], file["labels"]
    assert images.dtype == np.uint8 and images.shape == (30, 28, 28, 1)
    assert labels.tolist() == [digit for digit in range(10) for _ in range(3)]
    expected = to_uint8(condgen.load(gan_run).sample("0-9", 3, seed=5)).permute(0, 2, 3, 1)
    assert np.array_equal(images, expected.numpy())


def test_a_folder_holds_pictures_and_a_table(run_condgen, vae_run, tmp_path):
    (tmp_path / "digits").mkdir()  # an empty one may be there
    assert run_condgen("sample", vae_run, "--condition", "7,2", "--count", 2, "--out", "digits").code == 0
    rows = list(csv.DictReader((tmp_path / "digits" / "labels.csv").open()))
    assert [row["label"] for row in rows] == ["7", "7", "2", "2"]
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == sorted(
        [*(row["file"] for row in rows), "labels.csv"]
    )
    expected = to_uint8(condgen.load(vae_run).sample([7, 2], 2))
    for row, image in zip(rows, expected, strict=True):
        assert torch.equal(pixels(tmp_path / "digits" / row["file"]), image)


def test_points_are_written_as_floats_and_as_a_scatter(run_condgen, tmp_path):
    small = ("trainer.max_epochs=2", "data.source.samples=200", *TINY)
    assert run_condgen("train", "experiment=none", "data=ring", "model=gan_points", *small).code == 0
    (run,) = (tmp_path / "outputs").glob("*/*")
    assert pixels(next(run.glob("samples/*.png"))).shape == (3, Points.side, 2 * Points.side + 12)
    assert run_condgen("sample", run, "--condition", "3,1", "--count", 5, "--seed", 2, "--out", "points.npz").code == 0
    with np.load(tmp_path / "points.npz") as file:
        assert set(file) == {"points", "labels", "origin"} and file["labels"].tolist() == [3] * 5 + [1] * 5
        assert file["points"].dtype == np.float32
        assert np.array_equal(file["points"], condgen.load(run).sample([3, 1], 5, seed=2).numpy())
    assert run_condgen("sample", run, "--count", 300, "--out", "scatter.png").code == 0
    assert pixels(tmp_path / "scatter.png").shape == (3, Points.side, Points.side)
    assert "scatter.npz" in run_condgen("sample", run, "--out", "scatter").sentence()
    assert "Only images" in run_condgen("evaluate", run).sentence()
    straight = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert run_condgen("train", "experiment=none", "data=ring", "model=gan_points", *small, "trainer.max_epochs=1").code == 0
    (half,) = set((tmp_path / "outputs").glob("*/*")) - {run}
    assert run_condgen("resume", half, "trainer.max_epochs=2").code == 0
    resumed = torch.load(half / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert straight.keys() == resumed.keys() and all(torch.equal(straight[key], resumed[key]) for key in straight)


@pytest.mark.parametrize("name", ["a.png", "a.npz"])
def test_the_same_seed_gives_the_same_bytes(name, run_condgen, gan_run, tmp_path):
    files = []
    for seed in (1, 1, 2):
        assert run_condgen("sample", gan_run, "--condition", "3", "--count", 2, "--seed", seed, "--out", name).code == 0
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1] != files[2]


def test_without_a_condition_every_class_is_drawn(run_condgen, vae_run, tmp_path):
    assert run_condgen("sample", vae_run, "--count", 2, "--out", "all.npz").code == 0
    with np.load(tmp_path / "all.npz") as file:
        assert file["labels"].tolist() == [digit for digit in range(10) for _ in range(2)]


def test_python_and_the_command_draw_the_same(run_condgen, gan_run, tmp_path):
    assert run_condgen("sample", gan_run, "--condition", "3", "--count", 1, "--seed", 0, "--out", "three").code == 0
    sample = condgen.load(gan_run / "checkpoints" / "last.ckpt").sample(3, seed=0)
    assert torch.equal(pixels(tmp_path / "three" / "000000.png"), to_uint8(sample)[0])


def test_the_seed_decides_alone(gan_run):
    """Neither the global random state nor what was drawn before matters, and neither is changed."""
    model = condgen.load(gan_run)
    before = model.sample("0-9", 30, seed=4)  # more than one block
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert torch.equal(model.sample("0-9", 30, seed=4), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training


def test_the_condition_is_heard(vae_run):
    """The same noise, another class: other images. Else the label never reached the network."""
    model = condgen.load(vae_run)
    assert not torch.equal(model.sample(3, 4, seed=0), model.sample(5, 4, seed=0))


def test_no_data_set_is_needed_and_the_run_may_be_moved(run_condgen, gan_run, tmp_path, monkeypatch):
    shutil.copytree(gan_run, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "config.yaml").unlink()
    monkeypatch.setattr("condgen.data.sources.MNIST.load", None)
    assert run_condgen("sample", "elsewhere", "--condition", "3", "--count", 4, "--out", "moved.npz").code == 0
    assert run_condgen("sample", gan_run, "--condition", "3", "--count", 4, "--out", "there.npz").code == 0
    assert (tmp_path / "moved.npz").read_bytes() == (tmp_path / "there.npz").read_bytes()


def test_classes_go_by_their_names(run_condgen, tmp_path):
    for name in ("frog", "ship"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(12):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(png(noise(i, 32, 32, 3)))
    data = ("experiment=none", "model=cvae_conv", "data=folder", "data.source.path=pets", "trainer.max_epochs=1")
    result = run_condgen("train", *data, *TINY)
    assert result.code == 0, result
    (run,) = (tmp_path / "outputs").glob("*/*")
    assert run_condgen("sample", run, "--condition", "frog", "--count", 3, "--out", "frogs").code == 0
    rows = list(csv.DictReader((tmp_path / "frogs" / "labels.csv").open()))
    assert [row["label"] for row in rows] == ["frog"] * 3
    assert pixels(tmp_path / "frogs" / "000002.png").shape == (3, 32, 32)
    model = condgen.load(run)
    assert torch.equal(model.sample("frog", 3), model.sample(0, 3)) and model.condition.classes == ["frog", "ship"]
    sentence = run_condgen("sample", run, "--condition", "toad", "--out", "toads.png").sentence()
    assert all(word in sentence for word in ("'toad'", "frog", "ship")) and not (tmp_path / "toads.png").exists()


def test_an_unconditional_model(run_condgen, tmp_path):
    result = run_condgen("train", "experiment=none", "model=gan_mlp", *TINY, "trainer.max_epochs=1")
    assert result.code == 0, result
    (run,) = (tmp_path / "outputs").glob("*/*")
    assert json.loads((run / "metrics.json").read_text())["last"]["step"] == 2
    assert run_condgen("sample", run, "--count", 5, "--out", "any.npz").code == 0
    with np.load(tmp_path / "any.npz") as file:
        assert file["images"].shape == (5, 28, 28, 1) and file["labels"].tolist() == [-1] * 5
    assert run_condgen("sample", run, "--count", 5, "--out", "any.png").code == 0
    assert pixels(tmp_path / "any.png").shape == (3, 2 * 30 + 2, 3 * 30 + 2)
    assert "unconditional" in run_condgen("sample", run, "--condition", "3", "--out", "three.png").sentence()


# --- refusals ---


def damage(run, tmp_path, keep):
    """Copy a run's checkpoint, cut short or filled with something else."""
    whole = (run / "checkpoints" / "last.ckpt").read_bytes()
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(keep(whole))
    return path


@pytest.mark.parametrize(
    "arguments, word", [(["--condition", "10"], "0-9"), (["--condition", "3-1"], "3-1"), (["--device", "tpu"], "tpu")]
)
def test_a_wish_that_cannot_be_granted(arguments, word, run_condgen, gan_run, tmp_path):
    assert word in run_condgen("sample", gan_run, *arguments, "--out", "a.png").sentence()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "keep",
    [
        lambda whole: b"",
        lambda whole: whole[:1000],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: b"GIF89a",
    ],
    ids=["empty", "first kB", "half", "all but a byte", "a picture"],
)
def test_a_damaged_checkpoint(keep, run_condgen, gan_run, tmp_path):
    path = damage(gan_run, tmp_path, keep)
    assert "damaged.ckpt" in run_condgen("sample", path, "--condition", "3", "--out", "a.png").sentence()
    assert [file.name for file in tmp_path.iterdir()] == ["damaged.ckpt"]


def test_a_checkpoint_of_something_else(run_condgen, tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, tmp_path / "other.ckpt")
    assert "not a checkpoint of condgen's" in run_condgen("sample", "other.ckpt", "--out", "a.png").sentence()


def test_weights_that_do_not_fit(run_condgen, gan_run, tmp_path):
    checkpoint = torch.load(gan_run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["condgen"]["model"]["generator"]["latent"] += 1
    torch.save(checkpoint, tmp_path / "other.ckpt")
    assert "do not fit" in run_condgen("sample", "other.ckpt", "--out", "a.png").sentence()


def test_a_run_directory_without_a_checkpoint(run_condgen, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "holds no checkpoint" in run_condgen("sample", "run", "--out", "a.png").sentence()


@pytest.mark.parametrize("name", ["a.jpg", "a.tar.gz"])
def test_a_kind_of_file_that_is_not_written(name, run_condgen, gan_run, tmp_path):
    assert ".png" in run_condgen("sample", gan_run, "--out", name).sentence()
    assert not list(tmp_path.iterdir())


def test_a_full_folder_is_not_touched(run_condgen, gan_run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "labels.csv").write_text("mine")
    assert "not an empty folder" in run_condgen("sample", gan_run, "--out", "full").sentence()
    assert [(path.name, path.read_text()) for path in (tmp_path / "full").iterdir()] == [("labels.csv", "mine")]


def test_a_refused_wish_keeps_the_file_of_before(run_condgen, gan_run, tmp_path):
    (tmp_path / "a.png").write_text("mine")
    run_condgen("sample", gan_run, "--condition", "frog", "--out", "a.png").sentence()
    assert (tmp_path / "a.png").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
