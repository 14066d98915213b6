"""Writing shards: each by itself, in any process, with the same bytes whoever writes it and whenever."""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.conditions.fields import Category, Field
from condgen.data.shards.index import INDEX, MEMBERS, Index, Members, Shard, member_type
from condgen.data.shards.index import Part as IndexPart
from condgen.data.shards.index import Table as MembersTable
from condgen.data.shards.store import sha256
from condgen.data.tables import Table, Tables
from condgen.files import replacing, write_text
from condgen.images import Picture, decode, to_png
from condgen.randomness import generator

HEADER = tarfile.BLOCKSIZE
"""Bytes between the beginning of a tar member and those of its file, as its name is short."""
FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Kinds of files that are taken over as they are, by Pillow's names, with their endings; pixels of others become PNGs."""


@dataclass(frozen=True, eq=False)
class Job:
    """A shard that is to be written.

    Attributes:
        file: its name.
        part: ``"train"`` or ``"test"``.
        rows: int64 (n,), the images of that part that it holds.
    """

    file: str
    part: str
    rows: NDArray[np.int64]


def jobs(tables: Tables, size: int) -> list[Job]:
    """Share the images out among shards of ``size`` at random, always alike, so that each shard is like the whole set."""
    found = []
    for part, table in parts(tables).items():
        order = torch.randperm(len(table), generator=generator("shards", part, len(table))).numpy()
        for number, start in enumerate(range(0, len(table), size)):
            found.append(Job(f"{part}-{number:06d}.tar", part, np.sort(order[start : start + size])))
    return found


def parts(tables: Tables) -> dict[str, Table]:
    """Return the training part, and the test part if there is one, by their names."""
    return {"train": tables.train} | ({"test": tables.test} if tables.test else {})


def write_shard(folder: Path, job: Job, tables: Tables) -> None:
    """Write a shard, and beside it the records of its images: the mark that it is whole.

    Raises:
        CondgenError: an image cannot be read, or the shard cannot be written.
    """
    table = parts(tables)[job.part]
    records = np.zeros(len(job.rows), member_type(3, len(tables.fields)))
    shapes = np.zeros((len(job.rows), 3), np.int64)
    with replacing(folder / job.file) as draft, tarfile.open(draft, "w", format=tarfile.USTAR_FORMAT) as tar:
        for record, shape, row in zip(records, shapes, job.rows.tolist(), strict=True):
            name = f"{row:09d}"
            ending, content, pixels = encoded(table.images, row)
            record["offset"], record["bytes"] = added(tar, f"{name}.{ending}", content)
            record["crc32"] = zlib.crc32(content)
            record["label"] = table.labels[row]
            record["moments"][: len(pixels)] = moments(pixels)
            shape[:] = pixels.shape
            if tables.classes:
                added(tar, f"{name}.cls", str(int(table.labels[row])).encode())
            if table.values is not None:
                record["values"] = table.values[row].numpy()
                added(tar, f"{name}.json", json.dumps(spelled(tables.fields, table.values[row])).encode())
            if table.captions is not None:
                record["text"], record["text_bytes"] = added(tar, f"{name}.txt", table.captions[row].encode())
    size, digest = (folder / job.file).stat().st_size, sha256(folder / job.file)
    with replacing(mark(folder, job)) as draft, draft.open("wb") as file:
        np.savez(file, records=records, shapes=np.unique(shapes, axis=0), bytes=size, sha256=digest)


def encoded(images: Any, row: int) -> tuple[str, bytes, Tensor]:
    """Return the ending and the bytes of an image's file, and its pixels, uint8 (C, H, W)."""
    content = None if isinstance(images, Tensor) else images.file(row)
    if content is not None:
        from PIL import Image

        pixels = decode(Picture(images.name(row), lambda: content))
        with Image.open(io.BytesIO(content)) as opened:
            if ending := FORMATS.get(opened.format or ""):
                return ending, content, pixels
    else:
        pixels = images[row]
    return "png", to_png(pixels), pixels


