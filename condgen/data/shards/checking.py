"""A pass over all shards that finds what is missing or corrupt, once: what it found is kept in the cache folder."""

import json
import logging
import os
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from condgen.data import cache
from condgen.data.shards.images import Places, in_part
from condgen.data.shards.index import Index, Shard
from condgen.data.shards.store import Lost, Store, sha256
from condgen.files import write_json

NAMED = 5
"""Images of a shard that are named; of the others it is said how many they are."""
log = logging.getLogger(__name__)


def lost_images(store: Store, index: Index, places: Places) -> NDArray[np.bool_] | None:
    """Return which images of both parts cannot be read, bool (N,), and name them; None where all can.

    Of a shard in a folder it is the images whose bytes are not those that were packed, of one at an address all images.
    """
    stamps = [] if store.remote else [cache.stamp(store.folder / shard.file) for shard in index.shards if exists(store, shard)]
    file = cache.folder() / "shards" / f"{cache.name('lost', store.path, index.members.sha256, stamps)}.json"
    with cache.locked(file):
        if file.is_file():
            known: list[int] = json.loads(file.read_text(encoding="utf-8"))
        else:
            known = find(store, index, places)
            write_json(file, known)
    if not known:
        return None
    lost = np.zeros(index.count, np.bool_)
    lost[known] = True
    for number in np.unique(places.shard[lost]).tolist():
        tell(store, index, number, np.flatnonzero(lost & (places.shard == number)).tolist())
    return lost


def exists(store: Store, shard: Shard) -> bool:
    """Whether a shard is in the folder."""
    return (store.folder / shard.file).is_file()


def find(store: Store, index: Index, places: Places) -> list[int]:
    """Read every shard, some at a time, and return the images that cannot be read, in ascending order."""
    members = np.split(places.shard.argsort(kind="stable"), np.cumsum([shard.images for shard in index.shards])[:-1])
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda shard, some: damaged(store, shard, some, places), index.shards, members)
        told = tqdm(found, "checking shards", len(members), leave=False, delay=2, disable=None)
        return sorted(member for some in told for member in some)


def damaged(store: Store, shard: Shard, members: NDArray[np.int64], places: Places) -> list[int]:
    """Return which ``members`` of a shard cannot be read."""
    try:
        file = store.file(shard)
    except Lost:
        return [int(member) for member in members]
    try:
        if store.remote or (file.stat().st_size == shard.bytes and sha256(file) == shard.sha256):
            return []
        with file.open("rb", buffering=0) as opened:
            return [
                member
                for member in members.tolist()
                if zlib.crc32(os.pread(opened.fileno(), int(places.bytes[member]), int(places.offset[member])))
                != places.crc32[member]
            ]
    except OSError:
        return [int(member) for member in members]


def tell(store: Store, index: Index, number: int, members: list[int]) -> None:
    """Name what is left out of a shard."""
    shard = index.shards[number]
    where = f"{store.path}/{shard.file}"
    if len(members) == shard.images:
        log.warning("%s is missing or corrupt: its %s images are left out.", where, f"{len(members):,}")
        return
    some = ", ".join(str(in_part(index, member)) for member in members[:NAMED]) + (", ..." if len(members) > NAMED else "")
    log.warning("%s: %d of its %s images are corrupt and left out: %s.", where, len(members), f"{shard.images:,}", some)
