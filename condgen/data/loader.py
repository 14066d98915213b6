"""Batches gathered whole from tensors in memory, or made by workers where that takes long: no stored random state."""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import tee
from typing import Any

import torch
from torch import Tensor

from condgen.augment.images import Augmentation, one_by_one
from condgen.conditions import Condition, NoCondition
from condgen.data.imbalance import balanced_order
from condgen.data.prefetch import Prefetch, Wanted
from condgen.data.undecoded import Undecoded
from condgen.errors import CondgenError
from condgen.randomness import generator
from condgen.spaces import floating


def start() -> tuple[int, int]:
    """Return the first batch of the first epoch, where a loader without a trainer begins."""
    return 0, 0


class BatchLoader:
    """Yields ``(x, condition)``: float32 (B, *shape) in [-1, 1] and the encoded conditions (B, ...).

    Order and augmentation are functions of (seed, epoch, batch): a loader that starts in mid-epoch, and the processes
    that share a batch, yield what one undisturbed process would have.

    Args:
        images: uint8 (N, C, H, W), or points, float32 (N, 2); in memory, mapped from a file, or on the accelerator already; or
            images that ``workers`` decode.
        conditions: encoded conditions (N, ...), row by row those of ``images``, as far as they do not depend on these; or what
            encodes those of rows (B,).
        batch_size: images in a batch, summed over all processes.
        condition: completes them, where it makes an image of each sample.
        rows: int64 (M,), the rows of ``images`` to use; None: all.
        shuffle: new order each epoch.
        drop_last: leave out an incomplete last batch.
        seed: decides order and augmentation.
        augment: changes the images of each batch.
        partly: leave parts of conditions out, see `Condition.partly`.
        vicinity: standard deviation of what is added to conditions that are numbers, see `Condition.near`.
        balance: how far a shuffled order evens out the classes, see `balanced_order`.
        labels: int64 (M,), the classes of ``rows``, where these are evened out.
        device: where batches go.
        rank: which of the ``world`` contiguous shares of each batch to yield. Without ``drop_last`` shares differ in size
            by at most one; a last one may be empty, so that all processes make the same number of steps.
        world: number of processes.
        position: asked at the first `next` of an iteration: the epoch, and the batch in it to start at.
        workers: processes that decode images which are not in memory, and augment where that is done one by one; 0: this one.
        prefetch: batches that each of them is ahead.
        sampled: returns which of the rows are in a batch, int64 (B,), from its epoch and number; B may be 0. None: each once.
    """

    def __init__(
        self,
        images: Tensor | Undecoded,
        conditions: Tensor | Callable[[Tensor], Tensor],
        batch_size: int,
        *,
        condition: Condition | None = None,
        rows: Tensor | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        augment: Augmentation | None = None,
        partly: bool = False,
        vicinity: float = 0.0,
        balance: float = 0.0,
        labels: Tensor | None = None,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        position: Callable[[], tuple[int, int]] = start,
        workers: int = 0,
        prefetch: int = 4,
        sampled: Callable[[int, int], Tensor] | None = None,
    ):
        if drop_last and batch_size % world:
            raise CondgenError(f"data.batch_size={batch_size} must be a multiple of the number of processes, {world}.")
        if sampled and isinstance(images, Undecoded):
            raise CondgenError(
                "privacy=dp samples from images in memory, and shards are read in their own order: load them whole."
            )
        self.images = images
        self.conditions = conditions.to(images.device) if isinstance(conditions, Tensor) else conditions
        self.condition = condition or NoCondition()
        self.rows = torch.arange(len(images)) if rows is None else rows
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.augment = augment
        self.partly, self.vicinity = partly, vicinity
        self.balance, self.labels = balance, labels
        self.device = torch.device(device)
        self.rank = rank
        self.world = world
        self.position = position
        self.workers, self.prefetch = workers, prefetch
        self.sampled = sampled

    def __len__(self) -> int:
        """Return the number of batches in an epoch, the same for every process."""
        return len(self.rows) // self.batch_size if self.drop_last else -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, first = self.position()
        order = self._order(epoch).to(self.images.device)
        for batch, (size, mine, images) in enumerate(self._gathered(epoch, order, first), first):
            x = floating(images.to(self.device, non_blocking=True))
            if self.augment is not None and not self._augments_apart:
                x = self.augment(x, self._augmenting(size, epoch, batch).to(self.device, non_blocking=True))
            condition = self._encoded(mine).to(self.device, non_blocking=True)
            if self.partly and self.condition.numbers:
                u = self._uniform(size, self.condition.numbers, "left out", epoch, batch)
                condition = self.condition.partly(condition, u.to(self.device, non_blocking=True))
            if self.vicinity:
                stream = generator(self.seed, "vicinity", epoch, batch)
                noise = self._share(torch.randn(size, self.condition.width, generator=stream))
                condition = self.condition.near(condition, self.vicinity * noise.to(self.device, non_blocking=True))
            if self.condition.map_shape is not None:
                u = self._uniform(size, self.condition.draws, "condition", epoch, batch)
                condition = self.condition.complete(condition, x, u.to(self.device, non_blocking=True))
            yield x, condition

    def _gathered(self, epoch: int, order: Tensor, first: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield for each batch from the ``first`` one its size over all processes, this process's rows and their images."""
        if not self.has_workers:
            assert isinstance(self.images, Tensor)
            for batch in range(first, len(self)):
                whole = self._whole(order, epoch, batch)
                mine = self._share(whole)
                yield len(whole), mine, self.images.index_select(0, mine)
            return
        wanted, asked = tee(self._wanted(epoch, order, first))
        for one, images in zip(wanted, self._prefetched(asked), strict=True):
            yield one.size, one.rows, images

    def _wanted(self, epoch: int, order: Tensor, first: int) -> Iterator[Wanted]:
        """Yield what is to be made for each batch from the ``first`` one, as soon as workers have time for it."""
        lead = 0 if isinstance(self.images, Tensor) else self.images.lead(self.batch_size)
        for batch in range(first, len(self)):
            whole = self._whole(order, epoch, batch)
            later = self._whole(order, epoch, batch + lead) if lead else whole
            uniform = self._augmenting(len(whole), epoch, batch) if self._augments_apart else None
            yield Wanted(len(whole), self._share(whole), self._share(later), uniform)

    @property
    def has_workers(self) -> bool:
        """Whether batches are made by other processes, or would be if ``workers`` were not 0."""
        return isinstance(self.images, Undecoded) or self._augments_apart

    @property
    def _augments_apart(self) -> bool:
        """Whether workers augment: what is done image by image, of images that are not on an accelerator already."""
        return self.workers > 0 and one_by_one(self.augment) and self.images.device.type == "cpu"

    @cached_property
    def _prefetched(self) -> Prefetch:
        augment = self.augment if self._augments_apart else None
        return Prefetch(self.images, self.workers, self.prefetch, pin=self.device.type == "cuda", augment=augment)

    def _whole(self, order: Tensor, epoch: int, batch: int) -> Tensor:
        """Return the rows of a batch of all processes, none beyond the last batch."""
        if self.sampled:
            return self.rows[self.sampled(epoch, batch)].to(self.images.device)
        return order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def _encoded(self, rows: Tensor) -> Tensor:
        return self.conditions.index_select(0, rows) if isinstance(self.conditions, Tensor) else self.conditions(rows)

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return self.rows
        stream = generator(self.seed, "order", epoch)
        if isinstance(self.images, Undecoded):
            return self.images.order(self.rows, stream)
        if self.balance and self.labels is not None:
            return self.rows[balanced_order(self.labels, self.balance, stream)]
        return self.rows[torch.randperm(len(self.rows), generator=stream)]

    def _augmenting(self, count: int, epoch: int, batch: int) -> Tensor:
        """Return the numbers that decide the augmentation of this process's images of a batch."""
        assert self.augment is not None
        return self._uniform(count, self.augment.draws, "augment", epoch, batch)

    def _uniform(self, count: int, draws: int, purpose: str, epoch: int, batch: int) -> Tensor:
        """Draw the numbers of the whole batch and keep this process's, so that processes do not change them."""
        u = torch.rand(count, draws, generator=generator(self.seed, purpose, epoch, batch))
        return self._share(u)

    def _share(self, rows: Tensor) -> Tensor:
        return rows if self.world == 1 else rows.tensor_split(self.world)[self.rank]

    def close(self) -> None:
        """End the workers; they start again if they are needed."""
        self.__dict__.pop("_prefetched", None)

    # To Lightning these two say that the loader resumes exactly. It does, without a state: `position` is the trainer's own.
    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the position comes from the trainer's counters."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: the position comes from the trainer's counters."""
