"""A clock for runs under a budget of minutes that only their batches and evaluations move: two plans can then be equal."""

import time
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from condgen.callbacks import plan
from condgen.callbacks.evaluation import Evaluation
from condgen.training.base import Training

BATCH = 0.1
"""Seconds that a batch takes."""


def wind(evaluation: float, replace_attribute: Callable[[Any, str, Any], None] = setattr) -> list[float]:
    """Let only batches and evaluations move the clock that a budget looks at; return that: ``[seconds]``.

    Args:
        evaluation: seconds that an evaluation takes.
        replace_attribute: sets an attribute; a test passes what undoes it.
    """
    seconds = [1000.0]
    shown = {name: getattr(time, name) for name in ("time", "localtime", "strftime")}
    fake = SimpleNamespace(monotonic=lambda: seconds[0], **shown)
    for module in (plan, import_module("condgen.jobs"), import_module("condgen.train")):
        replace_attribute(module, "time", fake)
    replace_attribute(plan, "ENDS", 0.0)
    batch_start, measure = Training.on_train_batch_start, Evaluation.measure

    def slow_batch(self: Any, *arguments: Any) -> None:
        seconds[0] += BATCH
        batch_start(self, *arguments)

    def slow_measure(self: Any, *arguments: Any, **options: Any) -> Any:
        seconds[0] += evaluation
        before = self.seconds
        record = measure(self, *arguments, **options)
        self.seconds = before + evaluation
        return record

    def rehearse(self: Any, *arguments: Any) -> tuple[float, float]:
        seconds[0] += evaluation
        return evaluation, 0.0

    replace_attribute(Training, "on_train_batch_start", slow_batch)
    replace_attribute(Evaluation, "measure", slow_measure)
    replace_attribute(Evaluation, "rehearse", rehearse)
    return seconds
