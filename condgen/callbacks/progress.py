"""The progress bar of the whole run: images per second, predicted end, losses."""

import time
from typing import Any

import lightning as L
from tqdm.auto import tqdm

from condgen.callbacks.evaluation import Evaluation
from condgen.training.base import Batch, Training
from condgen.types import Positive


class Progress(L.Callback):
    """One bar over all epochs, in images; and the curve ``speed/images_per_second``, once an epoch.

    Args:
        refresh: seconds between two looks at the bar.
    """

    def __init__(self, refresh: Positive = 0.5):
        self.refresh = refresh
        self._bar: tqdm[Any] | None = None
        self._seen = self._epoch_images = self._epoch = 0
        self._shown_at = self._epoch_time = self._last_batch = 0.0
        self._evaluations: list[Evaluation] = []
        self._measuring = self._measuring_before = 0.0  # seconds of evaluation

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar where the run stands."""
        self._evaluations = [c for c in trainer.callbacks if isinstance(c, Evaluation)]  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            size = trainer.datamodule.batch_size  # type: ignore[attr-defined]
            self._seen, self._epoch = 0, trainer.current_epoch + 1
            done = trainer.fit_loop.epoch_loop.batch_progress.total.completed
            self._bar = tqdm(
                total=planned_images(trainer),
                initial=done * size,
                unit="img",
                unit_scale=True,
                dynamic_ncols=True,
                mininterval=self.refresh,
            )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock of the epoch's speed starts."""
        self._epoch = trainer.current_epoch + 1
        self._epoch_images, self._epoch_time = 0, time.monotonic()
        self._measuring_before = self.measured()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count; look at the bar only when it is time."""
        images = len(batch[0]) * trainer.world_size
        self._seen += images
        self._epoch_images += images
        self._last_batch = now = time.monotonic()
        self._measuring = self.measured()
        if self._bar is not None and now - self._shown_at > self.refresh:
            self.show(pl_module)
            self._shown_at = now

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's speed: training steps only, without validation and evaluation."""
        assert isinstance(pl_module, Training)
        seconds = self._last_batch - self._epoch_time - (self._measuring - self._measuring_before)
        if self._epoch_time and seconds > 0:
            pl_module.publish({"speed/images_per_second": self._epoch_images / seconds})

    def measured(self) -> float:
        """Return the seconds of this process that went into evaluation."""
        return sum(evaluation.seconds for evaluation in self._evaluations)

    def show(self, model: L.LightningModule) -> None:
        """Move the bar and write the newest losses behind it."""
        assert self._bar is not None and isinstance(model, Training)
        losses = {name: f"{value:.3g}" for name, value in model.latest.items()}
        self._bar.total = planned_images(model.trainer)  # a budget is planned while the run goes on
        self._bar.set_postfix(losses | {"epoch": self._epoch}, refresh=False)
        self._bar.update(self._seen)
        self._seen = 0

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar at its end."""
        if self._bar is not None:
            self.show(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the bar before somebody says why."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the bar, however the run ended."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def planned_images(trainer: L.Trainer) -> int | None:
    """Return how many images the run will have seen, or None if nothing bounds it."""
    assert isinstance(trainer.lightning_module, Training)
    batches = trainer.lightning_module.planned_batches
    return batches * int(trainer.datamodule.batch_size) if batches else None  # type: ignore[attr-defined]
