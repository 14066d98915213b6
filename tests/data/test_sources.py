"""Each source: what it loads, and the sentence for each way in which its files can be wrong."""

import gzip
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from pictures import noise, png

from condgen.data.sources import CIFAR10, CIFAR100, IDX, MNIST, FashionMNIST, ImageArchive, ImageFolder, idx
from condgen.data.tables import AS_IS, Decoding
from condgen.errors import CondgenError


def fails(source, *words, decoding=AS_IS):
    with pytest.raises(CondgenError) as caught:
        source.load(decoding)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert str(word) in sentence, sentence


# ---- IDX

FILES = idx.FILES


def write_idx(root: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    root.mkdir(exist_ok=True)
    for name in FILES:
        data = images if "images" in name else labels
        header = struct.pack(f">4B{data.ndim}I", 0, 0, 8, data.ndim, *data.shape)
        (root / f"{name}.gz").write_bytes(gzip.compress(header + data.tobytes()))
    return root


def test_mnist_is_the_published_set():
    tables = MNIST().load()
    assert tables.train.images.shape == (60000, 1, 28, 28) and tables.test.images.shape == (10000, 1, 28, 28)
    assert tables.train.images.dtype == torch.uint8 and tables.train.labels.dtype == torch.int64
    assert tables.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert tables.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert tables.classes == [str(digit) for digit in range(10)]


def test_mnist_refuses_other_content(tmp_path):
    source = MNIST()
    source.root = write_idx(tmp_path / "fake", noise(0, 3, 28, 28), np.array([0, 1, 2], np.uint8))
    fails(source, FILES[0], "MD5", "6bbc9ace898e44ae57da46a324031adb")


def test_idx_reads_what_was_written(tmp_path):
    images, labels = noise(1, 4, 5, 6), np.array([1, 0, 1, 0], np.uint8)
    tables = IDX(write_idx(tmp_path / "idx", images, labels), ["a", "b"]).load()
    assert np.array_equal(tables.train.images[:, 0].numpy(), images) and tables.test.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda file: file.unlink(), ["missing"]),
        (lambda file: file.write_bytes(file.read_bytes()[:-20]), ["corrupt or truncated"]),
        (lambda file: file.write_bytes(b"nonsense"), ["corrupt or truncated"]),
        (lambda file: file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-1])), ["truncated"]),
        (lambda file: file.write_bytes(gzip.compress(b"")), ["not an IDX file"]),
    ],
)
@pytest.mark.parametrize("name", FILES[:2])
def test_idx_errors_name_the_file(tmp_path, damage, words, name):
    root = write_idx(tmp_path / "idx", noise(0, 3, 4, 4), np.zeros(3, np.uint8))
    damage(root / f"{name}.gz")
    fails(IDX(root, ["a"]), f"{name}.gz", *words)


def test_idx_refuses_labels_that_do_not_fit(tmp_path):
    fails(IDX(write_idx(tmp_path / "a", noise(0, 3, 4, 4), np.array([0, 1, 2], np.uint8)), "ab"), FILES[1], "label 2", "0..1")
    fails(IDX(write_idx(tmp_path / "b", noise(0, 3, 4, 4), np.zeros(2, np.uint8)), "ab"), FILES[1], "2 labels for 3 images")
    fails(IDX(write_idx(tmp_path / "c", noise(0, 0, 4, 4), np.zeros(0, np.uint8)), "ab"), FILES[0], "no images")


def test_fashion_mnist_takes_a_folder_debians_or_says_how_to_get_it(tmp_path, monkeypatch):
    import torchvision

    def no_network(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", no_network)
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "debian")
    fails(FashionMNIST(), "dataset-fashion-mnist", "data.source.root", "no network")
    fails(FashionMNIST(tmp_path / "nowhere"), "nowhere", "missing")
    for root in (None, write_idx(tmp_path / "debian", noise(0, 10, 28, 28), np.arange(10, dtype=np.uint8))):
        tables = FashionMNIST(root).load()
        assert len(tables.train) == 10 and tables.classes[0] == "t-shirt" and tables.classes[9] == "ankle-boot"


# ---- zips


def test_archive_keeps_every_pixel_label_and_name(make_zip):
    pictures = [noise(i, 6, 5, 3) for i in range(4)]
    path = make_zip("train.zip", pictures, [1, 0, 0, 1], classes=["frog", "ship"])
    tables = ImageArchive(path, test=path).load()
    assert np.array_equal(tables.train.images.permute(0, 2, 3, 1).numpy(), np.stack(pictures))
    assert tables.train.labels.tolist() == [1, 0, 0, 1] and tables.classes == ["frog", "ship"]
    assert torch.equal(tables.test.images, tables.train.images)


