"""Early stopping on a validation metric."""

from typing import Annotated, Any, Literal

from annotated_types import Predicate
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from condgen.types import Count, Says


def of_validation(metric: str) -> bool:
    """Whether a metric is measured on validation data."""
    return metric.startswith(("val/", "quality/"))


class EarlyStopping(LightningEarlyStopping):
    """Stop when ``monitor`` has not improved for ``patience`` validations. Lightning's own, at the end of epochs.

    Args:
        monitor: a validation metric, e.g. ``val/loss``.
        patience: validations without improvement before the run stops.
        mode: "min" if smaller is better, "max" if larger.
        min_delta: smallest change that counts.
    """

    def __init__(
        self,
        monitor: Annotated[str, Predicate(of_validation), Says("a validation metric such as val/loss")],
        patience: Count = 10,
        mode: Literal["min", "max"] = "min",
        min_delta: float = 0.0,
        **options: Any,
    ):
        super().__init__(
            monitor=monitor, patience=patience, mode=mode, min_delta=min_delta, check_on_train_epoch_end=True, **options
        )
