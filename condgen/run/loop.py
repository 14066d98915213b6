"""Lightning's training loop, which also ends a run that was killed between its last update and its end, and its hooks."""

from collections import OrderedDict
from typing import Any

import lightning as L
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from condgen.training.base import Training

STEP = (
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
)
"""Hooks of every step, of callbacks and of the training."""


class FitLoop(_FitLoop):
    """A fit loop that runs the hooks of a run's end although no update is left.

    Lightning returns at once where a checkpoint has reached the limits, and a run that was killed in its last evaluation would
    never have one. Where ``max_steps`` ended it within an epoch, the checkpoint was written before the end of that epoch, which
    then comes first: its losses belong into the curves.
    """

    def run(self) -> None:
        """Train until the limits are reached, and end the run."""
        self.setup_data()
        if self.skip and self.is_resuming:
            self.on_run_start()
            model = self.trainer.lightning_module
            if isinstance(model, Training) and model.counts.batch:
                self.on_advance_end()
            self.on_run_end()
        else:
            super().run()


class EpochLoop(_TrainingEpochLoop):
    """An epoch of batches, without asking at each of them which arguments a training step takes: the batch and its number."""

    def _build_kwargs(self, kwargs: OrderedDict[str, Any], batch: Any, batch_idx: int) -> OrderedDict[str, Any]:
        return OrderedDict(batch=batch, batch_idx=batch_idx)


def install(trainer: L.Trainer) -> None:
    """Let ``trainer`` fit by this loop."""
    own, before = FitLoop(trainer, min_epochs=trainer.min_epochs, max_epochs=trainer.max_epochs), trainer.fit_loop
    own.epoch_loop = EpochLoop(trainer, before.epoch_loop.min_steps, before.epoch_loop.max_steps)
    trainer.fit_loop = own


def pass_by(given: L.Callback | L.LightningModule) -> None:
    """Let Lightning pass by the hooks of a step that ``given`` does not have: it would call each with a name made for it."""
    empty = L.Callback if isinstance(given, L.Callback) else L.LightningModule
    for name in STEP:
        if getattr(given, name) == getattr(empty, name).__get__(given):
            setattr(given, name, None)  # which Lightning does not call