def test_archive_without_labels_is_unconditional(make_zip):
    tables = ImageArchive(make_zip("a.zip", [noise(0, 4, 4)] * 2, None)).load()
    assert tables.classes == [] and tables.train.labels.tolist() == [0, 0] and tables.train.images.shape == (2, 1, 4, 4)
    assert tables.test is None


def test_archive_without_names_numbers_its_classes(make_zip):
    assert ImageArchive(make_zip("a.zip", [noise(0, 4, 4)] * 2, [1, 0])).load().classes == ["0", "1"]


@pytest.mark.parametrize(
    "labels, index, words",
    [
        ([0, 2], {"classes": ["a", "b"]}, ["img00000001.png", "label 2", "0..1"]),
        ([0, -1], {}, ["img00000001.png", "label -1"]),
        ([0, 0.5], {}, ["img00000001.png", "label 0.5"]),
        ([0, True], {}, ["img00000001.png", "label True"]),
        ([0], {}, ["no label", "img00000001.png"]),
        ([0, 2], {}, ["no image of class 1"]),
        ([0, 0], {"classes": ["a", "b"]}, ["no image of class 1 (b)"]),
        (None, {"labels": [["ghost.png", 0]]}, ["ghost.png", "not in the zip"]),
        (None, {"labels": [3]}, ["pair"]),
        (None, {"labels": 3}, ["labels"]),
    ],
)
def test_archive_refuses_wrong_labels(make_zip, labels, index, words):
    pictures = [noise(i, 4, 4) for i in range(2)]
    path = make_zip("a.zip", pictures, labels, **{k: v for k, v in index.items() if k != "labels"})
    if "labels" in index:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("00000/img.png", png(pictures[0]))
            archive.writestr("dataset.json", json.dumps(index))
    fails(ImageArchive(path), "a.zip", *words)


def test_archive_refuses_damage(make_zip, tmp_path):
    fails(ImageArchive(tmp_path / "none.zip"), "none.zip", "does not exist")
    path = make_zip("a.zip", [noise(i, 16, 16) for i in range(3)], [0, 0, 0])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    fails(ImageArchive(path), "a.zip", "corrupt or truncated")
    at = whole.index(b"IDAT") + 30
    path.write_bytes(whole[:at] + bytes(32) + whole[at + 32 :])
    fails(ImageArchive(path), "a.zip/00000/img00000000.png", "corrupt or truncated")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png(noise(0, 4, 4)))
    fails(ImageArchive(path), "a.zip", "no dataset.json")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("dataset.json", "{")
    fails(ImageArchive(path), "dataset.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dataset.json", "{}")
    fails(ImageArchive(path), "a.zip", "no images")


def test_unequal_images_are_refused_unless_a_size_is_given(make_zip):
    path = make_zip("a.zip", [noise(0, 8, 8), noise(1, 8, 12), noise(2, 16, 8)], [0, 0, 0])
    fails(ImageArchive(path), "img00000001.png", "12x8 grey", "8x8 grey", "data.image_size")
    images = ImageArchive(path).load(Decoding(image_size=8)).train.images
    assert images.shape == (3, 1, 8, 8)
    assert np.array_equal(images[1, 0].numpy(), noise(1, 8, 12)[:, 2:10])  # the centre square, not squeezed


def test_mixed_colours_are_refused_unless_channels_are_given(make_zip):
    path = make_zip("a.zip", [noise(0, 8, 8), noise(1, 8, 8, 3)], [0, 0])
    fails(ImageArchive(path), "img00000001.png", "8x8 colour", "data.channels")
    assert ImageArchive(path).load(Decoding(channels=3)).train.images.shape == (2, 3, 8, 8)


def test_test_zip_must_match(make_zip):
    train, test = make_zip("train.zip", [noise(0, 8, 8)], [0]), make_zip("test.zip", [noise(0, 9, 9)], [0])
    fails(ImageArchive(train, test), "test.zip", "(1, 9, 9)", "data.image_size")


# ---- CIFAR


