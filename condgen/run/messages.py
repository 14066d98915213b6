"""What a run says, and where it goes: to the terminal and, with times, into ``train.log``."""

import contextlib
import logging
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from condgen.run.parts import Parts
from condgen.run.plan import longer
from condgen.run.precision import explain
from condgen.run.scaling import tell_scale

log = logging.getLogger("condgen")
handlers: list[logging.Handler] = []
"""Where condgen's messages go now; others may listen too."""


def logging_to(path: Path | None) -> None:
    """Let condgen's messages go to the terminal and, with times, to ``path``."""
    log.setLevel(logging.INFO)
    log.propagate = False
    silence()
    terminal = logging.StreamHandler()
    terminal.setFormatter(logging.Formatter("%(message)s"))
    handlers.append(terminal)
    if path:
        file = logging.FileHandler(path)
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        handlers.append(file)
    for handler in handlers:
        log.addHandler(handler)


def silence() -> None:
    """Let condgen's messages go nowhere."""
    while handlers:
        handler = handlers.pop()
        log.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Leave logging, warnings, random numbers and threads of this process as they were: a run is a guest in it."""
    loggers = [logging.getLogger(name) for name in ("condgen", "lightning.pytorch", "lightning.fabric")]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        silence()
        torch.set_num_threads(threads)
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate


def announce(run: Parts, checkpoint: Path | None) -> None:
    """Say what will be trained on what."""
    if run.finetuned:
        log.info("%s", run.finetuned)
    size = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    log.info(
        "%s %s: %s with %.2f M parameters, %s in batches of %d, on %d x %s",
        "Resuming" if checkpoint else "Training",
        run.config["run"]["name"],
        type(run.model).__name__,
        size / 1e6,
        f"{len(run.data.train.labels):,} samples ({run.model.space})",
        run.data.batch_size,
        run.trainer.world_size,
        run.trainer.strategy.root_device.type,
    )
    if run.data.imbalance or run.data.balance:
        log.info("%s", run.data.told())
    log.info("%s", explain(str(run.trainer.precision), run.trainer.strategy.root_device.type))
    tell_scale(run.config, run.model, run.trainer.world_size)


def conclude(run: Parts, best: dict[str, float], seconds: float) -> None:
    """Say how it ended, with its ``best`` metrics."""
    if run.config["trainer"].get("profiler"):
        log.info("%s", run.trainer.profiler.summary())  # type: ignore[attr-defined]
    log.info("Trained %d updates in %.0f s.", run.trainer.global_step, seconds)
    for metric, value in (best or run.model.latest).items():
        log.info("  %-24s %.5g", metric, value)


def tell_places(run: Parts, directory: Path, report: Path) -> None:
    """Say where everything lies, and what can be done next."""
    shown = directory
    with contextlib.suppress(ValueError):  # not below the current directory
        shown = directory.resolve().relative_to(Path.cwd())
    pictures = sorted((directory / "samples").glob("*.png"))
    example = run.model.condition.example()
    condition = f" --condition {shlex.quote(example)}" if example else ""
    condition += " --image PICTURE" if run.model.condition.image else ""
    steps, epochs = run.trainer.max_steps, run.trainer.max_epochs
    if run.config["run"].get("budget_minutes"):
        more = longer(2 * run.trainer.global_step)
    else:
        more = f"trainer.max_steps={2 * steps}" if steps > 0 else f"trainer.max_epochs={2 * (epochs or 1)}"
    rows = {
        "run directory": shown,
        "last samples": shown / "samples" / pictures[-1].name if pictures else "none",
        "checkpoints": shown / "checkpoints",
        "metrics": shown / "metrics.json",
        "curves": f"tensorboard --logdir {shown}",
        "report": shown / report.name,
        "draw samples": f"condgen sample {shown}{condition} --count {8 if run.model.condition.image else 64} --out samples.png",
        "train longer": f"condgen resume {shown} {more}",
    }
    for name, place in rows.items():
        log.info("  %-14s %s", name, place)
