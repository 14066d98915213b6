"""Images that are decoded when they are asked for: what stands for a tensor that would not fit into memory."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from condgen.data.pixels import statistics
from condgen.errors import CondgenError
from condgen.images import BROKEN, Picture, decode


class Undecoded(ABC):
    """Stands for a uint8 tensor (N, C, H, W): ``images[rows]`` reads and decodes these rows.

    Args:
        shape: (N, C, H, W).
    """

    def __init__(self, shape: Sequence[int]):
        self.shape = torch.Size(shape)
        self.dtype, self.device = torch.uint8, torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that the decoded images would take."""
        return self.shape.numel()

    def __getitem__(self, rows: Any) -> Tensor:
        """Return the images of an index, uint8 (C, H, W), or of rows (B,) or a slice, uint8 (B, C, H, W)."""
        if isinstance(rows, int):
            return self.decoded(torch.tensor([rows]))[0]
        return self.decoded(torch.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows)

    @abstractmethod
    def decoded(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows`` int64 (B,), uint8 (B, C, H, W).

        Raises:
            CondgenError: one of them is missing or corrupt.
        """

    def batch(self, rows: Tensor) -> Tensor:
        """Return the images of a batch of training; more of the same are about to be asked for."""
        return self.decoded(rows)

    def ahead(self, rows: Tensor) -> None:  # noqa: B027  # most have nothing to do
        """Be told that ``rows`` will be asked for later on."""

    def lead(self, batch_size: int) -> int:
        """Return how many batches before it is needed `ahead` should hear of one."""
        return 0

    def order(self, rows: Tensor, stream: torch.Generator) -> Tensor:
        """Return ``rows`` in the order of an epoch, which ``stream`` decides."""
        return rows[torch.randperm(len(rows), generator=stream)]

    def usable(self, rows: Tensor) -> Tensor:
        """Return those of ``rows`` that can be read."""
        return rows

    def statistics(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Return mean and deviation of each channel in [-1, 1] over ``rows``."""
        return statistics(self, rows)

    def name(self, row: int) -> str:
        """Return what an image is called in messages."""
        return f"image {row}"

    def file(self, row: int) -> bytes | None:
        """Return the bytes of an image's file, None where its size or colour is to be changed."""
        return None

    def digest(self, rows: Tensor) -> str | None:
        """Return a hash of the pixels of ``rows`` if it is known without decoding them, else None."""
        return None

    def pooled(self, parts: "Sequence[Undecoded]", rows: Sequence[Tensor]) -> "Undecoded":
        """Return ``rows`` of each of ``parts``, of which this is the first, one after the other and undecoded."""
        raise NotImplementedError


class Pictures(Undecoded):
    """Image files, each with its own size and colour: for whoever goes through them once.

    Args:
        pictures: the files.
        size: side in pixels to which each is cropped and resized; None: as it is.
        channels: 1 (grey) or 3 (colour); None: as it is.
    """

    def __init__(self, pictures: Sequence[Picture], size: int | None = None, channels: int | None = None):
        super().__init__((len(pictures), *decode(pictures[0], size, channels).shape))
        self.pictures, self.size, self.channels = pictures, size, channels

    def name(self, row: int) -> str:
        """Return where the file is."""
        return self.pictures[row].name

    def file(self, row: int) -> bytes | None:
        """Return the bytes of an image's file; raises CondgenError where it cannot be read."""
        if self.size is not None or self.channels is not None:
            return None
        try:
            return self.pictures[row].read()
        except (*BROKEN, RuntimeError) as error:
            raise CondgenError(f"{self.name(row)} cannot be read ({error}).") from error

    def decoded(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows``, which must be alike."""
        return torch.stack([decode(self.pictures[row], self.size, self.channels) for row in rows.tolist()])
