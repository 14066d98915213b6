"""Models that start from an image, by the real commands: sampling from a picture, evaluating, going on after a kill."""

import shutil

import numpy as np
import pytest
import torch
from command import FEWER, TINY, only_run
from data.pictures import noise
from PIL import Image
from torchvision.io import decode_image

import condgen
from condgen.metrics.record import read_records
from condgen.spaces import to_float, to_uint8

SMALL = ("experiment=none", "model=pix2pix", "model.generator.network.width=8", "model.discriminator.width=8", *TINY)


@pytest.fixture(scope="module")
def inpaint_run(tmp_path_factory):
    """pix2pix after four updates; not to be changed."""
    from command import condgen as run

    root = tmp_path_factory.mktemp("inpaint")
    result = run("train", *SMALL, "condition=inpaint", "trainer.max_epochs=2", cwd=root)
    assert result.code == 0, result
    assert "--image PICTURE --count 8" in result.err
    return only_run(root)


def picture(path, side=28, alpha=None):
    """Write a picture of noise, transparent where ``alpha`` (H, W) is 0, and return its grey values."""
    grey = noise(3, side, side)
    planes = [grey, grey, grey] if alpha is None else [grey, grey, grey, alpha]
    Image.fromarray(np.stack(planes, axis=2)).save(path)
    return torch.from_numpy(grey)


def cells(path, columns):
    """Cut a grid of 28x28 images into its cells, uint8 (N, 28, 28)."""
    grid = decode_image(str(path))[0, 2:, 2:]
    return torch.stack([grid[i : i + 28, j : j + 28] for i in range(0, len(grid), 30) for j in range(0, 30 * columns, 30)])


def test_a_hole_in_a_picture_is_filled_and_the_rest_stays_as_it_is(run_condgen, inpaint_run, tmp_path):
    alpha = np.full((28, 28), 255, np.uint8)
    alpha[5:12, 3:20] = 0
    pixels, hole = picture(tmp_path / "photo.png", alpha=alpha), torch.from_numpy(alpha == 0)
    arguments = ("sample", inpaint_run, "--image", "photo.png", "--count", 8, "--out")
    assert run_condgen(*arguments, "x.png").code == 0
    start, *samples = cells(tmp_path / "x.png", 3)
    assert len(samples) == 8 and torch.equal(start[~hole], pixels[~hole]) and (start[hole] == 128).all()
    for sample in samples:
        assert torch.equal(sample[~hole], pixels[~hole]) and not torch.equal(sample[hole], pixels[hole])
    assert run_condgen(*arguments, "x.npz").code == 0
    with np.load(tmp_path / "x.npz") as file:
        assert np.array_equal(file["images"][..., 0], torch.stack(samples).numpy())
        assert file["conditions"].shape == (8, 2, 28, 28) and (file["labels"] == -1).all()
    assert run_condgen(*arguments, "x").code == 0
    assert torch.equal(decode_image(str(tmp_path / "x" / "000007.png"))[0], samples[7])
    asked = condgen.load(inpaint_run).condition.ask(
        None, torch.cat([to_float(pixels[None]), to_float(torch.from_numpy(alpha))[None]])
    )
    assert torch.equal(to_uint8(condgen.load(inpaint_run).sample(asked, 8))[:, 0], torch.stack(samples))


def test_pictures_of_any_kind_and_size(run_condgen, inpaint_run, tmp_path):
    pixels = picture(tmp_path / "opaque.png")
    assert run_condgen("sample", inpaint_run, "--image", "opaque.png", "--count", 1, "--out", "a.png").code == 0
    start, _ = cells(tmp_path / "a.png", 2)
    middle = torch.zeros(28, 28, dtype=torch.bool)
    middle[7:21, 7:21] = True
    assert torch.equal(start == 128, middle | (pixels == 128)) and torch.equal(start[~middle], pixels[~middle])
    Image.fromarray(noise(0, 90, 61)).save(tmp_path / "tall.jpg")
    paletted = Image.fromarray(noise(0, 40, 40)).convert("P")
    paletted.save(tmp_path / "paletted.gif", transparency=0)
    for name in ("tall.jpg", "paletted.gif"):
        assert run_condgen("sample", inpaint_run, "--image", name, "--count", 2, "--out", f"{name}.png").code == 0


