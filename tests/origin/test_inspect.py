"""What files say of where they come from, and ``condgen inspect``, which reads it and makes the same pixels again."""

import io
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from recipes import make_model

from condgen.conditions import Inpaint
from condgen.errors import CondgenError
from condgen.files import save_png
from condgen.origin import Origin

ASKED = ("--condition", "3,7", "--count", 2, "--seed", 5, "--truncation", 1.5)
FILES = ("a.png", "a.npz", "digits/000003.png")
GOOD = {
    **{"generated": True, "version": "0.1.0", "model": "GAN", "weights": "ab", "condition": "3", "to": None, "image": None},
    **{"count": 2, "seed": 0, "sampling": {}, "watermark": False, "index": None},
}


@pytest.fixture(scope="module")
def written(gan_run, tmp_path_factory):
    """A folder with files of the same samples, a grid, an .npz and a folder, of this checkpoint."""
    from command import condgen

    folder = tmp_path_factory.mktemp("written")
    for name in ("a.png", "a.npz", "digits"):
        assert condgen("sample", gan_run, *ASKED, "--out", name, cwd=folder).code == 0
    return folder


@pytest.fixture
def said(tmp_path):
    """Return ``said(text)``, a PNG with metadata of this text, and what `read` makes of it."""

    def write(text, compressed=False):
        chunks = PngInfo()
        chunks.add_text("condgen", text, zip=compressed)
        Image.new("L", (28, 28)).save(tmp_path / "said.png", pnginfo=chunks)
        return tmp_path / "said.png"

    return write


def test_a_file_says_which_weights_made_it_asked_for_what_and_nothing_of_the_user(written, gan_run):
    with Image.open(written / "a.png") as image:
        texts = dict(image.text)
    origin = json.loads(texts["condgen"])
    assert origin["generated"] is True and origin["condition"] == "3,7" and origin["index"] is None
    assert (origin["count"], origin["seed"], origin["sampling"]) == (2, 5, {"truncation": 1.5})
    assert len(origin["weights"]) == 64 and texts["Software"] == f"condgen {origin['version']}"
    packet = ElementTree.fromstring(texts["XML:com.adobe.xmp"].split("?>", 1)[1].rsplit("<?", 1)[0])
    (source,) = (value for element in packet.iter() for name, value in element.items() if "DigitalSourceType" in name)
    assert source.endswith("/trainedAlgorithmicMedia")
    with np.load(written / "a.npz") as file:
        assert json.loads(str(file["origin"])) == origin
    with Image.open(written / "digits" / "000003.png") as image:
        assert json.loads(image.text["condgen"]) == origin | {"index": 3}
    for name in FILES:
        content = (written / name).read_bytes()
        private = (str(gan_run), gan_run.name, str(written), str(Path.home()))
        assert not any(word.encode() in content or word.encode("utf-32-le") in content for word in private)
    assert texts.keys() == {"Software", "Description", "XML:com.adobe.xmp", "condgen"} and origin.keys() == GOOD.keys()


def test_without_metadata_the_pixels_are_the_same_and_nothing_is_said(written, run_condgen, gan_run, tmp_path):
    assert run_condgen("sample", gan_run, *ASKED, "--no-metadata", "--out", "a.png").code == 0
    with Image.open(tmp_path / "a.png") as bare, Image.open(written / "a.png") as image:
        assert bare.text == {} and bare.tobytes() == image.tobytes()
    assert "no metadata of condgen's" in run_condgen("inspect", "a.png").sentence()


@pytest.mark.parametrize("name", FILES)
def test_the_same_pixels_are_made_again(name, written, run_condgen, gan_run):
    result = run_condgen("inspect", written / name, "--model", gan_run)
    assert result.code == 0, result
    assert "asked for    3,7\n" in result.out and "truncation 1.5" in result.out and "makes the same pixels again" in result.out


def test_a_changed_pixel_is_counted(written, run_condgen, gan_run, tmp_path):
    with Image.open(written / "digits" / "000003.png") as image:
        chunks = PngInfo()
        chunks.add_text("condgen", image.text["condgen"])
        image.putpixel((4, 5), (image.getpixel((4, 5)) + 100) % 256)
        image.save(tmp_path / "changed.png", pnginfo=chunks)
    result = run_condgen("inspect", "changed.png", "--model", gan_run)
    assert result.code == 1 and "1 of 784 differ, by up to 1" in result.err and result.err.count("\n") == 1


