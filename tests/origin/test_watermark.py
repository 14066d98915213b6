"""The watermark: invisible, found by its key after what pictures go through, and as seldom by chance as theory says."""

import io
import math

import pytest
import torch
from PIL import Image

import condgen
from condgen.data.sources import MNIST
from condgen.errors import CondgenError
from condgen.images import Picture, decode, to_picture
from condgen.samples import Request, draw
from condgen.spaces import Images, to_float, to_uint8
from condgen.watermark import chance, find_in_picture, find_in_samples, mark


@pytest.fixture(scope="module")
def digits():
    """64 test images of MNIST, float (64, 1, 28, 28) in [-1, 1]."""
    return to_float(MNIST().load().test.images[:64])


def jpeg(picture):
    """Save as a JPEG of quality 75 and read it again."""
    file = io.BytesIO()
    to_picture(picture).save(file, "JPEG", quality=75)
    return decode(Picture("a.jpg", file.getvalue))


def test_a_cap_of_the_circle_and_of_the_sphere():
    for correlation in (0.0, 0.3, 0.9):
        assert chance(correlation, 2) == pytest.approx(math.log10(math.acos(correlation) / math.pi), abs=1e-3)
        assert chance(correlation, 3) == pytest.approx(math.log10((1 - correlation) / 2), abs=1e-3)


def test_it_is_invisible_and_stays_in_range(digits):
    moved = (to_uint8(mark(digits, "secret")).int() - to_uint8(digits).int()).abs()
    assert moved.max() <= 16 and 10 * math.log10(255**2 / moved.float().square().mean()) > 35


def test_a_grid_is_found_also_as_a_jpeg_and_smaller_for_a_while(digits):
    grid = Images((1, 28, 28)).grid(mark(digits, "secret"), 8)
    image = to_picture(grid)
    small = image.resize((image.width * 3 // 4,) * 2, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)
    scaled = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(242, 242, 3).permute(2, 0, 1)
    for picture in (grid, jpeg(grid), scaled):
        assert find_in_picture(picture, "secret").exponent < -5
        assert not find_in_picture(picture, "another").there
    assert not find_in_picture(Images((1, 28, 28)).grid(digits, 8), "secret").there


def test_a_grid_whose_rows_begin_with_what_they_start_from(digits):
    hidden = mark(digits[:56], "secret").view(8, 7, 1, 28, 28)
    cells = torch.cat([digits[56:].view(8, 1, 1, 28, 28), hidden], dim=1).flatten(0, 1)
    assert find_in_picture(Images((1, 28, 28)).grid(cells, 8), "secret").there


def test_false_alarms_are_as_many_as_theory_says(digits):
    """Of 320 searches a tenth has a probability of up to 0.1 of being chance, give or take four deviations."""
    images = to_uint8(digits)
    alarms = sum(find_in_picture(images[i % 64], f"key {i}").exponent <= -1 for i in range(320))
    assert 11 <= alarms <= 53


def test_the_mark_does_not_depend_on_how_many_are_drawn_at_a_time(digits):
    whole = mark(digits, "secret")
    assert torch.equal(torch.cat([mark(digits[:7], "secret"), mark(digits[7:], "secret", first=7)]), whole)
    assert find_in_samples(to_uint8(whole), "secret").there and not find_in_samples(to_uint8(digits), "secret").there


def test_samples_of_the_command_are_marked_and_say_so_without_the_key(run_condgen, gan_run, tmp_path):
    key = "my very own secret"
    asked = ("--condition", "3", "--count", 16, "--watermark", key)
    for name in ("a.png", "a.npz"):
        assert run_condgen("sample", gan_run, *asked, "--out", name).code == 0
        found = run_condgen("inspect", name, "--key", key, "--model", gan_run)
        assert found.code == 0 and "is there" in found.out and "the same pixels again" in found.out, found
        content = (tmp_path / name).read_bytes()
        assert key.encode() not in content and key.encode("utf-32-le") not in content
    other = run_condgen("inspect", "a.png", "--key", "another")
    assert other.code == 1 and "no watermark of this key was found" in other.err
    assert "give --key KEY" in run_condgen("inspect", "a.png", "--model", gan_run).err
    with Image.open(tmp_path / "a.png") as image:
        image.save(tmp_path / "a.jpg", quality=75)
    assert run_condgen("inspect", "a.jpg", "--key", key).code == 0
    assert "is empty" in run_condgen("inspect", "a.png", "--key", " ").sentence()


def test_what_cannot_be_marked(run_condgen, gan_run):
    assert "key of a watermark is empty" in run_condgen("sample", gan_run, "--watermark", "", "--out", "b.png").sentence()
    with pytest.raises(CondgenError, match="neither a sample"):
        find_in_picture(torch.zeros(1, 8, 8, dtype=torch.uint8), "secret")


def test_a_request_shows_no_key(gan_run):
    assert "secret" not in repr(Request("3", watermark="secret"))
    samples = draw(condgen.load(gan_run), Request("3", count=2, watermark="secret"))
    assert samples.origin is not None and samples.origin.watermark and "secret" not in samples.origin.text()
