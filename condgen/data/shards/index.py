"""The index beside the shards: what is known of a set without opening one of them.

``index.json`` says what the set is and lists its shards with their checksums. ``members.npy`` has a record for each image:
where it lies, its class, its attributes, and sums over its pixels, from which the statistics of any part of the set follow.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Len
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from condgen.errors import CondgenError

INDEX, MEMBERS = "index.json", "members.npy"
Members = NDArray[np.void]
"""Records (N,) of the type that `member_type` returns: the training images first, then the test images."""
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Ge(0)]


class Entry(BaseModel):
    """Part of an index; what it does not know, or what is of another type, is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Shard(Entry):
    """A tar file."""

    file: Annotated[str, StringConstraints(pattern=r"^(train|test)-\d{6}\.tar$")]
    """Its name, beside the index."""
    images: Annotated[int, Ge(1)]
    bytes: Annotated[int, Ge(1)]
    sha256: Sha256


class Table(Entry):
    """The file of the members."""

    file: Literal["members.npy"]
    bytes: Annotated[int, Ge(1)]
    sha256: Sha256


class Part(Entry):
    """The training part, or the test part."""

    images: Annotated[int, Ge(1)]
    counts: list[Count]
    """Images of each class; one number where there are no classes."""


class Index(Entry):
    """What ``index.json`` holds."""

    format: Literal["condgen-shards-1"]
    source: str
    """What the set was packed from, for people."""
    shape: Annotated[list[Annotated[int, Ge(1)]], Len(3, 3)] | None
    """[C, H, W] of all images; None where they differ."""
    classes: list[str]
    attributes: dict[str, Any]
    """As in a stored configuration: {name: [values]} or {name: {low, high}}."""
    captions: bool
    train: Part
    test: Part | None
    shards: list[Shard]
    members: Table

    @property
    def count(self) -> int:
        """Images of both parts."""
        return self.train.images + (self.test.images if self.test else 0)


def parsed(text: bytes, source: str) -> Index:
    """Read ``index.json``; raises CondgenError naming ``source`` and what is wrong with it."""
    try:
        index = Index.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CondgenError(
            f"{source} is not an index of shards ({where + ': ' if where else ''}{first['msg'].rstrip('.')}): name what "
            "condgen pack has written."
        ) from None
    if sum(shard.images for shard in index.shards) != index.count:
        raise CondgenError(f"{source} lists shards of other {index.count:,} images than it counts: pack the set again.")
    return index


def member_type(channels: int, attributes: int) -> np.dtype[np.void]:
    """Return the type of a record.

    Args:
        channels: C, of whose pixels there are sums; 0: none.
        attributes: F.
    """
    columns: list[Any] = [
        ("shard", "<u4"),  # its place in the list of shards
        ("offset", "<u8"),  # where its bytes begin in the tar file
        ("bytes", "<u4"),
        ("crc32", "<u4"),
        ("text", "<u8"),  # the same of the caption
        ("text_bytes", "<u4"),
        ("label", "<i4"),
    ]
    columns += [("values", "<f4", (attributes,))] * bool(attributes)
    columns += [("moments", "<u8", (channels, 2))] * bool(channels)  # sums of levels and of their squares
    return np.dtype(columns)


def open_members(file: Path, index: Index) -> Members:
    """Map ``members.npy``; raises CondgenError where it does not belong to the index."""
    try:
        members: Members = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CondgenError(f"{file} cannot be read ({error}): it belongs beside {INDEX}.") from None
    wanted = member_type(index.shape[0] if index.shape else 0, len(index.attributes))
    if members.dtype != wanted or members.shape != (index.count,):
        raise CondgenError(f"{file} does not belong to the {INDEX} beside it: copy both from the same place.")
    return members
