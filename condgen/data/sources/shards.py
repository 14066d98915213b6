"""A set that ``condgen pack`` has written: tar files and their index, in a folder or at an address."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray

from condgen.conditions.fields import fields_from
from condgen.data.shards.checking import lost_images
from condgen.data.shards.images import Places, Set, ShardImages
from condgen.data.shards.index import Index, Members, open_members
from condgen.data.shards.store import Store, sha256
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.errors import CondgenError
from condgen.types import Positive, PositiveInt


class Shards:
    """Images in tar files, decoded when they are needed; classes, attributes and statistics come from the index.

    Args:
        path: the folder that ``condgen pack`` has written, or its address: ``https://...``, ``s3://...``.
        corrupt: what to do about shards and images that are missing or corrupt: ``"refuse"`` them when they are met, or read
            all shards once, name them, and ``"skip"`` them. Which images train and which validate does not depend on it.
        buffer: in an epoch, put the shards into a random order and then the images within each so many of them; None: all
            images at once, as sets in memory are shuffled.
        cache_gb: gigabytes of shards from an address that are kept on this machine.
    """

    def __init__(
        self,
        path: str | Path,
        corrupt: Literal["refuse", "skip"] = "refuse",
        buffer: PositiveInt | None = None,
        cache_gb: Positive = 10.0,
    ):
        self.store = Store(path, cache_gb)
        self.corrupt, self.buffer = corrupt, buffer

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load the index; raises CondgenError where it, or a shard that it lists, is missing or damaged."""
        index = self.store.index()
        self.store.check(index.members)
        records = self._members(index)
        places = Places(*(np.ascontiguousarray(records[name]) for name in ("shard", "offset", "bytes", "crc32")))
        self._check(index, records, places)
        if self.corrupt == "skip":
            places = replace(places, lost=lost_images(self.store, index, places))
        else:
            for shard in index.shards:
                self.store.check(shard)
        self._check_cache(index)
        whole = Set(self.store, index, places, decoding.image_size, decoding.channels, self.buffer)
        border = index.train.images
        train, test = (self._table(whole, records, np.arange(*ends)) for ends in ((0, border), (border, index.count)))
        return Tables(train, test if index.test else None, index.classes, fields_from(index.attributes))

    def _members(self, index: Index) -> Members:
        file = self.store.file(index.members)
        if not self.store.remote and sha256(file) != index.members.sha256:
            raise CondgenError(f"{file} is corrupt, its sha256 is not that of index.json: copy it again.")
        return open_members(file, index)

    def _check(self, index: Index, records: Members, places: Places) -> None:
        """Refuse an index that contradicts itself, whoever wrote it."""
        counted = np.bincount(places.shard, minlength=len(index.shards)).tolist()
        labels = records["label"]
        if counted != [shard.images for shard in index.shards] or not 0 <= labels.min() <= labels.max() < classes(index):
            raise CondgenError(f"{self.store.path}/members.npy contradicts index.json: pack the set again.")

    def _check_cache(self, index: Index) -> None:
        """Refuse a cache that would have to fetch the same shards again and again."""
        if not self.store.remote:
            return
        most, largest = (max(shard.images for shard in index.shards), max(shard.bytes for shard in index.shards))
        total = sum(shard.bytes for shard in index.shards)
        needed = total if self.buffer is None else min(total, 2 * (math.ceil(self.buffer / most) + 2) * largest)
        if needed > self.store.limit:
            how = "shuffles all images at once" if self.buffer is None else f"needs {needed / 1e9:.1f} GB at a time"
            raise CondgenError(
                f"data.source.buffer={'null' if self.buffer is None else self.buffer} {how}, and "
                f"data.source.cache_gb={self.store.limit / 1e9:g} holds less than the {total / 1e9:.1f} GB of the shards: set "
                "data.source.buffer to some thousand images, or data.source.cache_gb higher."
            )

    def _table(self, whole: Set, records: Members, members: NDArray[np.int64]) -> Table:
        labels = torch.from_numpy(records["label"][members].astype(np.int64))
        values = torch.from_numpy(records["values"][members]) if whole.index.attributes else None
        captions = Captions(whole, members) if whole.index.captions else None
        return Table(ShardImages(whole, members), labels, values, captions)


class Captions(Sequence[str]):
    """The captions of some images of a set, read when they are asked for.

    Args:
        whole: the set.
        members: int64 (N,), which of its images.
    """

    def __init__(self, whole: Set, members: NDArray[np.int64]):
        self.whole, self.members = whole, members

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "Captions": ...
    def __getitem__(self, row: int | slice) -> "str | Captions":
        """Return the caption of an image, or those of several."""
        if isinstance(row, slice):
            return Captions(self.whole, self.members[row])
        store, index = self.whole.store, self.whole.index
        record = open_members(store.file(index.members), index)[self.members[row]]
        start, length = int(record["text"]), int(record["text_bytes"])
        shard = index.shards[record["shard"]]
        if store.cached(shard):
            with store.file(shard).open("rb") as file:
                file.seek(start)
                return file.read(length).decode()
        return store.ranges([shard], [start], [start + length])[0].decode()


def classes(index: Index) -> int:
    """Return the number of labels."""
    return max(1, len(index.classes))
