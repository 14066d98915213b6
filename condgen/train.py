"""Training one run: check everything, then fit, in this process or in several.

Reads top to bottom: `train` is the whole story, the rest are its steps.
"""

import contextlib
import ctypes
import logging
import os
import platform
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.profilers import PassThroughProfiler

from condgen.callbacks.base import Callback
from condgen.callbacks.checkpoint import Checkpoint, metrics
from condgen.callbacks.evaluation import Evaluation
from condgen.callbacks.heartbeat import Heartbeat
from condgen.callbacks.plan import Planner
from condgen.config.build import build, sentence
from condgen.config.validate import check
from condgen.errors import CondgenError, NotMeasured
from condgen.files import remove_leftovers, write_text
from condgen.randomness import mix
from condgen.report import write_report
from condgen.run.checkpoint import read
from condgen.run.directory import recorded
from condgen.run.finetune import start_from
from condgen.run.fitting import require_fitting
from condgen.run.loggers import RunLogger
from condgen.run.loop import install, pass_by
from condgen.run.messages import announce, conclude, logging_to, tell_places
from condgen.run.parts import Parts
from condgen.run.precision import decided
from condgen.run.private import build_privacy, keep_secret, require_same_kind, without_statistics
from condgen.run.processes import is_first, launch, local_workers, losses_told, node_count, processes
from condgen.run.recipe import build_training
from condgen.run.resources import require_weights
from condgen.run.scaling import scaled
from condgen.training.base import Training
from condgen.training.parallel import strategy

Config = dict[str, Any]
Outcome = float | tuple[float | None, ...] | None
"""Of a run for a sweep: the best value of its objective, of several a tuple; None for one that was not measured."""


