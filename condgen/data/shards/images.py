"""The images of a set of shards, decoded when they are asked for, by the place that the index gives for each of them."""

import hashlib
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.data.pixels import from_moments
from condgen.data.shards.index import Index, open_members
from condgen.data.shards.store import REMEDY, TRIES, Lost, Store
from condgen.data.undecoded import Undecoded
from condgen.errors import CondgenError
from condgen.images import Picture, decode

SAMPLE = 2048
"""Images from which statistics are estimated where those in the index are of another size or colour."""
AT_ONCE = 2**16
"""Records of the index that are read at a time."""
FETCHERS = 4
"""Shards that a process fetches at a time, ahead of need."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where each image of both parts lies: columns of the index, (N,) each.

    Attributes:
        shard: uint32, its place in the index's list of shards.
        offset: uint64, where its bytes begin in the tar file.
        bytes: uint32.
        crc32: uint32.
        lost: bool; None: no image is known to be lost.
    """

    shard: NDArray[np.uint32]
    offset: NDArray[np.uint64]
    bytes: NDArray[np.uint32]
    crc32: NDArray[np.uint32]
    lost: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Set:
    """What the two parts of a set have in common.

    Attributes:
        store: where the shards lie.
        index: what they hold.
        places: where each image lies.
        size: side in pixels to which images are cropped and resized; None: as they are.
        channels: 1 (grey) or 3 (colour); None: as they are.
        buffer: images among which an epoch is shuffled at a time, after its shards were; None: all.
    """

    store: Store
    index: Index
    places: Places
    size: int | None = None
    channels: int | None = None
    buffer: int | None = None

    @property
    def as_stored(self) -> bool:
        """Whether the images are decoded to the size and the colour that all of them have."""
        channels, height, width = self.index.shape or (0, 0, 0)
        return self.channels in (None, channels) and (self.size is None or height == width == self.size) and channels > 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the decoded images; raises CondgenError where they would differ."""
        if self.index.shape is None and (self.size is None or self.channels is None):
            raise CondgenError(
                f"The images of {self.store.path} differ in size or colour: data.image_size and data.channels make them alike."
            )
        channels, height, width = self.index.shape or (0, 0, 0)
        return self.channels or channels, self.size or height, self.size or width


class ShardImages(Undecoded):
    """Stands for a uint8 tensor (N, C, H, W) of some images of a set.

    Args:
        whole: the set.
        members: int64 (N,), which of its images.
    """

    def __init__(self, whole: Set, members: NDArray[np.int64]):
        super().__init__((len(members), *whole.shape))
        self.whole, self.members = whole, members

    def pooled(self, parts: Sequence[Undecoded], rows: Sequence[Tensor]) -> "ShardImages":
        """Return ``rows`` of each of ``parts``, parts of this set, one after the other and undecoded."""
        pairs = ((part, some) for part, some in zip(parts, rows, strict=True) if isinstance(part, ShardImages))
        return ShardImages(self.whole, np.concatenate([part.members[some.numpy()] for part, some in pairs]))

    def decoded(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows``; of shards at an address that are not in the cache, nothing else is fetched."""
        return self._decoded(self.members[rows.numpy()], fetch=False)

    def batch(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows``; shards at an address are fetched whole."""
        return self._decoded(self.members[rows.numpy()], fetch=True)

    def lead(self, batch_size: int) -> int:
        """Return how many batches a buffer has: while one is trained on, the shards of the next are fetched."""
        return -(-(self.whole.buffer or 0) // batch_size)

    def ahead(self, rows: Tensor) -> None:
        """Begin to fetch the shards of ``rows``; what goes wrong is told when they are asked for."""
        if self.whole.store.remote:
            for number in np.unique(self.whole.places.shard[self.members[rows.numpy()]]):
                shard = self.whole.index.shards[number]
                if not self.whole.store.cached(shard):
                    self._fetchers.submit(self.whole.store.file, shard)

    @cached_property
    def _fetchers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(FETCHERS)

    def order(self, rows: Tensor, stream: torch.Generator) -> Tensor:
        """Return ``rows`` in the order of an epoch.

        Without a buffer every order is equally likely. With one the shards are put into a random order, and then the images
        within each ``buffer`` of them: a batch needs no more than the shards of one buffer, or two.
        """
        if self.whole.buffer is None:
            return super().order(rows, stream)
        shards = torch.from_numpy(self.whole.places.shard[self.members[rows.numpy()]].astype(np.int64))
        place = torch.randperm(len(self.whole.index.shards), generator=stream)
        in_turn = rows[place[shards].argsort(stable=True)]
        buffers = torch.split(in_turn, self.whole.buffer)
        return torch.cat([some[torch.randperm(len(some), generator=stream)] for some in buffers])

    def usable(self, rows: Tensor) -> Tensor:
        """Return those of ``rows`` that are not known to be lost."""
        lost = self.whole.places.lost
        return rows if lost is None else rows[torch.from_numpy(~lost[self.members[rows.numpy()]])]

    def statistics(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Return mean and deviation of each channel over ``rows``, exact and without a look at a pixel.

        Of images that are resized or recoloured they are estimated, from `SAMPLE` of them evenly spaced.
        """
        if not self.whole.as_stored:
            return super().statistics(rows[torch.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).long()])
        index = self.whole.index
        records = open_members(self.whole.store.file(index.members), index)
        chosen = self.members[rows.numpy()]
        sums = np.zeros((self.shape[1], 2), np.uint64)
        for start in range(0, len(chosen), AT_ONCE):
            sums += records["moments"][chosen[start : start + AT_ONCE]].sum(0)
        return from_moments(sums.tolist(), len(rows) * self.shape[2] * self.shape[3])

    def name(self, row: int) -> str:
        """Return the shard and the number of an image in it."""
        return self._name(self.members[row])

    def file(self, row: int) -> bytes | None:
        """Return the bytes of an image's file as they were packed."""
        if self.whole.size is not None or self.whole.channels is not None:
            return None
        return next(content for _, content in self._contents(self.members[[row]], fetch=True))

    def digest(self, rows: Tensor) -> str:
        """Return a hash of the pixels of ``rows``: of the index, which holds checksums of them, and of how they are decoded."""
        identity = self.whole.index.members.sha256, *self.shape, self.whole.as_stored
        digest = hashlib.blake2b(repr(identity).encode(), digest_size=12)
        digest.update(self.members[rows.numpy()].tobytes())
        return digest.hexdigest()

    def _decoded(self, members: NDArray[np.int64], fetch: bool) -> Tensor:
        found = torch.empty(len(members), *self.shape[1:], dtype=torch.uint8)
        for place, content in self._contents(members, fetch):
            picture = Picture(self._name(members[place]), lambda content=content: content)  # type: ignore[misc]
            image = decode(picture, self.whole.size, self.whole.channels)
            if image.shape != self.shape[1:]:
                raise Lost(f"{picture.name} is of another size than the index says: {REMEDY}.")
            found[place] = image
        return found

    def _contents(self, members: NDArray[np.int64], fetch: bool) -> Iterator[tuple[int, bytes]]:
        """Yield the place in ``members`` and the bytes of each image, shard by shard, checked against the index."""
        places = self.whole.places
        by_shard: dict[int, list[int]] = defaultdict(list)
        for place, number in enumerate(places.shard[members].tolist()):
            by_shard[number].append(place)
        distant = []
        for number, wanted in by_shard.items():
            if not fetch and not self.whole.store.cached(self.whole.index.shards[number]):
                distant += wanted
                continue
            with self._opened(number) as descriptor:
                for place in wanted:
                    at = members[place]
                    content = os.pread(descriptor.fileno(), int(places.bytes[at]), int(places.offset[at]))
                    yield place, self._checked(at, content)
        if distant:
            at = members[distant]
            starts, sizes = (column[at].astype(np.int64) for column in (places.offset, places.bytes))
            shards = [self.whole.index.shards[number] for number in places.shard[at]]
            contents = self.whole.store.ranges(shards, starts.tolist(), (starts + sizes).tolist())
            for place, content in zip(distant, contents, strict=True):
                yield place, self._checked(members[place], content)

    def _opened(self, number: int) -> IO[bytes]:
        """Open a shard; one that was fetched may be removed by another process before it is open."""
        shard, store = self.whole.index.shards[number], self.whole.store
        for _ in range(TRIES):
            try:
                return store.file(shard).open("rb", buffering=0)
            except FileNotFoundError:
                store.check(shard)
            except OSError as error:
                raise Lost(f"{store.folder / shard.file} cannot be read ({error.strerror}): {REMEDY}.") from None
        raise CondgenError(f"{store.folder} is too small for the shards in use: make data.source.cache_gb larger.")

    def _checked(self, member: int, content: bytes) -> bytes:
        if zlib.crc32(content) != self.whole.places.crc32[member] or len(content) != self.whole.places.bytes[member]:
            raise Lost(f"{self._name(member)} is corrupt, its bytes are not those that were packed: {REMEDY}.")
        return content

    def _name(self, member: int) -> str:
        shard = self.whole.index.shards[self.whole.places.shard[member]]
        return f"{self.whole.store.path}/{shard.file}, image {in_part(self.whole.index, member)}"


def in_part(index: Index, member: int) -> int:
    """Return the number that an image has in its own part, which is its name in the tar file."""
    return member if member < index.train.images else member - index.train.images
