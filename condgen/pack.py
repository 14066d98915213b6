"""``condgen pack``: any set that condgen reads, written as tar files that training reads from a disk or over a network."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import torch
from hydra import compose
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from condgen.config.build import build, plain
from condgen.config.compose import composing
from condgen.config.validate import check_node, check_section
from condgen.data.module import Channels
from condgen.data.prefetch import as_it_is, leave_signals, naming_the_killed, processors
from condgen.data.shards.index import INDEX, Index
from condgen.data.shards.writing import Job, fingerprint, finish, is_whole, jobs, mark, write_shard
from condgen.data.tables import Decoding, Source, Table, Tables
from condgen.errors import CondgenError
from condgen.files import hold, remove_leftovers, write_json
from condgen.types import PositiveInt

PLAN = "packing.json"
"""What is being packed, until it is."""


class Reading(TypedDict, total=False):
    """The keys beside the source."""

    image_size: PositiveInt | None
    channels: Channels | None


KEYS = ("data.source.", "data.image_size=", "data.channels=")
"""What may be given beside the source: how it is read. What concerns training is chosen when there is training."""


def pack(source: str, overrides: Sequence[str], out: Path, shard_images: int = 4096, workers: int | None = None) -> str:
    """Write ``source`` as shards, or go on where an earlier call was stopped, and return what there is now.

    Args:
        source: a choice of ``conf/data``, such as ``mnist``; or a folder of images, a table in a folder, a zip or an .npz.
        overrides: keys below ``data.source``, ``data.image_size`` and ``data.channels``, as in ``condgen train``.
        out: a new folder, or one that the same call has begun.
        shard_images: images in each shard.
        workers: processes; None: one for each processor.

    Raises:
        CondgenError: there is something else in the folder, or the source cannot be read; finished shards stay.
    """
    out = out.absolute()
    refuse_foreign(out)
    node, decoding = settings(source, overrides)
    tables = read_npz(Path(source)) if node is None else load(node, decoding)
    if not all(len(table.images.shape) == 4 for table in (tables.train, tables.test) if table):
        raise CondgenError(f"{source} has points, which take few bytes: shards are for images.")
    if tables.words:
        raise CondgenError(f"{source} has tags, which shards do not keep: leave out data.source.tags.")
    todo = jobs(tables, shard_images)
    plan = {
        "source": source if node is None else node,
        "image_size": decoding.image_size,
        "channels": decoding.channels,
        "shard_images": shard_images,
        "content": fingerprint(tables),
    }
    with begun(out, plan) as lock:
        left = [job for job in tqdm(todo, "looking at shards", leave=False, delay=2, disable=None) if not is_whole(out, job)]
        with telling(out, todo):
            write(out, left, tables, processors() if workers is None else workers, lock)
            index = finish(out, todo, tables, source)
        for job in todo:
            mark(out, job).unlink()
        (out / PLAN).unlink()
    return summary(index, out)


@contextmanager
def telling(out: Path, todo: Sequence[Job]) -> Iterator[None]:
    """Say how much is finished where writing ends early."""
    try:
        yield
    except (KeyboardInterrupt, CondgenError) as error:
        count = sum(mark(out, job).exists() for job in todo)
        done = f"{count} of {len(todo)} shards are finished, the same command goes on"
        if isinstance(error, KeyboardInterrupt):
            print(f"condgen: {done}.", file=sys.stderr)
            raise
        raise CondgenError(f"{str(error).rstrip('.')}; {done}.") from error


def settings(source: str, overrides: Sequence[str]) -> tuple[dict[str, Any] | None, Decoding]:
    """Return the node of the source, None for an .npz, and how its images are to be decoded."""
    for override in overrides:
        if not override.lstrip("+").startswith(KEYS):
            raise CondgenError(
                f"{override} is not about how images are read: condgen pack takes data.source.KEY=VALUE, data.image_size=N and "
                "data.channels=1 or 3; the rest is chosen when you train."
            )
    path = Path(source)
    if path.suffix == ".npz":
        if overrides:
            raise CondgenError(f"{source} is read as it is: leave out {overrides[0]}.")
        return None, Decoding(later=True)
    chosen, where = source, []
    if path.is_dir() or path.suffix == ".zip" or os.sep in source:
        chosen = "archive" if path.suffix == ".zip" else "table" if (path / "labels.csv").is_file() else "folder"
        where = [f"data.source.path='{source}'"]
    arguments = [f"data={chosen}", *where, *overrides]
    with composing(arguments, "evaluate"):
        tree = compose("evaluate", arguments)
        data = plain(OmegaConf.create({"data": {key: tree.data[key] for key in ("source", "image_size", "channels")}}))["data"]
    check_node("data.source", data["source"])
    check_section("data", {key: data[key] for key in ("image_size", "channels")}, Reading)
    return data["source"], Decoding(data["image_size"], data["channels"], later=True)


def load(node: dict[str, Any], decoding: Decoding) -> Tables:
    """Load what a node of the configuration describes, image files undecoded."""
    source: Source = build("data.source", node)
    return source.load(decoding)


def read_npz(path: Path) -> Tables:
    """Read an .npz of images and labels, as ``condgen sample`` writes them; classes are called 0, 1, ..."""
    from condgen.evaluate import read_npz as read

    images, labels = read(path)
    if labels is None:
        return Tables(Table(images, torch.zeros(len(images), dtype=torch.int64)), None, [])
    if int(labels.min()) < 0:
        raise CondgenError(f"{path}: label {int(labels.argmin())} is negative: labels are the places of classes, from 0.")
    return Tables(Table(images, labels), None, [str(label) for label in range(int(labels.max()) + 1)])


def refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds anything but a packing that was stopped; raises CondgenError."""
    if out.exists() and not out.is_dir():
        raise CondgenError(f"--out {out} is a file: name a new folder.")
    if (out / PLAN).is_file():
        return
    if (out / INDEX).is_file():
        raise CondgenError(f"--out {out} holds a finished set of shards already: name a new folder, nothing was overwritten.")
    if out.is_dir() and any(out.iterdir()):
        raise CondgenError(f"--out {out} is not empty: name a new folder, nothing was overwritten.")


