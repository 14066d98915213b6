"""Early stopping on a validation metric."""

from typing import Any

from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from condgen.errors import CondgenError


class EarlyStopping(LightningEarlyStopping):
    """Stop when ``monitor`` has not improved for ``patience`` validations. Lightning's own, at the end of epochs.

    Args:
        monitor: a validation metric, e.g. ``val/loss``.
        patience: validations without improvement before the run stops.
        mode: "min" if smaller is better, "max" if larger.
        min_delta: smallest change that counts.
    """

    def __init__(self, monitor: str, patience: int = 10, mode: str = "min", min_delta: float = 0.0, **options: Any):
        if not monitor.startswith(("val/", "quality/")):
            raise CondgenError(f"callbacks.early_stopping.monitor must be a validation metric such as val/loss, not {monitor}.")
        super().__init__(
            monitor=monitor, patience=patience, mode=mode, min_delta=min_delta, check_on_train_epoch_end=True, **options
        )
