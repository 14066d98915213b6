"""How far a run is, told to whoever looks from outside."""

import contextlib
import time
from pathlib import Path
from typing import Any

import lightning as L

from condgen.callbacks.checkpoint import Checkpoint
from condgen.errors import CondgenError
from condgen.run.directory import write_status
from condgen.run.heartbeat import repeating
from condgen.run.status import BEAT
from condgen.training.base import Training


class Heartbeat(L.Callback):
    """Write into ``status.json``, every few seconds and from a thread of its own, how far the run is; steps cost nothing by it.

    Args:
        directory: the run directory.
        metric: name of the objective, None if the run has none.
        every: seconds.
    """

    def __init__(self, directory: Path, metric: str | None, every: float = BEAT):
        self.directory, self.metric, self.every = directory, metric, every
        self._beating = contextlib.ExitStack()
        self._began = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin, in the first process."""
        if trainer.is_global_zero:
            self.beat(trainer, began=time.time(), first=trainer.global_step)
            self._began = True
            self._beating.enter_context(repeating(self.every, lambda: self.beat_if_possible(trainer)))

    def beat(self, trainer: L.Trainer, **more: Any) -> None:
        """Write where the run stands."""
        model = trainer.lightning_module
        assert isinstance(model, Training)
        chosen = next((c for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoint)), None)
        metric = self.metric or (chosen.monitor if chosen else None)
        best = chosen.best.get(metric) if chosen and metric else None
        batches, one = model.planned_batches, model.batches_per_update * trainer.accumulate_grad_batches
        total = batches // one if batches else None
        write_status(self.directory, at=time.time(), step=trainer.global_step, total=total, metric=metric, best=best, **more)

    def beat_if_possible(self, trainer: L.Trainer) -> None:
        """Write it unless the disk is full: the next checkpoint will say so."""
        with contextlib.suppress(CondgenError):
            self.beat(trainer)

    def stop(self, trainer: L.Trainer) -> None:
        """Beat once more and no longer."""
        self._beating.close()
        if self._began:
            self._began = False
            self.beat_if_possible(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The run failed or was stopped."""
        self.stop(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """The run is over."""
        self.stop(trainer)