def test_other_weights_are_told_before_anything_is_drawn(written, run_condgen, gan_run, tmp_path):
    checkpoint = torch.load(gan_run / "checkpoints" / "last.ckpt", weights_only=True)
    next(value for name, value in checkpoint["state_dict"].items() if name.startswith("generator."))[0] += 1
    torch.save(checkpoint, tmp_path / "other.ckpt")
    result = run_condgen("inspect", written / "a.png", "--model", "other.ckpt")
    assert result.code == 1 and "other weights than those of other.ckpt: sha256 " in result.err


def test_samples_that_start_from_a_picture_need_it(run_condgen, tmp_path):
    model = make_model("model=pix2pix", condition=Inpaint((1, 28, 28)))
    torch.save({"condgen": model.recipe, "state_dict": model.state_dict(), "global_step": 0}, tmp_path / "inpaint.ckpt")
    for name, level in (("start.png", 50), ("other.png", 51)):
        save_png(tmp_path / name, torch.full((1, 28, 28), level, dtype=torch.uint8))
    assert run_condgen("sample", "inpaint.ckpt", "--image", "start.png", "--count", 2, "--out", "filled.png").code == 0
    again = ("inspect", "filled.png", "--model", "inpaint.ckpt")
    assert "give --image FILE" in run_condgen(*again).err
    assert "other.png is another picture" in run_condgen(*again, "--image", "other.png").err
    assert run_condgen(*again, "--image", "start.png").code == 0


# --- wrong use, and files that somebody has made on purpose ---


def test_what_is_no_file_of_samples(run_condgen, tmp_path):
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "folder").mkdir()
    chunks = PngInfo()
    chunks.add_text("Software", "GIMP \x1b[31m")
    Image.new("L", (28, 28)).save(tmp_path / "gimp.png", pnginfo=chunks)
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    (tmp_path / "cut.png").write_bytes((tmp_path / "gimp.png").read_bytes()[:60])
    wrong = {"none.png": "no file", "text.txt": "neither", "folder": "folder", "gimp.png": "it names GIMP ?[31m"}
    for name, word in (wrong | {"other.npz": "neither images nor points", "cut.png": "cut.png"}).items():
        assert word in run_condgen("inspect", name).sentence(), name


@pytest.mark.parametrize(
    "change",
    [
        *({"generated": False}, {"count": 0}, {"count": True}, {"count": 10**400}, {"index": -1}, {"seed": "0"}, {"more": 1}),
        *({"sampling": {"self": 1}}, {"sampling": {"steps": [1]}}, {"sampling": 3}, {"condition": 3}, {"weights": None}),
    ],
    ids=str,
)
def test_damaged_metadata(change):
    assert Origin.read(json.dumps(GOOD), "a.png").model == "GAN"
    with pytest.raises(CondgenError, match=r"a\.png has metadata .* damaged"):
        Origin.read(json.dumps(GOOD | change), "a.png")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "{}" + " " * 2**20, "NaN"], ids=lambda text: text[:2])
def test_metadata_that_are_none(text, said, run_condgen):
    assert "damaged" in run_condgen("inspect", said(text)).sentence()


def test_a_bomb_of_text_does_not_burst(said, run_condgen):
    assert "damaged" in run_condgen("inspect", said("x" * 10**7, compressed=True)).sentence()


def test_a_pickle_in_an_npz_is_not_loaded(run_condgen, tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    for name in ("origin", "images"):
        content = {"images": np.zeros((1, 28, 28, 1), np.uint8), "origin": np.array(json.dumps(GOOD))}
        np.savez(tmp_path / "a.npz", **(content | {name: np.array([Bomb()], dtype=object)}))
        (tmp_path / "executed").unlink(missing_ok=True)
        assert "a.npz" in run_condgen("inspect", "a.npz").sentence() and not (tmp_path / "executed").exists()


def test_an_npz_that_promises_more_than_it_holds(run_condgen, tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 28, 28, 1)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", head.getvalue())
    assert "cut short" in run_condgen("inspect", "a.npz").sentence()


@pytest.mark.parametrize(
    "change, word",
    [
        ({"count": 10**9}, "it is too large here"),
        ({"count": 9}, "does not hold the 9 samples"),
        ({"index": 5}, "does not hold"),
        ({"sampling": {"standing": 10**9}}, "1000 steps"),
        ({"sampling": {"standing": "x"}}, "standing must be a positive number"),
        ({"condition": "\x1b[31m"}, "Unknown class"),
    ],
    ids=str,
)
def test_metadata_that_ask_for_too_much(change, word, said, run_condgen, gan_run, written):
    with Image.open(written / "a.png") as image:
        weights = json.loads(image.text["condgen"])["weights"]
    result = run_condgen("inspect", said(json.dumps(GOOD | {"weights": weights} | change)), "--model", gan_run)
    assert result.code == 1 and word in result.err and "\x1b" not in result.out + result.err, result
