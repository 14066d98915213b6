"""Checkpoints that are written while training goes on."""

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from condgen.files import replacing


class CheckpointWriter(TorchCheckpointIO):
    """Writes checkpoints by a thread of its own: training waits until they are copied in memory, not for the disk.

    They are written one after the other, whole or not at all, and only one is held in memory: the next is copied when the one
    before is written. A failure is raised once, by whatever is asked next.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Begin to write ``checkpoint``; whatever changes it from now on does not change the file.

        Raises:
            CondgenError: one before could not be written.
        """
        self.wait()
        self.then(partial(write, copied(checkpoint, {}), Path(path)))

    def then(self, task: Callable[[], None]) -> None:
        """Let the thread do something else after all that was asked for, unless that failed."""
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoint")
        self._pending.append(self._thread.submit(after, list(self._pending), task))

    def check(self) -> None:
        """Raise what went wrong, if it did by now; raises CondgenError."""
        if self._pending and self._pending[-1].done():
            self.wait()

    def wait(self) -> None:
        """Return when everything is written; raises CondgenError where something could not be."""
        pending, self._pending = self._pending, []
        for one in pending:
            one.result()

    def teardown(self) -> None:
        """End the thread once everything is written."""
        if self._thread:
            self._thread.shutdown()
            self._thread = None


def after(others: list[Future[None]], task: Callable[[], None]) -> None:
    """Do ``task`` unless one of those before it failed."""
    if not any(one.exception() for one in others):
        task()


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    with replacing(path) as temporary:
        torch.save(checkpoint, temporary)


def copied(value: Any, known: dict[Any, Tensor]) -> Any:
    """Return plain values and tensors as they are now, in memory of their own, on the CPU.

    Args:
        value: nested dicts, lists and tuples of them.
        known: the copies so far, so that what shares its memory goes on sharing it.
    """
    if isinstance(value, Tensor):
        place = value.device, value.data_ptr(), value.dtype, value.shape, value.stride()
        if place not in known:
            known[place] = value.detach().to("cpu", copy=True)
        return known[place]
    if isinstance(value, dict):
        twin = copy.copy(value)  # of its own type, with what else it carries, as a state_dict does its versions
        twin.update((key, copied(item, known)) for key, item in value.items())
        return twin
    if isinstance(value, list | tuple):
        items = [copied(item, known) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value
