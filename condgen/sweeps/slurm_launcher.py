"""Hydra's launcher for Slurm: the runs of a sweep as one array job, submitted by submitit.

hydra-submitit-launcher 1.2.0 composes a job's configuration when the job starts, so that a change of conf/ while it waits in
the queue changes what is trained; it waits for ever for a job that was killed where Slurm keeps no accounts (sacct); and one
such job ends the whole sweep. Here what was asked for is fixed at submission, and a lost job is a failed run.
"""

import logging
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from condgen.config.build import sentence
from condgen.errors import CondgenError, Interrupted

log = logging.getLogger("hydra")
LOOK = 10.0
"""Seconds between two questions to Slurm's queue."""


@dataclass
class Job:
    """What a Slurm job runs, the same again after it was queued anew; pickled at submission."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig

    def __call__(self) -> JobReturn:
        """Run, and return what came of it."""
        setbase("1.3")  # as `condgen.jobs.run_hydra` does
        setup_globals()  # Hydra's resolvers
        result = run_job(self.task, self.config, "hydra.sweep.dir", "hydra.sweep.subdir", self.context)
        if result.status == JobStatus.FAILED:
            self.note(result._return_value)
            if not isinstance(result._return_value, CondgenError):  # it may hold what cannot be pickled
                traceback.print_exception(result._return_value)
                result.return_value = RuntimeError(f"{type(result._return_value).__name__}: {sentence(result._return_value)}")
        return result

    def note(self, error: BaseException) -> None:
        """Let ``condgen status`` know of a failure before the run had begun."""
        from condgen.run.directory import ended_by, stored_status, write_status

        directory = Path(self.config.hydra.runtime.output_dir)
        print(f"condgen: {error}", file=sys.stderr)
        if stored_status(directory).get("state") == "queued":
            write_status(directory, at=time.time(), **ended_by(error))

    def checkpoint(self) -> Any:
        """Preempted before the first update: queue the same again (a hook of submitit's)."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmLauncher(Launcher):
    """Submit the runs as an array, and wait for them.

    Args:
        partition, constraint, account, qos: as sbatch takes them; None for the cluster's own.
        time: limit in minutes, or as ``D-HH:MM:SS``; a run that reaches it saves itself and is queued again.
        nodes: for each run; must be ``trainer.num_nodes``.
        gpus: for each node; ``trainer.devices`` processes share them.
        cpus: for each process.
        memory: of each node, such as ``32G``.
        parallel: runs of a sweep that may run at the same time.
        signal_seconds: how long before the limit a run is told to save itself.
        setup: shell lines to run before, such as ``module load cuda``.
        options: other options of sbatch, by their long names.
        folder: for scripts and logs.
    """

    def __init__(
        self,
        partition: str | None,
        constraint: str | None,
        account: str | None,
        qos: str | None,
        time: int | str,
        nodes: int,
        gpus: int,
        cpus: int | None,
        memory: str | None,
        parallel: int,
        signal_seconds: int,
        setup: Sequence[str],
        options: dict[str, Any],
        folder: str,
    ):
        self.nodes, self.gpus, self.parallel, self.time = nodes, gpus, parallel, time
        self.before, self.folder = list(setup or []), Path(folder)
        self.options = dict(options or {}) | ({"mem": memory} if memory else {})
        named = {"partition": partition, "constraint": constraint, "account": account, "qos": qos, "cpus_per_task": cpus}
        self.named = {key: value for key, value in named.items() if value is not None}
        self.signal_seconds = signal_seconds

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Refuse where nothing can be submitted."""
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise CondgenError("hydra/launcher=slurm needs submitit: pip install 'condgen[slurm]'.") from error
        if missing := [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]:
            raise CondgenError(f"hydra/launcher=slurm needs Slurm's commands: {missing[0]} was not found on this machine.")
        self.minutes = minutes(self.time)
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit a run for each list of overrides, and wait until all have ended."""
        configs = [self.compose(list(one), initial_job_idx + place) for place, one in enumerate(job_overrides)]
        directories = [Path(config.hydra.sweep.dir, str(config.hydra.sweep.subdir)) for config in configs]
        tasks = {self.tasks(config) for config in configs}
        if len(tasks) > 1:
            raise CondgenError("All runs of an array get as many processes: sweep over trainer.devices in two sweeps.")
        ids = self.submit(configs, directories, tasks.pop())
        runs = f"{len(ids)} run{'s' * (len(ids) > 1)}"
        log.info("Slurm's job %s: %s in %s", ids[0].split("_")[0], runs, configs[0].hydra.sweep.dir)
        log.info("condgen status %s shows them.", configs[0].hydra.sweep.dir)
        try:
            return self.wait(ids, configs, directories)
        except KeyboardInterrupt:
            raise self.left_alone(ids[0].split("_")[0]) from None

    def compose(self, overrides: list[str], number: int) -> DictConfig:
        """Return the configuration of a run as it is now, with the sweep's folder fixed."""
        config: DictConfig = self.context.config_loader.load_sweep_config(self.config, overrides)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.num, config.hydra.job.id = number, f"run-{number}"
            config.hydra.sweep.dir = str(Path(config.hydra.sweep.dir).absolute())
            config.hydra.sweep.subdir = str(config.hydra.sweep.subdir)
        return config

    def tasks(self, config: DictConfig) -> int:
        """Return the processes that a run needs on each node."""
        trainer: Any = OmegaConf.to_container(config.trainer, resolve=True)
        devices = trainer.get("devices", 1)
        if trainer.get("num_nodes", 1) not in ("auto", self.nodes):
            raise CondgenError(
                f"hydra.launcher.nodes={self.nodes} and trainer.num_nodes={trainer.get('num_nodes', 1)} have to be the same."
            )
        if isinstance(devices, list):
            return len(devices)
        return max(1, self.gpus) if str(devices) in ("auto", "-1") else int(devices)

    def submit(self, configs: Sequence[DictConfig], directories: Sequence[Path], tasks: int) -> list[str]:
        """Hand the runs to Slurm and return the ids of their jobs."""
        import submitit

        from condgen.run.directory import refuse_occupied, stored_status, write_status

        for directory in directories:
            refuse_occupied(directory)
        for directory, config in zip(directories, configs, strict=True):
            said = [str(one) for one in config.hydra.overrides.task]
            write_status(directory, state="queued", at=time.time(), error=None, job=None, overrides=said)
        executor = submitit.SlurmExecutor(self.folder.absolute(), max_num_timeout=sys.maxsize)
        executor.update_parameters(
            job_name="condgen",
            time=self.minutes,
            nodes=self.nodes,
            ntasks_per_node=tasks,
            gpus_per_node=self.gpus or None,
            array_parallelism=self.parallel,
            signal_delay_s=self.signal_seconds,
            setup=self.before or None,
            additional_parameters={"requeue": True} | self.options,
            **self.named,
        )
        try:
            with executor.batch():
                jobs = [executor.submit(Job(self.context, self.task, config)) for config in configs]
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            for directory in directories:
                write_status(directory, state="failed", error="was not submitted")
            raise CondgenError(f"Slurm did not take the job: {last_line(error)}.") from error
        ids = [str(job.job_id) for job in jobs]
        for directory, job in zip(directories, ids, strict=True):
            if stored_status(directory).get("state") == "queued":
                write_status(directory, job=job)
        return ids

    def wait(self, ids: Sequence[str], configs: Sequence[DictConfig], directories: Sequence[Path]) -> list[JobReturn]:
        """Return what came of each run, as soon as all have ended."""
        from condgen.run.status import queue

        results: dict[str, JobReturn] = {}
        gone: set[str] = set()
        while True:
            for job, config, directory in zip(ids, configs, directories, strict=True):
                if job not in results and (self.path(job).exists() or job in gone):
                    results[job] = self.result(job, config, directory)
            if len(results) == len(ids):
                return [results[job] for job in ids]
            self.pause(ids)
            listed = queue()
            gone = set() if listed is None else {job for job in ids if job not in listed}

    def pause(self, ids: Sequence[str]) -> None:
        """Wait for the next look; not as long where all results are there already."""
        until = time.monotonic() + LOOK
        while time.monotonic() < until and not all(self.path(job).exists() for job in ids):
            time.sleep(0.5)

    def path(self, job: str) -> Path:
        """Return where the first process of a job leaves its result."""
        return self.folder.absolute() / f"{job}_0_result.pkl"

    def result(self, job: str, config: DictConfig, directory: Path) -> JobReturn:
        """Return what came of a job that has ended."""
        from submitit.core.utils import pickle_load

        from condgen.run.directory import stored_status, write_status

        reason = f"job {job} was killed (by hand, for its memory, or with its machine)"
        if self.path(job).exists():
            outcome, value = pickle_load(self.path(job))
            if outcome == "success" and isinstance(value, JobReturn):
                return value
            reason = last_line(value)
        if stored_status(directory).get("state") in ("queued", "running"):
            write_status(directory, state="failed", error=reason)
        log.error("condgen: %s; condgen resume %s goes on with it, its log lies in %s.", reason, directory, self.folder)
        return failed(config, directory, reason)

    def left_alone(self, array: str) -> Interrupted:
        """Return what to tell on Ctrl-C: a grid goes on without us; a search, which would try the same again, is cancelled."""
        assert self.config is not None
        if "n_trials" in self.config.hydra.sweeper:
            subprocess.run(["scancel", array], capture_output=True)
            message = f"Stopped, and job {array} of this search cancelled; the same command again goes on with it."
        else:
            message = f"Job {array} goes on: condgen status {self.config.hydra.sweep.dir} shows it, scancel {array} ends it."
        return Interrupted(message, signal.SIGINT)


def failed(config: DictConfig, directory: Path, reason: str) -> JobReturn:
    """Return the result of a job that left none, as Hydra would have made it."""
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.runtime.output_dir = str(directory)
    result = JobReturn(status=JobStatus.FAILED, overrides=[str(one) for one in config.hydra.overrides.task])
    result.return_value = CondgenError(f"{reason}.")
    result.hydra_cfg = OmegaConf.create({"hydra": config.hydra})
    result.cfg = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return result


def minutes(limit: int | str) -> int:
    """Return a time limit in minutes, from a number of them or from Slurm's ``D-HH:MM:SS``, ``HH:MM:SS`` or ``D-HH``."""
    text = str(limit)
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::\d\d)?", text) or re.fullmatch(r"(\d+)-(\d+)()", text)
    if found:
        days, hours, rest = (int(part or 0) for part in found.groups())
        return max(1, (days * 24 + hours) * 60 + rest)
    if not text.isdigit() or int(text) < 1:
        raise CondgenError(f"hydra.launcher.time must be minutes or D-HH:MM:SS, not {limit}.")
    return int(text)


def last_line(error: object) -> str:
    """Return the last line of an error's text, which is where programs say what is wrong."""
    text = getattr(error, "stderr", None) or str(error)
    lines = (text.decode(errors="replace") if isinstance(text, bytes) else str(text)).strip().splitlines()
    return lines[-1].rstrip(" .") if lines else "no reason was given"