@contextmanager
def begun(out: Path, plan: dict[str, Any]) -> Iterator[int]:
    """Hold the folder against other processes, with the plan in it, and yield what holds it.

    Raises:
        CondgenError: another process has it, or it has another plan.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = hold(out, f"--out {out} is being written by another condgen pack: wait for it.")
    except OSError as error:
        raise CondgenError(f"--out {out} cannot be written to ({error.strerror}): choose another place.") from error
    try:
        if not (out / PLAN).is_file():
            write_json(out / PLAN, plan)
        elif (known := json.loads((out / PLAN).read_text(encoding="utf-8"))) != plan:
            key = next(key for key in plan if known.get(key) != plan[key])
            raise CondgenError(
                f"--out {out} holds a part of another packing, its {key} differs: repeat that command, or name a new folder."
            )
        remove_leftovers(out)
        yield descriptor
    finally:
        os.close(descriptor)


class Writing(Dataset[CondgenError | None]):
    """Writes shards, in the workers of a loader: they end when the command is killed.

    Args:
        out: the folder.
        todo: the shards.
        tables: the set.
    """

    def __init__(self, out: Path, todo: list[Job], tables: Tables):
        self.out, self.todo, self.tables = out, todo, tables

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, place: int) -> CondgenError | None:
        """Write a shard; an error is handed over, since raised it would lose its sentence on the way."""
        try:
            write_shard(self.out, self.todo[place], self.tables)
        except CondgenError as error:
            return error
        return None


def write(out: Path, todo: list[Job], tables: Tables, workers: int, lock: int) -> None:
    """Write shards, several at a time; raises CondgenError where one cannot be written."""

    def begin(worker: int) -> None:
        leave_signals(worker)
        os.close(lock)  # it is held by the command alone, however that ends

    workers = min(workers, len(todo)) if len(todo) > 1 else 0
    loader = DataLoader(
        Writing(out, todo, tables),
        batch_size=None,
        num_workers=workers,
        collate_fn=as_it_is,
        worker_init_fn=begin,
        prefetch_factor=1 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )
    with naming_the_killed("A process that writes shards was killed, maybe for want of memory: try fewer --workers."):
        for error in tqdm(loader, "writing shards", leave=False, delay=2, disable=None):
            if error is not None:
                raise error


def summary(index: Index, out: Path) -> str:
    """Say what was written."""
    size = sum(shard.bytes for shard in index.shards)
    amount = f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    parts = f"{index.train.images:,}" + (f" training and {index.test.images:,} test" if index.test else "") + " images"
    return f"{parts} in {len(index.shards)} shards, {amount}: condgen train data=shards data.source.path={out}"
