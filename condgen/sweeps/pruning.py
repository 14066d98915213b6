"""Stopping hopeless trials: what a run reports while it trains, and who decides."""

import logging
from typing import Any

import lightning as L
import optuna
from optuna.trial import Trial, TrialState

from condgen.callbacks.checkpoint import metrics
from condgen.callbacks.evaluation import Evaluation
from condgen.sweeps.study import open_storage

log = logging.getLogger("condgen")


class Median(optuna.pruners.MedianPruner):
    """Optuna's median pruner, under a name that a stored configuration may hold."""


class Hyperband(optuna.pruners.HyperbandPruner):
    """Optuna's Hyperband (Li et al. 2018), under a name that a stored configuration may hold."""


class Pruning(L.Callback):
    """Report a metric after each epoch that measured it, and end a trial that the pruner holds for hopeless.

    Such a run ends as others do, with its checkpoints, but without the last, full measurement.

    Args:
        storage: see `condgen.sweeps.study.open_storage`.
        study: name of the study.
        trial: number of the trial; of one that is finished nothing is reported.
        monitor: a metric under its full name.
        pruner: decides.
    """

    def __init__(self, storage: str, study: str, trial: int, monitor: str, pruner: optuna.pruners.BasePruner):
        self.storage, self.study, self.number, self.monitor, self.pruner = storage, study, trial, monitor, pruner
        self._trial: Trial | None = None
        self._measured = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the trial; the first process speaks for all."""
        if trainer.is_global_zero:
            study = optuna.load_study(study_name=self.study, storage=open_storage(self.storage), pruner=self.pruner)
            found = study.get_trials(deepcopy=False)[self.number]
            self._trial = Trial(study, found._trial_id) if found.state == TrialState.RUNNING else None

    def on_evaluation(self, trainer: L.Trainer, pl_module: L.LightningModule, record: Any) -> None:
        """There are new figures."""
        self._measured = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report, and stop all processes if the trial is hopeless."""
        hopeless = False
        value = metrics(trainer).get(self.monitor)
        if self._trial and value is not None and (self._measured or not self.monitor.startswith("quality/")):
            self._trial.report(value, step=trainer.current_epoch + 1)
            hopeless = self._trial.should_prune()
            if hopeless:
                log.info("Trial %d is hopeless with %s = %.5g: it ends here.", self.number, self.monitor, value)
                self._trial.study.tell(self.number, state=TrialState.PRUNED)
                self._trial = None
        self._measured = False
        if trainer.strategy.broadcast(hopeless):
            trainer.should_stop = True
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Evaluation):
                    callback.final = []