def train(
    config: Config,
    directory: Path,
    checkpoint: Path | None = None,
    started: float | None = None,
    overrides: Sequence[str] = (),
    afresh: bool | None = None,
) -> Outcome:
    """Train the run that ``config`` describes and return the best value of its objective (None if it has none).

    Of several objectives the values at the best checkpoint, in their order.

    Args:
        config: the resolved configuration, plain dicts.
        directory: the run directory; written to only if ``config["run"]["files"]``.
        checkpoint: the checkpoint to go on from; None starts afresh.
        started: when the run began, in seconds of `time.monotonic`, from where its budget counts; None: now.
        overrides: what the command line changed, for the record.
        afresh: refuse a directory that holds a run; None: where there is no checkpoint.

    Raises:
        CondgenError: something cannot work as asked, told before training starts; or losses stopped being finite.
    """
    started = time.monotonic() if started is None else started
    logging_to(None)
    check(config)
    world, workers = processes(config), local_workers(config)
    run = assemble(config, directory, started, afresh=checkpoint is None)
    config = run.config
    if run.data.batch_size % world:
        raise CondgenError(f"data.batch_size={run.data.batch_size} cannot be shared by {world} processes: take a multiple.")
    if checkpoint:
        content = read(checkpoint)
        require_fitting(run.model, content, checkpoint)
        require_same_kind(run.privacy, content, checkpoint)
    held: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if config["run"]["files"] and is_first():
        afresh = checkpoint is None if afresh is None else afresh
        held = recorded(directory, config, list(overrides), run.trainer.strategy.root_device, afresh)
    with held:
        if config["run"]["files"] and is_first():
            remove_leftovers(directory)
            keep_secret(run.privacy, directory, config, resuming=checkpoint is not None)
            write_text(directory / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        if workers > 1:
            if not config["run"]["threads"]:
                config = config | {"run": config["run"] | {"threads": max(1, (os.cpu_count() or 1) // workers)}}
            best: Outcome = launch(workers, worker, config, directory, checkpoint, started)
            return best
        return fit(run, directory, checkpoint)


def assemble(config: Config, directory: Path, started: float, afresh: bool) -> Parts:
    """Build data, model and trainer, and so refuse whatever does not fit together; a resumed run is not made ``afresh``."""
    privacy = build_privacy(config, directory)
    config = decided(config)
    for name in ("lightning.pytorch", "lightning.fabric"):  # their advice and advertisements
        logging.getLogger(name).setLevel(logging.WARNING)
    if config["run"]["threads"]:
        torch.set_num_threads(config["run"]["threads"])
    keep_memory()
    torch.manual_seed(mix(config["seed"], "weights"))
    data = build("data", config["data"])
    data.setup("fit")
    recipe = {
        "model": scaled(config),
        "loss": config["loss"],
        "condition": data.condition.config(),
        "space": without_statistics(data.space.config()) if privacy else data.space.config(),
        "seed": config["seed"],
    }
    require_weights(lambda: build_training(recipe))
    model = build_training(recipe)
    if privacy:
        model.make_private(privacy)
        data.sampled = privacy.sampled if model.mechanism == "steps" else None
    weights = config["run"].get("finetune") if afresh else None
    finetuned = start_from(model, weights) if weights else ""
    callbacks = [build(f"callbacks.{name}", node) for name, node in config["callbacks"].items() if chosen(name, node)]
    for callback in callbacks:
        if isinstance(callback, Callback):
            callback.check(data, model)
    planner = Planner(config["run"].get("budget_minutes"), started)
    loggers = [build(f"logger.{name}", node) for name, node in config["logger"].items() if node]
    require_objective(config, callbacks, model)
    require_watched(callbacks, model)
    precision = str(config["trainer"].get("precision"))  # as asked for: on a CPU Lightning makes 16-mixed bf16-mixed
    if precision in ("16", "16-mixed") and not model.automatic_optimization:
        raise CondgenError("A GAN does not train in 16-mixed, which rescales gradients: choose trainer.precision=bf16-mixed.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")  # on a login node: its advice to use srun
            trainer = L.Trainer(
                **{key: value for key, value in config["trainer"].items() if key not in ("profiler", "strategy", "num_nodes")},
                num_nodes=node_count(config),
                strategy=strategy(config["trainer"].get("strategy", "auto"), processes(config)),
                default_root_dir=directory,
                callbacks=[*callbacks, planner, *heartbeat(config, directory, model)],
                logger=loggers,
                profiler=config["trainer"].get("profiler") or NoProfiler(),
                enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,  # condgen's loader takes each rank's share itself
            )
    except (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise CondgenError(f"trainer: {sentence(error)}") from error
    install(trainer)
    for hooked in (*trainer.callbacks, model):  # type: ignore[attr-defined]
        pass_by(hooked)
    planner.refuse(trainer)
    return Parts(config, data, model, trainer, finetuned, privacy)


def chosen(name: str, node: Config | None) -> bool:
    """Whether a callback's node is one; a recipe sets keys also of a callback that callbacks=none leaves out."""
    if node is not None and not isinstance(node, dict):
        raise CondgenError(f"callbacks.{name}={node} is no callback: give it _target_ and arguments, or null to leave it out.")
    return node is not None and "_target_" in node


def heartbeat(config: Config, directory: Path, model: Training) -> list[L.Callback]:
    """Return what keeps ``status.json``, where the run writes files."""
    objective = config["run"]["objective"] or model.objective or [None]
    metric = objective if isinstance(objective, str) else objective[0]
    return [Heartbeat(directory, metric)] if config["run"]["files"] else []


def require_watched(callbacks: list[L.Callback], model: Training) -> None:
    """Refuse callbacks that watch a metric which the run does not have."""
    measured = measured_names(callbacks, model)
    for callback in callbacks:
        watched = str(getattr(callback, "monitor", None) or "")
        if watched and not is_measured(watched, measured, model):
            raise CondgenError(
                f"A callback watches {watched}, which is not measured during training: {alternatives(measured)}."
            )


def require_objective(config: Config, callbacks: list[L.Callback], model: Training) -> None:
    """Refuse an objective that the run does not measure during training."""
    objective = config["run"]["objective"] or []
    measured = measured_names(callbacks, model)
    for name in [objective] if isinstance(objective, str) else objective:
        if not is_measured(name, measured, model):
            raise NotMeasured(f"run.objective={name} is not measured during training: {alternatives(measured)}.")


def measured_names(callbacks: list[L.Callback], model: Training) -> list[str]:
    """Return the metrics that are known before training; a validation loss has parts besides."""
    quality = [name for callback in callbacks if isinstance(callback, Evaluation) for name in callback.names]
    return [*quality, *([model.objective] if model.objective else [])]


def is_measured(name: str, measured: list[str], model: Training) -> bool:
    """Whether a run measures ``name``, or may: the parts of a validation loss show only when it is computed."""
    return name in measured or (name.startswith("val/") and model.objective is not None)


def alternatives(measured: list[str]) -> str:
    """Say what could be watched instead."""
    return f"take one of {', '.join(measured)}" if measured else "leave it out, or measure with callbacks.evaluation"


class NoProfiler(PassThroughProfiler):
    """Profile nothing, at less than Lightning's own cost: it asks forty times a step."""

    nothing = contextlib.nullcontext()

    def profile(self, action_name: str) -> contextlib.nullcontext[None]:  # type: ignore[override]
        """Return a context that does nothing."""
        return self.nothing


def keep_memory() -> None:
    """Tell glibc to keep freed memory: it would give the gradients back to the kernel and fault them in again at every step."""
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_threshold = -1, -3  # the parameters' numbers in malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 30)


def fit(run: Parts, directory: Path, checkpoint: Path | None) -> Outcome:
    """Train in this process; the first of several also speaks."""
    trainer, files = run.trainer, run.config["run"]["files"]
    first = trainer.is_global_zero
    logging_to(directory / "train.log" if files and first else None)
    try:
        fit_logged(run, directory, checkpoint)
    finally:
        logging_to(None)
    return outcome(run)


def outcome(run: Parts) -> Outcome:
    """Return the values of the objectives at the best checkpoint, of the run's end where no metric decides which that is."""
    values = best_metrics(run.trainer) or metrics(run.trainer)
    objective = run.config["run"]["objective"] or run.model.objective or ""
    return values.get(objective) if isinstance(objective, str) else tuple(map(values.get, objective))


def best_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return the metrics of the best checkpoint; nothing where none is chosen."""
    return next((callback.best for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoint)), {})


def fit_logged(run: Parts, directory: Path, checkpoint: Path | None) -> None:
    """Fit, and say what begins and how it ended."""
    trainer, first = run.trainer, run.trainer.is_global_zero
    if checkpoint or (directory / "metrics.csv").exists():  # the second: killed before its first checkpoint
        step = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"] if checkpoint else -1
        for logger in trainer.loggers if first else []:
            if isinstance(logger, RunLogger):
                logger.resume(step)
    if first:
        announce(run, checkpoint)
    start = time.monotonic()
    with warnings.catch_warnings(), losses_told():
        # Lightning's advice about loaders and loops that condgen replaces by its own.
        warnings.filterwarnings("ignore", module=r"lightning\.")
        trainer.fit(run.model, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
    if first:
        conclude(run, best_metrics(trainer), time.monotonic() - start)
        if run.config["run"]["files"]:
            tell_places(run, directory, write_report(directory))


def worker(config: Config, directory: Path, checkpoint: Path | None, started: float) -> Outcome:
    """One of several processes."""
    return fit(assemble(config, directory, started, afresh=checkpoint is None), directory, checkpoint)
