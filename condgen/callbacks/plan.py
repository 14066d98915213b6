"""Planning a run's length: into a budget of minutes, once, or only predicting when it will end."""

import logging
import math
import time
from dataclasses import asdict
from typing import Any

import lightning as L
import torch
from tqdm import tqdm

from condgen.callbacks.checkpoint import LOOK, Checkpoint
from condgen.callbacks.evaluation import Evaluation
from condgen.callbacks.samples import SampleGrid
from condgen.errors import CondgenError
from condgen.run.plan import Plan, at, busy, duration, rate, share_out, stored_plan
from condgen.training.base import Batch, Training

log = logging.getLogger("condgen")

WARMUP = 20
"""Batches that are not measured: the first are slow, those of a compiled model by minutes, and lazy penalties join later."""
MEASURED = 100
"""Batches, the warm-up among them, after which a speed is told."""
EARLY = 5.0
"""Seconds after the first update, after which slower ones get a first, rough word: MEASURED of them could take an hour."""
LOOKED = 0.05
"""Share of a budget for which its speed is measured: until MEASURED batches are made, but no longer than twice the share."""
RESERVE = 0.05
"""Share of a budget left free: a machine that others use too is not always equally fast."""
ENDS = 3.0
"""Seconds for what the run's clock does not see: Python's start before it, the report and Python's end after it."""
VALIDATION = 0.5
"""What a validation batch costs, in training batches, where no epoch has shown it yet: it has no backward pass."""


