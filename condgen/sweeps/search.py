"""Hydra's sweeper for Optuna by ask and tell: asks a study what to try, launches it, tells what came out.

hydra-optuna-sweeper, up to its pre-release 1.4.0rc3, counts trials and run directories from zero when it is started again and
cannot prune; its stable release needs optuna < 3.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from condgen.errors import CondgenError, NotMeasured
from condgen.sweeps import folder
from condgen.sweeps.results import Objective
from condgen.sweeps.space import Space, example, split, written

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("hydra")

FREE = ("run.threads", "trainer.accelerator", "trainer.devices")
"""Settings that workers of one study need not share."""


class OptunaSweeper(Sweeper):
    """Search with TPE, on one or two objectives, until ``n_trials`` are finished by all workers together.

    Args:
        study: its name, the same for all workers.
        storage: see `condgen.sweeps.study.open_storage`; None for ``study.db`` in the sweep's folder.
        n_trials: that count, over all workers and restarts: successes, failures and pruned ones.
        n_jobs: trials launched at a time.
        minimize: metrics by their full names, one or several.
        maximize: the same.
        seed: of the search; the runs have their own.
        startup: trials drawn at random before TPE takes over.
        params: keys and what to try.
        pruner: configuration of an Optuna pruner; None or empty for none.
    """

    def __init__(
        self,
        study: str,
        storage: str | None,
        n_trials: int,
        n_jobs: int,
        minimize: str | Sequence[str] | None,
        maximize: str | Sequence[str] | None,
        seed: int,
        startup: int,
        params: dict[str, Any] | None,
        pruner: dict[str, Any] | None,
    ):
        self.study, self.storage, self.n_trials, self.n_jobs = study, storage, n_trials, n_jobs
        self.objectives = [Objective(name, "minimize") for name in listed(minimize)]
        self.objectives += [Objective(name, "maximize") for name in listed(maximize)]
        self.seed, self.startup, self.params, self.pruner = seed, startup, params or {}, pruner or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check what was asked for, and take the launcher."""
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise CondgenError("hydra/sweeper=optuna needs optuna: pip install 'condgen[sweep]'.") from error
        if not self.objectives:
            raise CondgenError("Name what to optimize, such as hydra.sweeper.minimize=quality/fid/mnist-cnn/val-2k.")
        if len(self.objectives) > 1 and self.pruner:
            raise CondgenError("Pruning needs a single objective: take hydra/sweeper/pruner=none, or leave one metric out.")
        if min(self.n_trials, self.n_jobs) < 1:
            raise CondgenError("hydra.sweeper.n_trials and hydra.sweeper.n_jobs must be at least 1.")
        folder.fix(config)
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)
        self.folder = Path(config.hydra.sweep.dir).absolute()

    def sweep(self, arguments: list[str]) -> None:
        """Search, and report on the study.

        Raises:
            CondgenError: a key or a metric does not exist, the study searched something else, or every trial failed.
        """
        from condgen.sweeps import study as studies

        assert self.launcher is not None and self.hydra_context is not None
        space, shared = split(self.params, arguments, self.hydra_context.config_loader)
        self.validate_batch_is_legal([[*shared, *example(space), *self.extra(0)]])
        self.folder.mkdir(parents=True, exist_ok=True)
        self.storage = self.storage or studies.default_storage(self.folder)
        sampler, directions = studies.TPE(self.seed, self.startup), [one.direction for one in self.objectives]
        study = studies.open_study(self.study, self.storage, sampler, directions, asked(space, shared, self.objectives))
        while trials := studies.reserve(study, space, self.n_trials, self.n_jobs):
            jobs = [[*shared, *chosen(trial), *self.extra(trial.number)] for trial in trials]
            with studies.beating(trials):
                try:
                    results = self.launcher.launch(jobs, initial_job_idx=trials[0].number)
                except BaseException:  # Ctrl-C, or a launcher that fails: the runs did not end
                    for trial in trials:
                        studies.withdraw(study, studies.frozen(study, trial.number), "its worker was stopped", again=True)
                    raise
            for trial, result in zip(trials, results, strict=True):
                self.finish(study, trial, result)
        self.report(study, shared)

    def extra(self, number: int) -> list[str]:
        """Return what trial ``number`` needs beside its settings: a folder, its objectives, a best checkpoint by the first."""
        first, names = self.objectives[0], ",".join(one.name for one in self.objectives)
        overrides = [f"hydra.sweep.subdir={number}", f"run.objective={f'[{names}]' if len(self.objectives) > 1 else names}"]
        assert self.config is not None
        if OmegaConf.select(self.config, "callbacks.checkpoint.monitor", default="absent") is None:
            overrides += [f"callbacks.checkpoint.monitor={first.name}", f"callbacks.checkpoint.mode={first.direction[:3]}"]
        if self.pruner:
            callback = {"_target_": "condgen.sweeps.pruning.Pruning", "storage": f"'{self.storage}'", "study": self.study}
            callback |= {"trial": str(number), "monitor": first.name}
            callback |= {f"pruner.{key}": str(value) for key, value in self.pruner.items()}
            overrides += [f"+callbacks.pruning.{key}={value}" for key, value in callback.items()]
        return overrides

    def finish(self, study: "optuna.Study", trial: "optuna.Trial", result: JobReturn) -> None:
        """Tell the study what came of a trial; one that a pruner stopped has told it itself."""
        from optuna.trial import TrialState

        from condgen.sweeps import study as studies

        found = studies.frozen(study, trial.number)
        if found.state.is_finished():
            return
        outcome, failed = result._return_value, result.status == JobStatus.FAILED
        if isinstance(outcome, NotMeasured):
            studies.withdraw(study, found, str(outcome), again=False)
            raise outcome
        values = list(outcome) if isinstance(outcome, tuple) else [outcome]
        if not failed and None in values:
            name = self.objectives[values.index(None)].name
            studies.withdraw(study, found, "not measured", again=False)
            raise NotMeasured(f"{name} is not measured at the best checkpoint of a run: look at its metrics.json for what is.")
        if failed or not all(math.isfinite(value) for value in values):
            reason = f"{type(outcome).__name__}: {outcome}" if failed else f"{values} is not finite"
            log.warning("Trial %d failed, the search goes on. %s", trial.number, reason)
            log.debug("Traceback of trial %d", trial.number, exc_info=outcome if failed else None)
            trial.set_user_attr("error", reason)
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, values)

    def report(self, study: "optuna.Study", shared: list[str]) -> None:
        """Write table and charts of the study."""
        from optuna.trial import TrialState

        from condgen.sweeps import study as studies
        from condgen.sweeps.summary import write_study

        trials = studies.counted(study)
        if not any(trial.state == TrialState.COMPLETE for trial in trials):
            errors = [trial.user_attrs["error"] for trial in trials if "error" in trial.user_attrs]
            raise CondgenError(
                f"No trial of the study {self.study} succeeded; the last said: {errors[-1] if errors else 'nothing.'}"
            )
        log.info("Table of the study: %s", write_study(self.folder, study, trials, self.objectives, shared))


def listed(names: str | Sequence[str] | None) -> list[str]:
    """Return metric names as a list."""
    return [names] if isinstance(names, str) else list(names or [])


def chosen(trial: "optuna.Trial") -> list[str]:
    """Return a trial's settings as overrides."""
    return [f"{key}={written(value)}" for key, value in trial.params.items()]


def asked(space: Space, shared: list[str], objectives: Sequence[Objective]) -> dict[str, Any]:
    """Return what makes two searches the same one, as plain values by key."""
    fixed = {key: value for key, _, value in (override.partition("=") for override in shared) if key not in FREE}
    return fixed | {key: repr(drawn) for key, drawn in space.items()} | {one.name: one.direction for one in objectives}
