"""Hydra's own sweeper, every combination of the values, with a table at its end."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from condgen.errors import CondgenError
from condgen.sweeps import folder

log = logging.getLogger("hydra")


class Recording:
    """A launcher that remembers what came of the jobs: the sweeper forgets it where one of them fails.

    Args:
        launcher: launches.
    """

    def __init__(self, launcher: Launcher):
        self.launcher = launcher
        self.results: list[JobReturn] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch jobs and wait for them, as `Launcher.launch`."""
        results = self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
        self.results += results
        return results


class GridSweeper(BasicSweeper):
    """Run every combination; write ``sweep.md``, ``sweep.csv`` and TensorBoard's HParams, even where jobs failed."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Fix the folder, and remember the results."""
        folder.fix(config)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        assert self.launcher is not None
        self.recording = self.launcher = Recording(self.launcher)  # type: ignore[assignment]

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep and report on it."""
        assert self.config is not None
        try:
            return super().sweep(arguments)
        finally:
            from condgen.sweeps.results import of_jobs
            from condgen.sweeps.summary import write_grid

            try:
                rows, objective = of_jobs(self.recording.results)
                if any(row.values for row in rows):
                    log.info("Table of the sweep: %s", write_grid(Path(self.config.hydra.sweep.dir), rows, objective))
            except CondgenError as error:  # the runs are worth more than their table
                log.error("condgen: %s", error)
