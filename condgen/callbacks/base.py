"""What condgen's callbacks are told beyond Lightning's hooks."""

from typing import TYPE_CHECKING, Any

import lightning as L

from condgen.training.base import Batch, Training

if TYPE_CHECKING:
    from condgen.data.module import DataModule
    from condgen.metrics.record import Record


def epochs_of(model: L.LightningModule) -> int:
    """Return how many epochs a training has completed."""
    assert isinstance(model, Training)
    return model.counts.epochs


class Callback(L.Callback):
    """A callback that is told of each update that counts, once, however many batches lie between two of them."""

    _update = 0  # the newest that it was told of

    def check(self, data: "DataModule", model: Training) -> None:
        """Refuse, before training, what does not fit together; raises CondgenError."""

    def on_update(self, trainer: L.Trainer, model: Training, update: int) -> None:
        """Update number ``update`` (1, 2, ...) was made; of a GAN, one of the generator."""

    def on_evaluation(self, trainer: L.Trainer, model: Training, record: "Record") -> None:
        """Samples were measured."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where the run stands: of what a resumed run did before, nobody is told again."""
        assert isinstance(pl_module, Training)
        self._update = pl_module.counts.updates

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Tell of the update that this batch made, if it made one."""
        assert isinstance(pl_module, Training)
        if pl_module.counts.updates != self._update:
            self._update = pl_module.counts.updates
            self.on_update(trainer, pl_module, self._update)
