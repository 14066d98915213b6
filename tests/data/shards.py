"""A small set with everything that a set can have, in a folder and packed, for the tests of shards."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pictures import png

from condgen.conditions import ClassLabel
from condgen.data import DataModule
from condgen.data.sources import ImageTable, Shards
from condgen.pack import pack

COUNT, EACH = 60, 8
PATTERN = np.arange(10 * 12 * 3).reshape(10, 12, 3)


def write_pets(folder: Path) -> Path:
    """Write colour images of 12x10 with a class, a category, a number and a caption each."""
    folder.mkdir(parents=True)
    rows = ["file,class,smile,age,text"]
    for i in range(COUNT):
        (folder / f"{i:02d}.png").write_bytes(png(((PATTERN * (i + 1)) % 256).astype(np.uint8)))
        rows.append(f"{i:02d}.png,{'cat' if i < 30 else 'dog'},{'yes' if i % 3 else 'no'},{i / 2},pet number {i}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def pack_pets(folder: Path, out: Path, **options: Any) -> Path:
    """Pack them, eight to a shard."""
    pack(str(folder), ["data.source.caption=text"], out, **{"shard_images": EACH, "workers": 0} | options)
    return out


def module(source: ImageTable | Shards, **options: Any) -> DataModule:
    """Return a module over either, in batches of six."""
    return DataModule(source, partial(ClassLabel), **{"batch_size": 6, "split": [0.6, 0.2, 0.2], "workers": 0} | options)
