"""What a source hands over: whole tensors of images, or of points, and labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, overload

import torch
from torch import Tensor

from condgen.conditions.fields import Field
from condgen.data.pixels import statistics
from condgen.data.undecoded import Undecoded
from condgen.spaces import Images, Points, Space


@dataclass(frozen=True, eq=False)
class Table:
    """Labelled images, or points in their place.

    Attributes:
        images: uint8 (N, C, H, W), 0..255, in memory or mapped from a file, or decoded when they are asked for; points are
            float32 (N, 2) in [-1, 1].
        labels: int64 (N,), 0..K-1; zeros where the set has no classes.
        values: float32 (N, F), of the set's attributes; None where it has none.
        captions: a text for each image, with a line for each of several captions; None where there are none.
        made: what the samples are, where their type does not say it: log-mel images, uint8 (N, 1, bands, frames), or texts,
            int16 (N, length).
    """

    images: Tensor | Undecoded
    labels: Tensor
    values: Tensor | None = None
    captions: Sequence[str] | None = None
    made: Space | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def space(self, rows: Tensor) -> Space:
        """Return what the samples are; of images with mean and deviation over ``rows`` (M,)."""
        if isinstance(self.made, Images) and isinstance(self.images, Tensor):
            return self.made.fitted(*statistics(self.images, rows))
        if self.made is not None:
            return self.made
        if isinstance(self.images, Undecoded):
            return Images(self.images.shape[1:], *self.images.statistics(rows))
        if self.images.dtype == torch.uint8:
            return Images(self.images.shape[1:], *statistics(self.images, rows))
        return Points()


class Chosen(Sequence[str]):
    """Captions of some rows of several tables, read when they are asked for.

    Args:
        captions: of each table.
        places: int64 (N, 2), a table and a row in it for each.
    """

    def __init__(self, captions: Sequence[Sequence[str]], places: Tensor):
        self.captions, self.places = captions, places

    @classmethod
    def of(cls, captions: Sequence[Sequence[str] | None], rows: Sequence[Tensor]) -> "Chosen | None":
        """Return those of ``rows`` (N,) of each table; None where one has none."""
        known = [some for some in captions if some is not None]
        if len(known) < len(captions):
            return None
        return cls(known, torch.cat([torch.stack([torch.full_like(some, i), some], 1) for i, some in enumerate(rows)]))

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice | Tensor) -> "Chosen": ...
    def __getitem__(self, row: int | slice | Tensor) -> "str | Chosen":
        """Return the caption of a row, or those of several."""
        if not isinstance(row, int):
            return Chosen(self.captions, self.places[row])
        table, place = map(int, self.places[row])
        return self.captions[table][place]


@dataclass(frozen=True, eq=False)
class Tables:
    """A data set as its publisher split it.

    Attributes:
        train: the training part, or everything where the set has no split of its own.
        test: the test part, if the set has one.
        classes: names of the K classes in the order of the labels; empty for a set without classes.
        fields: the F attributes in the order of the values; empty for a set without attributes.
        words: that samples can be asked for by; their numbers stand in the values behind the attributes, -1 for none.
    """

    train: Table
    test: Table | None
    classes: list[str]
    fields: list[Field] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Decoding:
    """How image files are decoded and where their pixels are kept. Sources without image files have no use for it.

    Attributes:
        image_size: side in pixels to which each image is cropped and resized; None leaves all as they are.
        channels: 1 (grey) or 3 (colour); None leaves all as they are.
        memory_share: share of the machine's memory above which a table stays mapped from the cache folder.
        later: leave image files undecoded until their pixels are asked for; sizes and colours may then differ.
    """

    image_size: int | None = None
    channels: int | None = None
    memory_share: float = 0.25
    later: bool = False


AS_IS = Decoding()


class Source(Protocol):
    """Anything that loads tables; a new data set is a class with this one method and a YAML with its ``_target_``."""

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load everything; raises CondgenError naming the file that is missing or broken."""
        ...


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of a table that serve one purpose: training, validation or test. No pixel is copied to make one.

    Attributes:
        table: where the images lie.
        rows: int64 (N,), ascending indices into the table.
    """

    table: Table
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def images(self) -> Tensor:
        """Images of this part as a copy, uint8 (N, C, H, W), or points, float32 (N, 2)."""
        return self.table.images[self.rows]

    @property
    def labels(self) -> Tensor:
        """Labels of this part, int64 (N,)."""
        return self.table.labels[self.rows]

    @property
    def values(self) -> Tensor | None:
        """Values of the attributes, float32 (N, F); None where there are none."""
        return None if self.table.values is None else self.table.values[self.rows]

    @property
    def captions(self) -> Sequence[str] | None:
        """A text for each image, read when it is asked for; None where there are none."""
        return Chosen.of([self.table.captions], [self.rows])


def usable(part: Part) -> Part:
    """Leave out the images of a part that are known to be lost: which part an image belongs to does not depend on it."""
    images = part.table.images
    return part if isinstance(images, Tensor) else Part(part.table, images.usable(part.rows))