def test_cifar100_from_a_tiny_archive(make_zip):
    labels = [99 - i % 100 for i in range(200)]
    path = make_zip("train.zip", [noise(i, 32, 32, 3) for i in range(200)], labels)
    tables = CIFAR100(archive=path).load()
    assert tables.train.images.shape == (200, 3, 32, 32) and tables.train.labels.tolist() == labels
    assert len(set(tables.classes)) == 100 and tables.classes[0] == "apple" and tables.classes[99] == "worm"
    assert tables.classes == sorted(tables.classes) and tables.test is None
    make_zip("test.zip", [noise(i, 32, 32, 3) for i in range(100)], list(range(100)))
    assert len(CIFAR100(archive=path).load().test) == 100
    fails(CIFAR100(archive=make_zip("train.zip", [noise(0, 32, 32, 3)], [100])), "train.zip", "label 100", "0..99")


@pytest.mark.parametrize("source", [CIFAR10, CIFAR100])
def test_cifar_says_how_to_get_it(source, tmp_path, monkeypatch):
    import torchvision

    def no_network(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", no_network)
    fails(source(root=tmp_path / "here"), source.title, "here", "no network", "data.source.archive", "data.source.root")
    fails(source(archive=tmp_path / "none.zip"), "none.zip", "does not exist")


def test_cifar_takes_torchvisions_arrays(tmp_path, monkeypatch):
    class Published:
        def __init__(self, root, train, download):
            self.data, self.targets = noise(int(train), 10, 32, 32, 3), list(range(10))

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Published)
    tables = CIFAR10(root=tmp_path).load()
    assert np.array_equal(tables.train.images[3].permute(1, 2, 0).numpy(), noise(1, 10, 32, 32, 3)[3])
    assert tables.test.labels.tolist() == list(range(10)) and tables.classes[6] == "frog"


@pytest.mark.slow
def test_the_real_cifar10_zip():
    folder = Path(os.environ.get("CONDGEN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "cifar10"
    if not (folder / "test.zip").is_file():
        pytest.skip("no CIFAR-10 zip: set CONDGEN_DATA to the folder that holds cifar10/test.zip")
    tables = CIFAR10(archive=folder / "test.zip").load()
    assert tables.test is None  # the zip beside it is the same one
    assert tables.train.images.shape == (10000, 3, 32, 32) and tables.train.labels.bincount().tolist() == [1000] * 10
    levels = tables.train.images.transpose(0, 1).flatten(1).double().mean(1) / 255
    torch.testing.assert_close(levels, torch.tensor([0.4942, 0.4851, 0.4504]).double(), atol=2e-4, rtol=0)


# ---- folders


def test_folder_sorts_classes_and_reads_every_format(make_folder):
    grey = noise(0, 8, 8)
    root = make_folder({"dog/b.png": grey, "cat/a.bmp": grey + 1, "cat/deep/c.webp": grey, "dog/d.JPEG": grey})
    (root / "cat" / "notes.txt").write_text("no image")
    tables = ImageFolder(root).load(Decoding(channels=3))
    assert tables.classes == ["cat", "dog"] and tables.train.labels.tolist() == [0, 0, 1, 1] and tables.test is None
    assert np.array_equal(tables.train.images[0, 2].numpy(), grey + 1)
    assert np.array_equal(tables.train.images[2, 0].numpy(), grey)


def test_folder_with_a_split_of_its_own(make_folder):
    grey = noise(0, 8, 8)
    root = make_folder({"train/a/1.png": grey, "train/b/1.png": grey, "test/a/1.png": grey + 1, "test/b/1.png": grey})
    tables = ImageFolder(root).load()
    assert tables.classes == ["a", "b"] and len(tables.train) == 2
    assert np.array_equal(tables.test.images[0, 0].numpy(), grey + 1)
    shutil.rmtree(root / "test" / "b")
    fails(ImageFolder(root), "pets", "same classes", "b is in one only")
    shutil.rmtree(root / "test")
    assert ImageFolder(root).load().test is None


def test_folder_errors_name_what_is_wrong(make_folder, tmp_path):
    fails(ImageFolder(tmp_path / "none"), "none", "not a folder")
    root = make_folder({"cat/a.png": noise(0, 8, 8), "cat/b.png": noise(0, 8, 8)})
    (root / "dog").mkdir()
    fails(ImageFolder(root), root / "dog", "holds no images")
    fails(ImageFolder(root / "cat"), root / "cat", "class sub-folders")
    (root / "dog").rmdir()
    file = root / "cat" / "b.png"
    file.write_bytes(file.read_bytes()[:-30])
    fails(ImageFolder(root), file, "corrupt or truncated")
    make_folder({"cat/b.png": noise(0, 8, 8).astype(np.uint16)})
    fails(ImageFolder(root), file, "8 bits")
