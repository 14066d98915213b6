"""Images decoded, and augmented where that is slow, by other processes, some batches ahead of the training step."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from condgen.augment.images import Augmentation
from condgen.data.undecoded import Undecoded
from condgen.errors import CondgenError
from condgen.spaces import floating

Rows = NDArray[np.int64]
Numbers = NDArray[np.float32]
"""Uniform numbers (B, draws) by which a batch is augmented."""


@dataclass(frozen=True)
class Wanted:
    """A batch that is asked for.

    Attributes:
        size: images in it, of all processes.
        rows: int64 (B,), which images are this process's.
        later: int64, rows that will be asked for later on.
        uniform: float32 (B, draws), what decides their augmentation; None where there is none.
    """

    size: int
    rows: Tensor
    later: Tensor
    uniform: Tensor | None = None


class Prefetch:
    """Makes batches in worker processes; they come in the order in which they are asked for, whoever made them.

    Args:
        images: in memory, or what to decode.
        workers: processes; 0: this one.
        batches: how many each of them is ahead.
        pin: put batches where an accelerator fetches them faster.
        augment: changes the images of each batch.
    """

    def __init__(
        self, images: Tensor | Undecoded, workers: int, batches: int, pin: bool = False, augment: Augmentation | None = None
    ):
        self.asked = Asked()
        self.loader: DataLoader[Any] = DataLoader(
            Making(images, augment),
            batch_size=None,
            sampler=self.asked,
            num_workers=workers,
            collate_fn=as_it_is,
            pin_memory=pin,
            worker_init_fn=leave_signals,
            prefetch_factor=batches if workers else None,
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,  # the index is shared, and nothing is imported again
            generator=torch.Generator(),  # else it would draw from the global one
        )

    def __call__(self, batches: Iterable[Wanted]) -> Iterator[Tensor]:
        """Yield the images of ``batches``: uint8 as they are stored, or float32 in [-1, 1] where they were augmented.

        Raises:
            CondgenError: an image is missing or corrupt, an augmentation fails, or a worker was killed.
        """
        self.asked.batches = (
            (one.rows.numpy(), one.later.numpy(), None if one.uniform is None else one.uniform.numpy()) for one in batches
        )
        with naming_the_killed(
            "A process that prepares images was killed, maybe for want of memory: try fewer data.workers, or a smaller "
            "data.prefetch; condgen resume goes on."
        ):
            for found in self.loader:
                if isinstance(found, CondgenError):
                    raise found
                yield found


@contextmanager
def naming_the_killed(sentence: str) -> Iterator[None]:
    """Raise CondgenError with ``sentence`` where a loader says that one of its workers was killed."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise CondgenError(sentence) from error


class Asked(torch.utils.data.Sampler[tuple[Rows, Rows, Numbers | None]]):
    """The batches of the epoch at hand, for a loader that outlives it."""

    def __init__(self) -> None:
        self.batches: Iterator[tuple[Rows, Rows, Numbers | None]] = iter(())

    def __iter__(self) -> Iterator[tuple[Rows, Rows, Numbers | None]]:
        return self.batches


class Making(Dataset[Any]):
    """Runs in the workers.

    Args:
        images: in memory, or what to decode.
        augment: changes the images of each batch.
    """

    def __init__(self, images: Tensor | Undecoded, augment: Augmentation | None):
        self.images, self.augment = images, augment

    def __getitem__(self, asked: tuple[Rows, Rows, Numbers | None]) -> Tensor | CondgenError:
        """Return a batch; an error is handed over, since raised it would lose its sentence on the way."""
        rows, later = (torch.from_numpy(some) for some in asked[:2])
        try:
            if isinstance(self.images, Tensor):
                images = self.images.index_select(0, rows)
            else:
                self.images.ahead(later)
                images = self.images.batch(rows)
            if self.augment is None or asked[2] is None:
                return images
            return self.augment(floating(images), torch.from_numpy(asked[2]))
        except CondgenError as error:
            return error


def spare_workers(device: torch.device, world: int) -> int:
    """Return how many processes may prepare images beside each of ``world`` that train: 1, or 0 without a free processor.

    On a CPU a worker beside as many threads as there are processors makes all of them wait for the one that it disturbs: of a
    DCGAN on two processors that took a quarter of the speed, and decoding between the steps a tenth.
    """
    return int(device.type != "cpu" or world * torch.get_num_threads() < processors())


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_it_is(batch: Any) -> Any:
    """Leave a batch alone."""
    return batch


def leave_signals(worker: int) -> None:
    """Leave it to the training process what a signal to all processes means; of its own SIGTERM the worker ends."""
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Slurm and others send SIGTERM to all, and training has yet to save
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()


def end_with(parent: int) -> None:
    """End this process as soon as its ``parent`` tells it to, and no one else."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
