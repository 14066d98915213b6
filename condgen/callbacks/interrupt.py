"""Ctrl-C, SIGTERM and Slurm's signals: finish the step, save, and say how to go on, or let Slurm see to it."""

import logging
import signal
from types import FrameType
from typing import Any

import lightning as L

from condgen.callbacks.checkpoint import LOOK, Checkpoint, agree
from condgen.errors import Interrupted
from condgen.run.slurm import Requeue, job_id
from condgen.training.base import Batch, Training

log = logging.getLogger("condgen")

REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)
"""What announces, in a Slurm job, a preemption or the time limit; submitit and most scripts take the second."""


class Interrupt(L.Callback):
    """On SIGINT or SIGTERM save the run after the current batch and stop; a second signal stops at once.

    In a Slurm job SIGUSR1 and SIGUSR2 save the run and put its job back into the queue; on SIGTERM, which comes with those or
    before SIGKILL, it saves and goes on until Slurm ends it.
    """

    def __init__(self) -> None:
        self._received = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, where signals can be listened to (the main thread)."""
        for signum in (signal.SIGINT, signal.SIGTERM, *(REQUEUE if job_id() else ())):
            try:
                self._before[signum] = signal.signal(signum, self._receive)
            except ValueError:  # not the main thread
                return

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self._received = signum if self._received not in REQUEUE else self._received
        if signum == signal.SIGINT or not job_id():
            self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            if signal.getsignal(signum) == self._receive:  # else Lightning has given it back already, further than we would
                signal.signal(signum, handler)
        self._before = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save and leave, on all processes together; after the last batch of an epoch, when that is complete."""
        assert isinstance(pl_module, Training)
        if not pl_module.epoch_over and (trainer.world_size == 1 or batch_idx % LOOK == 0):
            self.act(trainer)

    def act(self, trainer: L.Trainer) -> None:
        """Save and leave if any process received a signal."""
        if not agree(trainer, bool(self._received)):
            return
        saved = "nothing was saved (no checkpoint callback)."
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Checkpoint):
                callback.save(trainer, wait=True)
                saved = f"go on with: condgen resume {trainer.default_root_dir}"
        if job_id() and not agree(trainer, self._received == signal.SIGINT):
            self.leave(trainer)
            return
        signum = self._received or signal.SIGTERM
        raise Interrupted(f"Stopped by {signal.Signals(signum).name} after update {trainer.global_step}; {saved}", signum)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save and leave between two epochs."""
        self.act(trainer)

    def leave(self, trainer: L.Trainer) -> None:
        """Let Slurm start this job again, if it asked for that, on all processes together."""
        if agree(trainer, self._received in REQUEUE):
            raise Requeue(0)
        self._received = 0
        if trainer.is_global_zero:
            log.info("Saved after update %d, on SIGTERM; going on until Slurm ends the job.", trainer.global_step)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The run ends here, too."""
        self._restore()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back to whoever listened before."""
        self._restore()