class Planner(L.Callback):
    """Measure the speed of the first updates, then plan the run into its budget, or, without one, predict its end.

    Where updates are slow a first guess is told within seconds, and the measured one when there have been enough of them.

    Given a budget, the plan decides the number of updates and when to evaluate and to draw pictures, in place of
    ``trainer.max_epochs``, ``trainer.max_steps`` and the callbacks' own periods. It is made once and kept in the checkpoint,
    so that a resumed run ends as the undisturbed one would have. Until then there is no evaluation, and the model's
    ``planning`` says that no share of the training is over yet. The first process decides for all.

    Args:
        minutes: the budget, start-up and the last evaluation included; None: the configuration decides the length.
        started: when the run began, in seconds of `time.monotonic`; None: now.
    """

    def __init__(self, minutes: float | None = None, started: float | None = None):
        self.minutes = minutes
        self.plan: Plan | None = None
        self._started = time.monotonic() if started is None else started
        self._resumed = self._told = self._guessed = False
        self._batches = 0  # of this process
        self._step = 0
        self._first_update: tuple[float, int, int] | None = None  # time, update, batch
        self._window: tuple[float, int, int] | None = None  # where measuring began: time, update, batch
        self._batch_end = self._pause = 0.0
        self._epochs = 0  # that ended while measuring

    # --- what is decided, and where it is kept ---

    def refuse(self, trainer: L.Trainer) -> None:
        """Refuse, before training, what does not go together with a budget; raises CondgenError."""
        if self.minutes is None:
            return
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise CondgenError("trainer.fast_dev_run decides how long a run is: leave out run.budget_minutes.")
        for callback in callbacks(trainer):
            if not isinstance(callback, Checkpoint) and str(getattr(callback, "monitor", "")).startswith("quality/"):
                raise CondgenError(
                    "Early stopping looks at the end of epochs, and a run with run.budget_minutes evaluates between them: "
                    "leave out one of the two, or watch val/loss where the model has it."
                )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Lift the limits of the configuration, which the plan replaces."""
        if self.minutes is not None:
            self.decide(trainer, pl_module, None)

    def decide(self, trainer: L.Trainer, model: L.LightningModule, plan: Plan | None) -> None:
        """Let the run follow ``plan``; None: it goes on until there is one."""
        assert isinstance(model, Training)
        self.plan, model.planning = plan, plan is None
        trainer.fit_loop.max_epochs = -1
        trainer.fit_loop.epoch_loop.max_steps = plan.steps if plan else -1
        for callback in callbacks(trainer):
            if isinstance(callback, Evaluation | SampleGrid):
                callback.every_epochs, callback.every_steps = None, plan.every if plan else None

    def state_dict(self) -> dict[str, Any]:
        """The plan, if it is made."""
        return {"plan": asdict(self.plan) if self.plan else None}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take up the plan, before the loops learn where they stand."""
        stored = stored_plan(checkpoint)
        if self.minutes is not None and stored is not None:
            self._resumed = True
            self.decide(trainer, pl_module, stored)

    # --- measuring ---

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where the run stands, and say what is to come."""
        self._step = trainer.global_step
        if self.minutes is None:
            return
        if self.plan:
            tell(trainer, f"Going on with the plan of {self.plan.steps:,} updates, evaluation every {self.plan.every:,}.")
        else:
            tell(trainer, f"Budget {self.minutes:g} min, to {at(self.end - time.monotonic())}: measuring, then planning.")

    @property
    def end(self) -> float:
        """When the budget is used up."""
        return self._started + 60 * (self.minutes or 0.0)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave out of the speed what happened since the last batch: validation and checkpoints."""
        if self._window and not self._told:
            self._pause += clock(trainer) - self._batch_end
            self._epochs += 1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Measure from update to update, then plan or predict; the device is waited for at both ends only."""
        if self._told:
            return
        self._batches += 1
        self._batch_end = now = clock(trainer)
        if trainer.global_step == self._step:  # several D steps for one of G
            return
        self._step = trainer.global_step
        self._first_update = self._first_update or self.mark(trainer)
        if not self._guessed and now - self._first_update[0] >= EARLY:
            self._guessed = True
            self.guess(trainer)
        if self._window is None:
            if self.agreed(trainer, self._batches >= WARMUP or self.spent(now - self._first_update[0], LOOKED)):
                self._window = self.mark(trainer)
        elif self.agreed(trainer, self.enough(now)):
            self._told = True
            self.conclude(trainer, pl_module)

    def enough(self, now: float) -> bool:
        """Whether the speed is known well enough: of a budget, for a share of it that is worth a careful look."""
        assert self._window is not None
        seconds = now - self._window[0]
        looked = self.minutes is None or self.plan is not None or self.spent(seconds, LOOKED)
        return (self._batches >= MEASURED and looked) or self.spent(seconds, 2 * LOOKED)

    def spent(self, seconds: float, share: float) -> bool:
        """Whether ``seconds`` are ``share`` of a budget that is to be planned."""
        return self.minutes is not None and self.plan is None and seconds >= share * 60 * self.minutes

    def agreed(self, trainer: L.Trainer, flag: bool) -> bool:
        """Return what the first process says; where the clock has a say they ask each other now and then."""
        if trainer.world_size == 1 or self.minutes is None or self.plan is not None:
            return flag
        return self._step % LOOK == 0 and bool(trainer.strategy.broadcast(flag))

    def mark(self, trainer: L.Trainer) -> tuple[float, int, int]:
        """Return the time, when the device has done what it was given, the update and the batch."""
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize(trainer.strategy.root_device)
        return clock(trainer), self._step, self._batches

    def conclude(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """End the measuring: plan what is to be planned, else predict."""
        assert self._window is not None and isinstance(model, Training)
        (began, first_update, first_batch), (ended, _, _) = self._window, self.mark(trainer)
        seconds, updates, batches = ended - began - self._pause, self._step - first_update, self._batches - first_batch
        if self.minutes is not None and self.plan is None:
            self.make(trainer, model, seconds / updates, updates, batches)
            return
        if (left := remaining(trainer, seconds / batches)) is not None:
            ending = f"the run should end at {at(left)} (in {duration(left)}), evaluation not counted."
            tell(trainer, f"{rate(updates / seconds)} over {updates:,} updates: {ending}{busy()}")

    def guess(self, trainer: L.Trainer) -> None:
        """Say what the first updates, slow as they are, let one expect."""
        assert self._first_update is not None
        (began, first_update, first_batch), (ended, _, _) = self._first_update, self.mark(trainer)
        seconds, updates, batches = ended - began, self._step - first_update, self._batches - first_batch
        said = f"About {rate(updates / seconds)} in the first {updates + 1:,}"
        if self.minutes is not None and self.plan is None:
            fitting = max(0.0, self.end - time.monotonic()) * updates / seconds
            tell(trainer, f"{said}: at most {fitting:,.0f} more fit into the budget; the plan follows.{busy()}")
        elif (left := remaining(trainer, seconds / batches)) is not None:
            tell(trainer, f"{said}: the run may end at {at(left)} (in {duration(left)}), evaluation not counted.{busy()}")

    # --- planning ---

    def make(self, trainer: L.Trainer, model: Training, seconds: float, updates: int, batches: int) -> None:
        """Plan the run, keep the plan in a checkpoint and tell it; raises CondgenError if nothing fits into the budget."""
        assert self.minutes is not None
        reserve = 60 * self.minutes * RESERVE + ENDS
        if trainer.strategy.broadcast(self.end - reserve < time.monotonic()):
            raise self.short(time.monotonic() - self._started)
        evaluation, final = self.rehearse(trainer, model)
        per_epoch = self._pause / self._epochs if self._epochs else self.validation(trainer, seconds * updates / batches)
        update = seconds + per_epoch * batches / updates / int(trainer.num_training_batches)
        left = self.end - reserve - final - time.monotonic()
        steps, every = share_out(left, update, evaluation, self._step)
        plan = Plan(self.minutes, steps, every, self._step, updates, seconds, evaluation, final)
        plan = trainer.strategy.broadcast(plan)
        if plan.steps == 0:
            raise self.short(time.monotonic() - self._started + evaluation + final)
        self.decide(trainer, model, plan)
        for callback in callbacks(trainer):
            if isinstance(callback, Checkpoint):
                callback.save(trainer, wait=True)  # before it is told
        ending = (plan.steps - plan.made_at) * update + plan.evaluations * evaluation + final
        self.announce(trainer, plan, ending)

    def rehearse(self, trainer: L.Trainer, model: Training) -> tuple[float, float]:
        """Do once what comes with each evaluation and with the last one; return the seconds of both."""
        evaluation = final = save = 0.0
        for callback in callbacks(trainer):
            if isinstance(callback, Evaluation):
                one, last = callback.rehearse(trainer, model)
                evaluation, final = evaluation + one, final + last
            elif isinstance(callback, SampleGrid | Checkpoint):
                start = time.monotonic()
                callback.show(trainer, model) if isinstance(callback, SampleGrid) else callback.save(trainer, wait=True)
                save += time.monotonic() - start
        return evaluation + save, final + save

    def validation(self, trainer: L.Trainer, batch: float) -> float:
        """Return what the end of an epoch will cost, in seconds, where none has come yet."""
        if not trainer.enable_validation:
            return 0.0
        count = trainer.fit_loop.epoch_loop.val_loop.max_batches
        return VALIDATION * batch * sum(int(number) for number in count)

    def short(self, seconds: float) -> CondgenError:
        """Return the complaint that the budget does not suffice."""
        return CondgenError(
            f"run.budget_minutes={self.minutes:g} is too short: start-up, measuring and evaluation alone take "
            f"{duration(seconds)}; give at least {math.ceil(10 * 2 * seconds / 60) / 10:g}."
        )

    def announce(self, trainer: L.Trainer, plan: Plan, left: float) -> None:
        """Say what will be done."""
        times = f"{plan.evaluations} times, {duration(plan.evaluations * plan.evaluation)} in all"
        tell(
            trainer,
            f"Budget {plan.minutes:g} min: {rate(1 / plan.seconds)} measured over {plan.measured:,} updates; planned "
            f"{plan.steps:,} updates (to {at(left)}), in place of trainer.max_epochs and trainer.max_steps; evaluation and "
            f"pictures every {plan.every:,} updates ({times}), {duration(plan.final)} for the last evaluation.",
        )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what became of the budget."""
        if self.minutes is not None and not self._resumed:
            tell(trainer, f"The run took {(time.monotonic() - self._started) / 60:.2f} of its {self.minutes:g} minutes.")


def remaining(trainer: L.Trainer, batch: float) -> float | None:
    """Return the seconds that what is left of the run takes, if a batch takes ``batch``; None where its end is open."""
    assert isinstance(trainer.lightning_module, Training)
    total = trainer.lightning_module.planned_batches
    return None if total is None else (total - trainer.fit_loop.epoch_loop.batch_progress.total.ready) * batch


def clock(trainer: L.Trainer) -> float:
    """Return a time in seconds that stands still while samples are measured."""
    measuring = sum(callback.seconds for callback in callbacks(trainer) if isinstance(callback, Evaluation))
    return time.monotonic() - measuring


def callbacks(trainer: L.Trainer) -> list[L.Callback]:
    """Return the trainer's callbacks."""
    found: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return found


def tell(trainer: L.Trainer, message: str) -> None:
    """Log ``message``, by the first process; the progress bar makes room for it."""
    if trainer.is_global_zero:
        with tqdm.external_write_mode():
            log.info("%s", message)