def added(tar: tarfile.TarFile, name: str, content: bytes) -> tuple[int, int]:
    """Add a file, and return where its bytes begin and how many they are."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644  # and neither time nor user
    start = tar.offset + HEADER
    tar.addfile(entry, io.BytesIO(content))
    return start, len(content)


def moments(pixels: Tensor) -> NDArray[np.uint64]:
    """Return sums of the levels of each channel and of their squares, (C, 2), of uint8 pixels (C, H, W)."""
    levels = pixels.flatten(1).long()
    return torch.stack([levels.sum(1), (levels**2).sum(1)], dim=1).numpy().astype(np.uint64)


def spelled(fields: list[Field], values: Tensor) -> dict[str, str | float]:
    """Return the attributes of an image by their names, values (F,) in words where they have some."""
    pairs = zip(fields, values.tolist(), strict=True)
    return {field.name: field.values[int(value)] if isinstance(field, Category) else value for field, value in pairs}


def mark(folder: Path, job: Job) -> Path:
    """Return the file that is beside a shard from when it is whole until the index is written."""
    return folder / f"{job.file}.npz"


def is_whole(folder: Path, job: Job) -> bool:
    """Whether a shard was written, and is still what was written."""
    file = folder / job.file
    try:
        with np.load(mark(folder, job), allow_pickle=False) as known:
            return file.stat().st_size == int(known["bytes"]) and sha256(file) == str(known["sha256"])
    except (OSError, ValueError, KeyError, EOFError):
        return False


def finish(folder: Path, todo: list[Job], tables: Tables, source: str) -> Index:
    """Write ``members.npy`` and then ``index.json``, which makes the folder a set; every shard is whole."""
    shapes = {tuple(shape) for job in todo for shape in marked(folder, job)["shapes"].tolist()}
    shape = list(shapes.pop()) if len(shapes) == 1 else None
    count = sum(len(job.rows) for job in todo)
    kind = member_type(shape[0] if shape else 0, len(tables.fields))
    shards = []
    with replacing(folder / MEMBERS) as draft:
        members = np.lib.format.open_memmap(draft, mode="w+", dtype=kind, shape=(count,))
        for number, (job, known) in enumerate((job, marked(folder, job)) for job in todo):
            place = job.rows + (len(tables.train) if job.part == "test" else 0)
            members[place] = narrowed(known["records"], kind)
            members["shard"][place] = number
            shards.append(Shard(file=job.file, images=len(job.rows), bytes=int(known["bytes"]), sha256=str(known["sha256"])))
        members.flush()
    file = folder / MEMBERS
    counted = {name: known_part(table, len(tables.classes)) for name, table in parts(tables).items()}
    index = Index(
        format="condgen-shards-1",
        source=source,
        shape=shape,
        classes=tables.classes,
        attributes={field.name: field.config() for field in tables.fields},
        captions=tables.train.captions is not None,
        train=counted["train"],
        test=counted.get("test"),
        shards=shards,
        members=MembersTable(file="members.npy", bytes=file.stat().st_size, sha256=sha256(file)),
    )
    write_text(folder / INDEX, index.model_dump_json(indent=1) + "\n")
    return index


def marked(folder: Path, job: Job) -> Mapping[str, Any]:
    """Return what `write_shard` has noted of a shard."""
    with np.load(mark(folder, job), allow_pickle=False) as known:
        return {name: known[name] for name in known.files}


def narrowed(records: Members, kind: np.dtype[np.void]) -> Members:
    """Return records of a type with fewer channels, or without sums."""
    found = np.zeros(len(records), kind)
    for name in kind.names or ():
        found[name] = records[name][:, : kind["moments"].shape[0]] if name == "moments" else records[name]
    return found


def known_part(table: Table, classes: int) -> IndexPart:
    """Count the images of a part."""
    return IndexPart(images=len(table), counts=torch.bincount(table.labels, minlength=max(1, classes)).tolist())


def fingerprint(tables: Tables) -> str:
    """Hash all of a set but its pixels, 24 hexadecimal digits: what must not change while it is packed."""
    digest = hashlib.blake2b(digest_size=12)
    for piece in identity(tables):
        digest.update(piece)
    return digest.hexdigest()


def identity(tables: Tables) -> Iterator[bytes]:
    """Yield what a set is, but for its pixels."""
    yield repr((tables.classes, [(field.name, field.config()) for field in tables.fields])).encode()
    for table in parts(tables).values():
        yield repr(tuple(table.images.shape)).encode()
        yield table.labels.numpy().tobytes()
        yield b"" if table.values is None else table.values.numpy().tobytes()
        yield from () if isinstance(table.images, Tensor) else (table.images.name(row).encode() for row in range(len(table)))
        yield from (caption.encode() for caption in table.captions or ())
