"""Measuring the generator while it trains, and fully at the end."""

import logging
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from condgen.callbacks.base import Callback, epochs_of
from condgen.data import DataModule
from condgen.errors import CondgenError, Interrupted
from condgen.generators.base import BLOCK
from condgen.metrics.catalogue import LIKELIHOODS, chosen
from condgen.metrics.evaluator import FEWEST, Enough, Evaluator
from condgen.metrics.extractors import Extractor
from condgen.metrics.generated import Generated
from condgen.metrics.protocol import Protocol, thousands
from condgen.metrics.record import Record
from condgen.metrics.results import name_of, save, table
from condgen.run.loggers import show
from condgen.run.signals import interruptible
from condgen.spaces import Viewed
from condgen.training.base import Training
from condgen.types import PositiveInt

log = logging.getLogger("condgen")


class Evaluation(Callback):
    """Measure samples against the validation part: ``quality/fid/mnist-cnn/val-2k`` and others, on the averaged weights.

    The noise is decided by (seed, block) and the training's random state stays untouched: a run with and one without
    evaluation end with the same weights. Several processes share the blocks and measure the same samples as one would.
    After each measurement every callback with a method ``on_evaluation(trainer, model, record)`` is told.

    Args:
        extractor: what looks at the images; empty for no evaluation.
        metrics: names in `condgen.metrics.catalogue.METRICS`, or "all", measured during training.
        samples: how many samples then.
        every_epochs: measure after every so many epochs; None: not then.
        every_steps: measure after every so many updates (of the generator, for a GAN); None: not then.
        final: metrics of the last measurement, at the end of the run, with floors and pictures; None for none.
        final_samples: how many samples then; None: as many as the validation part has images.
        seed: decides the noise.
    """

    def __init__(
        self,
        extractor: Extractor | dict[str, Any],
        metrics: Sequence[str] | str = ("fid", "label_accuracy", "diversity"),
        samples: Enough = 2000,
        every_epochs: PositiveInt | None = 1,
        every_steps: PositiveInt | None = None,
        final: Sequence[str] | str | None = "all",
        final_samples: Enough | None = None,
        seed: int = 0,
    ):
        self.extractor = extractor if isinstance(extractor, Extractor) else None
        self.metrics, self.samples = chosen(metrics), samples
        self.every_epochs, self.every_steps = every_epochs, every_steps
        self.final, self.final_samples, self.seed = chosen(final or ()), final_samples, seed
        if bounds := {*self.metrics, *self.final} & {*LIKELIHOODS}:
            raise CondgenError(f"callbacks.evaluation looks at samples: {min(bounds)} is measured by condgen evaluate.")
        self.values: dict[str, float] = {}
        self.protocol: Protocol | None = None
        self.seconds = 0.0
        self.measured_at = 0  # the update
        self._evaluator: Evaluator | None = None

    def check(self, data: DataModule, model: Training) -> None:
        """Refuse, before training, an extractor that does not fit; raises CondgenError."""
        if self.extractor:
            self._evaluator = Evaluator(self.extractor, data, "val", self.seed)
            assert isinstance(model.space, Viewed)
            self.extractor.resizing(model.space.view.shape, "the samples")
            refuse_shared(self.extractor, model)

    @property
    def names(self) -> list[str]:
        """What is measured during training, under full names that a checkpoint or early stopping can watch."""
        if self.extractor is None:
            return []
        return [f"quality/{metric}/{self.extractor.name}/val-{thousands(self.samples)}" for metric in self.metrics]

    def state_dict(self) -> dict[str, Any]:
        """The newest figures and their protocol."""
        return {"values": self.values, "protocol": self.protocol.stamp() if self.protocol else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the figures of before."""
        stamp = state_dict["protocol"]
        self.values, self.protocol = state_dict["values"], Protocol(**stamp) if stamp else None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where the run stands: this update was measured, if it was to be, before the checkpoint was written."""
        super().on_train_start(trainer, pl_module)
        self.measured_at = self._update

    def on_update(self, trainer: L.Trainer, model: Training, update: int) -> None:
        """Measure within an epoch, if it is time."""
        if self.every_steps and update % self.every_steps == 0:
            self.measure_often(trainer, model)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, if it is time, and let checkpoints and early stopping see the newest figures."""
        if self.every_epochs and (epochs_of(pl_module) + 1) % self.every_epochs == 0:
            self.measure_often(trainer, pl_module)
        if self.values:
            pl_module.log_dict(self.values, logger=False, batch_size=1)  # a mean of one: other sizes would round

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure everything once more, with floors and pictures; Ctrl-C stops it, since nothing is trained any more."""
        assert isinstance(pl_module, Training)
        if self._evaluator and self.final and trainer.global_step > 0:
            count = self.final_samples or len(self._evaluator.part)
            try:
                with interruptible():
                    self.measure(trainer, pl_module, self._evaluator, self.final, count, final=True)
            except KeyboardInterrupt:
                again = f"condgen resume {trainer.default_root_dir}"
                raise Interrupted(f"Stopped by SIGINT in the last evaluation; make it with: {again}", signal.SIGINT) from None
        if self._evaluator and trainer.is_global_zero:
            log.info("Measuring took %.1f s of this run.", self.seconds)

    def measure_often(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Measure what is measured during training."""
        assert isinstance(model, Training)
        if self._evaluator:
            record = self.measure(trainer, model, self._evaluator, self.metrics, self.samples)
            self.values, self.protocol = record.named(), record.protocol
            self.measured_at = trainer.global_step

    def rehearse(self, trainer: L.Trainer, model: Training) -> tuple[float, float]:
        """Return the seconds that one measurement in training and the last one will take. Nothing of it is published."""
        if self._evaluator is None:
            return 0.0, 0.0
        last = self.final_samples or len(self._evaluator.part)
        often = self.estimate(trainer, model, self._evaluator, self.metrics, self.samples)
        return often, self.estimate(trainer, model, self._evaluator, self.final, last, final=True)

    def estimate(
        self,
        trainer: L.Trainer,
        model: Training,
        evaluator: Evaluator,
        metrics: Sequence[str],
        count: int,
        final: bool = False,
    ) -> float:
        """Return the seconds that `measure` will take for ``count`` samples, and compute what it finds in the cache then.

        A quarter of the samples is drawn, and its time multiplied; repeated, what is kept of them is measured as all would be.
        """
        few = max(FEWEST, count // 4)
        if not metrics:
            return 0.0

        def sample(count: int) -> Generated:
            place = trainer.global_rank, trainer.world_size
            return evaluator.sample(model.eval_generator, evaluator.matching_rows(count), metrics, *place, pictures=final)

        sample(min(BLOCK, few))  # compiles, chooses kernels
        start = time.monotonic()
        generated = sample(few)
        seconds = (time.monotonic() - start) * count / few
        if trainer.is_global_zero:
            evaluator.looked_at(metrics)
            generated.suite.stretch(count)
            start = time.monotonic()
            record = self.record(trainer, model, evaluator, generated)
            seconds += time.monotonic() - start
            if final:
                evaluator.floors(count, list(record.figures))
                if start_of := model.condition.image:
                    evaluator.baselines(start_of, count, bool(model.condition.classes), list(record.figures))
        return seconds

    def record(
        self, trainer: L.Trainer, model: Training, evaluator: Evaluator, generated: Generated, with_floors: bool = False
    ) -> Record:
        """Compute the figures of samples of a model as it now is."""
        options: Any = {"weights": model.weights, "sampling": model.eval_generator.sampling, "condition": model.condition}
        return evaluator.record(generated, with_floors=with_floors, source="last", step=trainer.global_step, **options)

    def measure(
        self,
        trainer: L.Trainer,
        model: Training,
        evaluator: Evaluator,
        metrics: Sequence[str],
        count: int,
        final: bool = False,
    ) -> Record:
        """Draw ``count`` samples, measure them, publish the figures and tell the other callbacks."""
        start = time.monotonic()
        rows, place = evaluator.matching_rows(count), (trainer.global_rank, trainer.world_size)
        generated = evaluator.sample(model.eval_generator, rows, metrics, *place, pictures=final)
        record = None
        if trainer.is_global_zero:
            record = self.record(trainer, model, evaluator, generated, with_floors=final)
            if final:
                self.finish(trainer, model, evaluator, record, generated)
        record = trainer.strategy.broadcast(record)
        assert record is not None
        model.publish(record.named())
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Callback):
                callback.on_evaluation(trainer, model, record)
        self.seconds += time.monotonic() - start
        return record

    def finish(
        self,
        trainer: L.Trainer,
        model: Training,
        evaluator: Evaluator,
        record: Record,
        generated: Generated,
    ) -> None:
        """Write the last measurement as ``condgen evaluate`` would, and show its pictures to the loggers."""
        folder = Path(trainer.default_root_dir) / "evaluation" / name_of(record)
        for name, picture in save(folder, record, evaluator, generated, model.eval_generator).items():
            show(trainer.loggers, f"evaluation/{name}", picture, trainer.global_step)
        log.info("%s", table(record))


def refuse_shared(extractor: Extractor, model: Training) -> None:
    """Refuse to measure by weights that the loss looks through: samples would be made to please them; raises CondgenError."""
    known = [parameter for network in model.frozen_networks for parameter in network.parameters() if parameter.dim() > 1]
    for parameter in extractor.network.parameters():
        if any(parameter.shape == other.shape and torch.equal(parameter.cpu(), other.cpu()) for other in known):
            raise CondgenError(
                f"The loss looks through the weights of {extractor.name}, which would measure the samples too: set "
                "extractor=none, or another network for the loss."
            )