def test_what_cannot_be_started_from_is_told_in_one_sentence(run_condgen, inpaint_run, gan_run, tmp_path):
    picture(tmp_path / "photo.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "photo.png").read_bytes()[:200])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())

    def sentence(run, *arguments):
        return run_condgen("sample", run, *arguments, "--out", "x.png").sentence()

    assert "give --image FILE" in sentence(inpaint_run)
    assert "give --image FILE" in sentence(inpaint_run, "--condition", "3")
    assert "not by '3'" in sentence(inpaint_run, "--condition", "3", "--image", "photo.png")
    assert "leave --image out" in sentence(gan_run, "--condition", "3", "--image", "photo.png")
    for name in ("absent.png", "folder"):
        assert f"--image {name} is not a file" in sentence(inpaint_run, "--image", name)
    for name in ("broken.png", "text.png"):
        assert f"{name} is not a readable image" in sentence(inpaint_run, "--image", name)
    assert "truncation" not in sentence(inpaint_run, "--image", "photo.png", "--standing", 2)  # needs conditions to draw
    assert sorted(tmp_path.iterdir()) == before


def test_a_class_and_a_picture_give_a_row_for_each_class(run_condgen, tmp_path):
    assert run_condgen("train", *SMALL, "condition=class_and_edges", "trainer.max_epochs=1", "hydra.run.dir=run").code == 0
    pixels = picture(tmp_path / "photo.png", side=28)
    arguments = ("sample", "run", "--image", "photo.png", "--count", 3, "--out", "x.png")
    assert run_condgen(*arguments, "--condition", "7,2").code == 0
    found = cells(tmp_path / "x.png", 4)
    edges = condgen.load(tmp_path / "run").condition.image.make(to_float(pixels[None, None]), torch.empty(1, 0))
    assert len(found) == 8 and torch.equal(found[0], to_uint8(edges)[0, 0]) and torch.equal(found[4], found[0])
    assert not torch.equal(found[1:4], found[5:8])
    assert run_condgen(*arguments).code == 0 and len(cells(tmp_path / "x.png", 4)) == 40  # every class
    assert run_condgen(*arguments, "--condition", "3", "--to", "5").code == 0
    assert "give --image FILE" in run_condgen("sample", "run", "--condition", "3", "--out", "y.png").sentence()
    assert "Unknown class" in run_condgen(*arguments, "--condition", "11").sentence()


def test_a_killed_run_ends_with_the_same_bits(run_condgen, inpaint_run, tmp_path):
    """Holes lie where they would have lain, in the second epoch too."""
    assert run_condgen("train", *SMALL, "condition=inpaint", "trainer.max_epochs=1", "hydra.run.dir=run").code == 0
    assert run_condgen("resume", "run", "trainer.max_epochs=2").code == 0
    straight, resumed = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (inpaint_run, tmp_path / "run")
    )
    assert straight.keys() == resumed.keys() and all(torch.equal(straight[key], resumed[key]) for key in straight)


def test_the_picture_of_training_shows_start_sample_and_real_image(inpaint_run):
    shown = decode_image(str(max(inpaint_run.glob("samples/*.png"))))
    side = 8 * 30 + 2
    assert shown.shape == (3, side, 3 * side + 24)
    start, made, real = (shown[0, :, i : i + side] for i in (0, side + 12, 2 * side + 24))
    same = start != 128
    assert torch.equal(made[same], start[same]) and torch.equal(real[same], start[same]) and not torch.equal(made, real)


def test_it_is_evaluated_beside_trivial_answers(run_condgen, inpaint_run, tmp_path):
    shutil.copytree(inpaint_run, tmp_path / "run")
    result = run_condgen("evaluate", "run", "samples=150", "split=val", "suite=[fid,l1,ssim]", FEWER)
    assert result.code == 0, result
    assert "inpaint, hole 0.5, centred False" in result.out and "training mean" in result.out
    assert "baseline (mean fill)" in run_condgen("leaderboard", "run").out
    assert (
        run_condgen("report", "run").code == 0
        and '<th class="number">mean fill</th>' in (tmp_path / "run" / "report.html").read_text()
    )


def test_of_several_tasks_one_is_measured(run_condgen, inpaint_run, tmp_path):
    without = "~condition.tasks.colorize"  # digits have no colours
    assert run_condgen("train", *SMALL, "condition=tasks", without, "trainer.max_epochs=1", "hydra.run.dir=run").code == 0
    asked = ("suite=[fid,l1]", "samples=100", "split=val")
    result = run_condgen("evaluate", "run", *asked, "task=edges")
    assert result.code == 0 and "edges" in result.out, result
    (folder,) = (tmp_path / "run" / "evaluation").glob("*-edges")
    assert read_records(folder / "metrics.json")[0].protocol.start.startswith("tasks: edges")
    assert "task=fill is none of the tasks" in run_condgen("evaluate", "run", *asked, "task=fill").sentence()
    assert "for models of several tasks" in run_condgen("evaluate", inpaint_run, *asked, "task=edges").sentence()
