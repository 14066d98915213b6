"""What metrics keep of the samples that they have seen, and how it adds up across processes.

Every metric of condgen is a `torchmetrics.Metric` that keeps sums, or a sample of rows that is capped. A process keeps what its
own share of the samples gives, and `compute` (or `sync`, in every process) adds the shares up. So what is sent depends neither
on the number of samples nor, for sums, on the number of processes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from condgen.errors import CondgenError
from condgen.randomness import mix

CAPACITY = 10_000
"""Rows that are kept of all samples where a metric looks at each of them: as many as the test images of MNIST or CIFAR-10."""


def added_up(state: Tensor, group: Any = None) -> list[Tensor]:
    """Replace ``state`` by its sum over the processes, and return it as the only one of the list that torchmetrics adds up.

    torchmetrics itself would send every process the states of all others.
    """
    dist.all_reduce(state, group=group)
    return [state]


class Summed(Metric):
    """A metric whose states are sums."""

    full_state_update = False

    def __init__(self, **options: Any):
        super().__init__(**{"dist_sync_fn": added_up} | options)

    def add_sum(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        """Keep a sum of ``shape`` under ``name``."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")


class Reservoir(Metric):
    """A random sample of at most ``capacity`` rows of all that the processes see; all of them where there are not more.

    Each row has a place among all, and those with the lowest hashes of (seed, place) stay. So the sample does not depend on how
    many processes share the rows. Only rows that stay are sent.

    Args:
        columns: what is kept of each sample, by name: an empty tensor (0, ...) of its shape and kind.
        capacity: the most rows that are kept.
        seed: decides which.
        options: of `torchmetrics.Metric`.
    """

    full_state_update = False
    seen: Tensor
    place: Any

    def __init__(self, columns: Mapping[str, Tensor], capacity: int = CAPACITY, seed: int = 0, **options: Any):
        super().__init__(**options)
        self.columns = {"place": torch.empty(0, dtype=torch.int64)} | dict(columns)
        self.capacity, self.seed = capacity, mix(seed, "reservoir")
        for name in self.columns:
            self.add_state(name, [], dist_reduce_fx="cat")
        self.add_state("seen", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, *rows: Tensor, place: Tensor | None = None) -> None:
        """Take in the rows of each column, (B, ...), and their places, int64 (B,), among all.

        By default the first process's rows have the places 0, n, 2n, ..., the second's 1, n + 1, ... of n processes.
        """
        count = len(rows[0])
        if place is None:
            rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
            place = (self.seen + torch.arange(count, device=self.seen.device)) * world + rank
        for (name, empty), some in zip(self.columns.items(), (place, *rows), strict=True):
            getattr(self, name).append(some.detach().to(empty.dtype))
        self.seen += count
        if sum(map(len, self.place)) > 2 * self.capacity:
            self._shrink()

    def _shrink(self, gather: Callable[[Tensor], list[Tensor]] = lambda own: [own]) -> None:
        """Drop the rows that are beyond the capacity, among those of all from whom ``gather`` fetches the hashes."""
        own = hashed(self.column("place"), self.seed)
        everyone = torch.cat(gather(own))
        kept = own <= everyone.kthvalue(self.capacity).values if len(everyone) > self.capacity else slice(None)
        for name in self.columns:
            setattr(self, name, [self.column(name)[kept]])

    def column(self, name: str) -> Tensor:
        """Return the rows (N, ...) that are kept of one column, in the order in which they came."""
        rows = getattr(self, name)
        return rows if isinstance(rows, Tensor) else torch.cat([self.columns[name].to(self.seen.device), *rows])

    def stretch(self, count: int) -> None:
        """Repeat the rows that are kept until there are ``count``, or as many as are kept of so many."""
        rows = torch.arange(min(count, self.capacity)) * len(self.column("place")) // count
        for name in self.columns:
            setattr(self, name, [self.column(name)[rows]])

    def sync(
        self, dist_sync_fn: Any = None, process_group: Any = None, should_sync: bool = True, distributed_available: Any = None
    ) -> None:
        """Gather the rows that stay of all processes; see `torchmetrics.Metric.sync`."""
        if should_sync and dist.is_initialized():
            self._shrink(gather_all_tensors)
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> Any:
        """Return the rows of each column in the order of their places, which is the same for any number of processes."""
        if len(self.column("place")) > self.capacity:
            self._shrink()
        order = self.column("place").argsort()
        return {name: self.column(name)[order] for name in self.columns}


def hashed(place: Tensor, seed: int) -> Tensor:
    """Mix whole numbers (N,) with ``seed``, each to another one of 64 bits (Steele et al. 2014, SplitMix64)."""
    x = place * -0x61C8864680B583EB + seed
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def require_classes(labels: Tensor, count: int) -> None:
    """Raise CondgenError where ``labels``, int64 (B,), are not among the classes 0..K-1 of the real images, ``count``."""
    if len(labels) and int(labels.max()) >= count:
        raise CondgenError(f"Class {int(labels.max())} was asked for, but the real images have classes 0..{count - 1} only.")
