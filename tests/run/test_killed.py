"""A run that is killed at any boundary goes on to the same bits, for each family and each way of limiting a run.

Each kill is a SIGKILL that a forked process sends itself at a named place; nothing that would run at an exit runs.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import condgen
from outcome import assert_same, outcome

from condgen.callbacks.checkpoint import Checkpoint
from condgen.callbacks.evaluation import Evaluation
from condgen.training.base import Training

COMMON = (
    "trainer=cpu",
    "run.threads=1",
    "data.classes=[0,1]",
    "data.imbalance={0: 0.1, 1: 0.1}",
    "data.batch_size=8",
    "trainer.limit_train_batches=5",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=3",
    "callbacks.samples=null",
    "callbacks.evaluation.metrics=[fid]",
    "callbacks.evaluation.samples=100",
    "callbacks.evaluation.every_epochs=2",
    "callbacks.evaluation.final=[fid]",
    "callbacks.evaluation.final_samples=100",
    "model.options.decay={_target_: condgen.training.schedules.Linear, start: 0.2, end: 0.1}",
)
FAMILIES = {
    "gan": (
        "model=cgan_mlp",
        "model.alternation.discriminator_steps=2",
        "model.options.ema=0.9",
        "+model.regularizers.r1={_target_: condgen.losses.regularizers.R1, every: 3}",
    ),
    "vae": ("model=cvae_mlp", "model.kl_warmup=9"),
    "flow_matching": ("model=flow_matching", "model.generator.network.widths=[8,8]", "model.generator.steps=1"),
    "glow": ("model=glow", "model.generator.network.steps=[1,1]", "model.generator.network.fine.width=4"),
}
LIMITS = {
    "epochs": ("trainer.max_epochs=4",),
    "steps": ("trainer.max_epochs=-1", "trainer.max_steps=8"),
    "steps at an epoch's end": ("trainer.max_epochs=-1", "trainer.max_steps=10", "trainer.limit_train_batches=10"),
    "both": ("trainer.max_epochs=3", "trainer.max_steps=100"),
}


def sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, when: Callable[..., bool] = lambda *arguments: True) -> Callable[[], None]:
    """Kill before ``owner.name`` runs, the first time that ``when`` says so."""

    def install() -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if when(*arguments):
                sigkill()
            return original(*arguments, **options)

        setattr(owner, name, wrapped)

    return install


def after(owner: Any, name: str, when: Callable[..., bool] = lambda *arguments: True) -> Callable[[], None]:
    """Kill after ``owner.name`` has run, the first time that ``when`` says so."""

    def install() -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            if when(*arguments):
                sigkill()
            return result

        setattr(owner, name, wrapped)

    return install


def batch(number: int) -> Callable[..., bool]:
    return lambda model, *rest: model.counts.batches == number


def written(number: int) -> Callable[..., bool]:
    """True at the ``number``-th time."""
    times = iter(range(10**9))
    return lambda *arguments: next(times) == number


BOUNDARIES: dict[str, Callable[[], None]] = {
    "before the first step": before(Training, "on_train_batch_start"),
    "within an epoch": after(Training, "record", batch(7)),
    "after the last batch of an epoch": after(Training, "record", batch(10)),
    "in validation": before(Training, "fixed_rows"),
    "in an evaluation": before(Evaluation, "measure", written(0)),
    "while a checkpoint is written": before(os, "fsync", written(6)),
    "right after a checkpoint": after(Checkpoint, "save", written(1)),
    "after the last step": before(Checkpoint, "on_train_end"),
    "in the last evaluation": before(Evaluation, "on_train_end"),
}


def killed(directory: Path, overrides: tuple[str, ...], boundary: Callable[[], None], cwd: Path, *command: object) -> None:
    """Run a command in a forked process that is killed at ``boundary``."""
    child = os.fork()
    if child == 0:
        try:
            boundary()
            condgen(*command, cwd=cwd)
        finally:
            os._exit(3)  # it was not killed: the boundary does not exist in this run
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, os.waitstatus_to_exitcode(status)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The run of a family under a limit, trained once."""
    found: dict[tuple[str, str], Path] = {}

    def train(family: str, limit: str) -> Path:
        if (family, limit) not in found:
            root = tmp_path_factory.mktemp("undisturbed")
            result = condgen("train", *COMMON, *FAMILIES[family], *LIMITS[limit], f"hydra.run.dir={root / 'run'}", cwd=root)
            assert result.code == 0, result
            found[family, limit] = root / "run"
        return found[family, limit]

    return train


def prove(family: str, limit: str, boundary: Callable[[], None], whole: Path, root: Path) -> None:
    run = root / "run"
    overrides = (*COMMON, *FAMILIES[family], *LIMITS[limit], f"hydra.run.dir={run}")
    killed(run, overrides, boundary, root, "train", *overrides)
    result = condgen("resume", run, cwd=root)
    assert result.code == 0, result
    assert_same(outcome(whole), outcome(run))
    again = condgen("resume", run, cwd=root)
    assert "is finished" in again.out, again


QUICK = [("gan", "steps at an epoch's end", "right after a checkpoint")]


@pytest.mark.parametrize(("family", "limit", "boundary"), QUICK)
def test_a_run_killed_at_a_boundary_ends_as_one_that_was_not(
    family: str, limit: str, boundary: str, undisturbed: Callable[[str, str], Path], tmp_path: Path
) -> None:
    prove(family, limit, BOUNDARIES[boundary], undisturbed(family, limit), tmp_path)


CROSS = [
    (family, limit, boundary)
    for i, family in enumerate(FAMILIES)
    for j, boundary in enumerate(BOUNDARIES)
    for limit in [list(LIMITS)[(i + j // len(FAMILIES)) % len(LIMITS)]]
    if (os.environ.get("CONDGEN_ALL_KILLS") or i == j % len(FAMILIES))
    and (family, boundary) != ("gan", "in validation")  # it has none
    and ((limit, boundary) != ("steps", "after the last batch of an epoch") or family == "gan")  # which ends within its epoch
]
"""Each boundary once, families and limits in turn; all families at all boundaries with CONDGEN_ALL_KILLS=1."""


@pytest.mark.slow
@pytest.mark.parametrize(("family", "limit", "boundary"), CROSS)
def test_families_in_turn_at_every_boundary(
    family: str, limit: str, boundary: str, undisturbed: Callable[[str, str], Path], tmp_path: Path
) -> None:
    prove(family, limit, BOUNDARIES[boundary], undisturbed(family, limit), tmp_path)
