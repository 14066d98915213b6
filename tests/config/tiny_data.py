"""The data sets of conf/ for tests: the real MNIST, and tiny files for what does not ship with condgen."""

import gzip
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from data.pictures import noise, png
from data.recordings import tone, wav, write_recordings

from condgen.data.sources.idx import FILES
from condgen.pack import pack


def write_zip(path: Path, side: int, channels: int, classes: int, each: int) -> Path:
    """Write an archive in EDM's layout."""
    labels = [i % classes for i in range(classes * each)]
    names = [f"00000/img{i:08d}.png" for i in range(len(labels))]
    pixels = noise(0, len(labels), side, side, channels)
    with zipfile.ZipFile(path, "w") as archive:
        for name, image in zip(names, pixels, strict=True):
            archive.writestr(name, png(image if channels == 3 else image[:, :, 0]))
        archive.writestr("dataset.json", json.dumps({"labels": [list(pair) for pair in zip(names, labels, strict=True)]}))
    return path


def write_idx(root: Path) -> Path:
    """Write the four files of an MNIST-like set."""
    root.mkdir()
    for name in FILES:
        values = noise(0, 80, 28, 28) if "images" in name else np.arange(80, dtype=np.uint8) % 10
        header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
        (root / f"{name}.gz").write_bytes(gzip.compress(header + values.tobytes()))
    return root


def write_folder(root: Path) -> Path:
    """Write grey images of 28x28 in two class sub-folders."""
    for name in ("frog", "ship"):
        (root / name).mkdir(parents=True)
        for i in range(12):
            (root / name / f"{i}.png").write_bytes(png(noise(i, 28, 28)))
    return root


def write_table(root: Path) -> Path:
    """Write grey images of 28x28 with a table of a category and a number."""
    root.mkdir()
    for i in range(24):
        (root / f"{i}.png").write_bytes(png(noise(i, 28, 28)))
    (root / "labels.csv").write_text(
        "file,smile,age\n" + "".join(f"{i}.png,{'yes' if i % 3 else 'no'},{i / 2}\n" for i in range(24))
    )
    return root


def write_shards(root: Path) -> Path:
    """Write grey images of 28x28 in tar files."""
    pack(str(write_folder(root.with_name("source"))), [], root, shard_images=8, workers=0)
    return root


def write_sounds(root: Path) -> Path:
    """Write tones in two class sub-folders."""
    for name, pitch in (("high", 900.0), ("low", 200.0)):
        (root / name).mkdir(parents=True)
        for i in range(12):
            (root / name / f"{i}.wav").write_bytes(wav(tone(pitch + i, 0.2, 8000)))
    return root


def write_texts(path: Path) -> Path:
    """Write a table of short texts of two kinds."""
    lines = [f"the {('cat', 'dog')[i % 2]} sees a {('bird', 'tree', 'house')[i % 3]}, {i} times." for i in range(40)]
    path.write_text("text,kind\n" + "".join(f'"{line}",{("cats", "dogs")[i % 2]}\n' for i, line in enumerate(lines)))
    return path


def write_songci(path: Path, tunes: tuple[str, ...] = ("丙", "甲・乙")) -> Path:
    """Write poems in the layout of songci.jsonl.gz."""
    lines = ["春风又绿，明月何时还。", "一江秋水，西风向东流。", "空山不见人。"]  # a word that nearly each text holds is none
    poems = [{"tune": tunes[i % len(tunes)], "author": "某" if i % 3 else "佚", "lines": [lines[i % 3]]} for i in range(40)]
    path.write_bytes(gzip.compress("\n".join(json.dumps(poem, ensure_ascii=False) for poem in poems).encode()))
    return path


def write_tagged(path: Path) -> Path:
    """Write sets of five tags for features of three numbers."""
    stream = np.random.default_rng(0)
    features, names = stream.normal(size=(60, 3)).astype(np.float32), np.array(["red", "thick", "dog", "cat", "beach"])
    np.savez(path, features=features, tags=stream.random((60, 5)) < 0.4, names=names)
    return path


FEW_DIGITS = ["data.classes=[3,7]", "data.imbalance={3: 200, 7: 200}"]
"""Fewer images to resize where a model wants them larger, and to look at where it looks at all."""
TINY_DATA: dict[str, Callable[[Path], list[str]]] = {
    "audio": lambda root: [
        f"data.source.path={write_sounds(root / 'sounds')}",
        *("data.source.space.rate=8000", "data.source.space.seconds=0.256", "data.source.space.bands=32"),
        *("data.source.space.fft=256", "data.source.space.hop=64"),
    ],
    "archive": lambda root: [f"data.source.path={write_zip(root / 'a.zip', 32, 1, 2, 12)}"],
    "cifar10": lambda root: [f"data.source.archive={write_zip(root / 'c10.zip', 32, 3, 10, 4)}", "data.split=[0.5,0.25,0.25]"],
    "cifar100": lambda root: [
        f"data.source.archive={write_zip(root / 'c100.zip', 32, 3, 100, 4)}",
        "data.split=[0.5,0.25,0.25]",
    ],
    "fashion_mnist": lambda root: [f"data.source.root={write_idx(root / 'idx')}", "data.split=[0.5,0.25,0.25]"],
    "folder": lambda root: [f"data.source.path={write_folder(root / 'folder')}"],
    "mnist": lambda root: FEW_DIGITS,
    "mnist_attributes": lambda root: ["data.source.samples=400", "data.split=40"],
    "ring": lambda root: ["data.source.samples=400"],
    "shards": lambda root: [f"data.source.path={write_shards(root / 'shards')}"],
    "spoken_digits": lambda root: [
        f"data.source.path={write_recordings(root / 'recordings.zip', 3, 2, 6)}",
        *("data.split=6", "data.source.test_takes=1", "data.source.space.seconds=0.512", "data.source.space.bands=32"),
    ],
    "songci": lambda root: [f"data.source.file={write_songci(root / 'songci.jsonl.gz')}", "data.split=[0.5,0.25,0.25]"],
    "table": lambda root: [f"data.source.path={write_table(root / 'table')}"],
    "tagged": lambda root: [f"data.source.file={write_tagged(root / 'tagged.npz')}"],
    "text": lambda root: [f"data.source.file={write_texts(root / 'texts.csv')}", "data.source.length=64"],
}
SHAPES = {
    "archive": (1, 32, 32),
    "audio": (1, 32, 32),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "fashion_mnist": (1, 28, 28),
    "folder": (1, 28, 28),
    "mnist": (1, 28, 28),
    "mnist_attributes": (3, 28, 28),
    "ring": (2,),
    "shards": (1, 28, 28),
    "spoken_digits": (1, 32, 32),
    "songci": (256,),
    "table": (1, 28, 28),
    "tagged": (5,),
    "text": (64,),
}
