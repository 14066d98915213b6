"""What the updates of every family share: the average of the weights and the bound of the gradients."""

from collections.abc import Iterable

from torch import nn

from condgen.errors import CondgenError


def check_updates(ema: float, gradient_clip: float | None) -> None:
    """Refuse values out of their range."""
    if not 0 <= ema < 1:
        raise CondgenError(f"model.ema must lie in [0, 1), not {ema}; 0 switches the average off.")
    if gradient_clip is not None and gradient_clip <= 0:
        raise CondgenError(f"model.gradient_clip must be positive, not {gradient_clip}; null clips nothing.")


def clip(parameters: Iterable[nn.Parameter], largest: float | None) -> None:
    """Scale the gradients of ``parameters`` down to the ``largest`` norm that is allowed; None: any."""
    if largest is not None:
        nn.utils.clip_grad_norm_(parameters, largest)
