"""Checkpoints with fixed names, written whole or not at all while training goes on, from which a run goes on bit for bit."""

import contextlib
import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from condgen.callbacks.base import Callback, epochs_of
from condgen.callbacks.evaluation import Evaluation
from condgen.errors import CondgenError
from condgen.files import replacing, write_json
from condgen.run.writing import CheckpointWriter
from condgen.training.base import Training
from condgen.types import Positive, PositiveInt

LOOK = 20
"""Updates after which several processes ask each other whether one of them wants to save or to stop."""


class Checkpoint(Callback, LightningCheckpoint):
    """Keep ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt`` in the run directory, and ``metrics.json`` beside them.

    What is due after the last batch of an epoch is saved when the epoch is complete, its validation and evaluation included:
    a run that goes on from there repeats none of them and skips none.

    Args:
        every_epoch: save at the end of each epoch, after validation; that of the last one is saved in any case.
        every_steps: save after that many updates (of the generator, for a GAN); None for never.
        every_minutes: save when that many minutes have passed since the last save; None for never.
        monitor: validation metric that decides the best; None takes the model's own objective, and where it has none
            the newest checkpoint is the best.
        mode: "min" if smaller is better, "max" if larger.
    """

    def __init__(
        self,
        every_epoch: bool = True,
        every_steps: PositiveInt | None = None,
        every_minutes: Positive | None = 10,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
    ):
        self.every_epoch, self.every_steps, self.every_minutes = every_epoch, every_steps, every_minutes
        self.monitor, self.mode = monitor, mode
        self.best: dict[str, float] = {}
        self.writer = CheckpointWriter()
        self._saved = False
        self._due = self._better = False  # at the end of this epoch
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The metrics of the best checkpoint so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best checkpoint of before."""
        self.best = state_dict["best"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take the model's own objective where no metric was named, and let a thread write what is saved."""
        assert isinstance(pl_module, Training)
        self.monitor = self.monitor or pl_module.objective
        trainer.strategy.checkpoint_io = self.writer

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of ``every_minutes``; write the metrics of a run that was killed right after its checkpoint."""
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, Training)
        if trainer.ckpt_path is not None and trainer.is_global_zero and pl_module.latest:
            write_metrics(trainer, figures(trainer, self.best))
        self._saved = trainer.ckpt_path is not None
        self._saved_at = time.monotonic()

    def on_update(self, trainer: L.Trainer, model: Training, update: int) -> None:
        """Save by steps, by minutes, what was just found to be the best, and where ``max_steps`` ends the run in mid-epoch."""
        self.writer.check()
        due = bool(self.every_steps) and update % (self.every_steps or 1) == 0
        due |= 0 < trainer.max_steps <= update
        better = any(evaluation.measured_at == update for evaluation in evaluations(trainer)) and self.is_better(trainer)
        if self.every_minutes and (trainer.world_size == 1 or update % LOOK == 0):
            due |= agree(trainer, time.monotonic() - self._saved_at > 60 * self.every_minutes)
        if model.epoch_over:
            self._due, self._better = self._due or due, self._better or better
        elif due or better:
            self.save(trainer, best=better)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note whether this epoch is the best, and save."""
        assert isinstance(pl_module, Training)
        better = self.is_better(trainer) or self._better
        complete = pl_module.counts.batch == 0
        wanted = self.every_epoch or trainer.should_stop or epochs_of(pl_module) == trainer.max_epochs
        # A run that max_steps ended within an epoch was saved after its last batch, from where it could go on.
        if better or self._due or (wanted and complete):
            self.save(trainer, best=better)
        self._due = self._better = False

    def is_better(self, trainer: L.Trainer) -> bool:
        """Return whether the newest metrics are better than any before, and note them if they are."""
        current = metrics(trainer)
        finite = self.monitor in current and current[self.monitor] == current[self.monitor]
        sign = 1 if self.mode == "min" else -1
        better = finite and (not self.best or sign * current[str(self.monitor)] < sign * self.best[str(self.monitor)])
        if better:
            self.best = current | {"step": trainer.global_step}
        return better

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave no run without its checkpoints."""
        if trainer.global_step > 0 and not self._saved:  # not by looking at the disk: all ranks have to decide alike
            self.save(trainer)
        self.writer.wait()
        if trainer.is_global_zero and not (folder(trainer) / "best.ckpt").exists():
            link(folder(trainer) / "last.ckpt", folder(trainer) / "best.ckpt")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let what was saved be written."""
        with contextlib.suppress(CondgenError):  # the exception is told
            self.writer.wait()

    def save(self, trainer: L.Trainer, best: bool = False, wait: bool = False) -> None:
        """Write ``last.ckpt``; let ``best.ckpt`` be the same file if it is the best, or if nothing decides.

        Training goes on when all that belongs to the checkpoint is copied, or, with ``wait``, when it is written.
        """
        path = folder(trainer) / "last.ckpt"
        trainer.save_checkpoint(path)  # collective: every rank takes part, rank 0 writes
        if trainer.is_global_zero:
            if best or self.monitor is None:
                self.writer.then(partial(link, path, path.with_name("best.ckpt")))
            self.writer.then(partial(write_metrics, trainer, figures(trainer, self.best)))
        if wait:
            self.writer.wait()
        self._saved = True
        self._saved_at = time.monotonic()


def folder(trainer: L.Trainer) -> Path:
    """Return where a run's checkpoints lie."""
    return Path(trainer.default_root_dir) / "checkpoints"


def link(source: Path, target: Path) -> None:
    """Let ``target`` be ``source`` as it is now, at no cost where the file system has hard links."""
    with replacing(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def agree(trainer: L.Trainer, flag: bool) -> bool:
    """Return whether any process raised ``flag``; every process has to ask."""
    if trainer.world_size == 1:
        return flag
    return trainer.strategy.reduce_boolean_decision(flag, all=False)


def metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return the newest validation metrics."""
    assert isinstance(trainer.lightning_module, Training)
    newest = trainer.lightning_module.validation | {name: value.item() for name, value in trainer.callback_metrics.items()}
    for callback in evaluations(trainer):
        newest |= callback.values  # Lightning keeps float32
    return newest


def evaluations(trainer: L.Trainer) -> list[Evaluation]:
    """Return the callbacks that measure samples."""
    return [callback for callback in trainer.callbacks if isinstance(callback, Evaluation)]  # type: ignore[attr-defined]


def figures(trainer: L.Trainer, best: dict[str, float]) -> dict[str, Any]:
    """Return where the run stands: its last losses and metrics, and those of the best checkpoint."""
    model = trainer.lightning_module
    assert isinstance(model, Training)
    losses = {f"train/{name}": value for name, value in model.latest.items()}
    last = losses | metrics(trainer) | {"step": trainer.global_step}
    protocols = {c.protocol.name: c.protocol.stamp() for c in evaluations(trainer) if c.protocol}
    return {"last": last, "best": dict(best or last), "protocols": protocols}


def write_metrics(trainer: L.Trainer, content: dict[str, Any]) -> None:
    """Write ``metrics.json``."""
    write_json(Path(trainer.default_root_dir) / "metrics.json", content)
