"""Images decoded by other processes, some batches ahead of the training step."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from condgen.data.undecoded import Undecoded
from condgen.errors import CondgenError

Rows = NDArray[np.int64]


class Prefetch:
    """Decodes batches in worker processes; they come in the order in which they are asked for, whoever decoded them.

    Args:
        images: what to decode.
        workers: processes; 0: this one.
        batches: how many each of them is ahead.
        pin: put batches where an accelerator fetches them faster.
    """

    def __init__(self, images: Undecoded, workers: int, batches: int, pin: bool = False):
        self.asked = Asked()
        self.loader: DataLoader[Any] = DataLoader(
            Decoding(images),
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

    def __call__(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """Yield the images of ``batches``, each as rows (B,) and rows that will be asked for later on.

        Raises:
            CondgenError: an image is missing or corrupt, or a worker was killed.
        """
        self.asked.batches = ((rows.numpy(), later.numpy()) for rows, later in batches)
        with naming_the_killed(
            "A process that decodes images was killed, maybe for want of memory: try fewer data.workers, or a smaller "
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


class Asked(torch.utils.data.Sampler[tuple[Rows, Rows]]):
    """The batches of the epoch at hand, for a loader that outlives it."""

    def __init__(self) -> None:
        self.batches: Iterator[tuple[Rows, Rows]] = iter(())

    def __iter__(self) -> Iterator[tuple[Rows, Rows]]:
        return self.batches


class Decoding(Dataset[Any]):
    """Runs in the workers.

    Args:
        images: what to decode.
    """

    def __init__(self, images: Undecoded):
        self.images = images

    def __getitem__(self, asked: tuple[Rows, Rows]) -> Tensor | CondgenError:
        """Return a batch; an error is handed over, since raised it would lose its sentence on the way."""
        rows, later = (torch.from_numpy(some) for some in asked)
        try:
            self.images.ahead(later)
            return self.images.batch(rows)
        except CondgenError as error:
            return error


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
