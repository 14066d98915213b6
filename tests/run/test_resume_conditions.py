"""What is asked for by words, and what is made of words, survives a kill with the same bits as all else."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import condgen
from config.tiny_data import write_songci
from same_run import assert_same, outcome
from warm import forked

from condgen.callbacks.interrupt import Interrupt

COMMON = ("experiment=none", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2", "callbacks.samples=null")
COMMON += (
    "run.threads=1",
    "callbacks.checkpoint.every_steps=3",
    "callbacks.evaluation.every_epochs=null",
    "trainer.log_every_n_steps=2",
)
DIGITS = ("data=mnist_attributes", "data.source.samples=400", "data.split=40", "data.batch_size=32", "model=acgan_conv")
DIGITS += (
    "model.generator.network.width=8",
    "model.discriminator.width=8",
    "auxiliary=matching",
    "model.discriminator.projection=false",
)
LANGUAGE = ("model=language", *(f"model.generator.network.{key}" for key in ("width=16", "layers=1", "heads=2")))


def songci(root: Path) -> list[str]:
    file = write_songci(root / "songci.jsonl.gz")
    return ["data=songci", f"data.source.file={file}", "data.split=[0.5,0.25,0.25]", "data.batch_size=4", *LANGUAGE]


RUNS: dict[str, Callable[[Path], list[str]]] = {
    "captions": lambda root: [*DIGITS, "condition=caption"],
    "tags": lambda root: [*DIGITS, "condition=tags"],
    "songci": songci,
}


def kill_after_update(number: int) -> None:
    """Let this process die right after an update, as by ``kill -9``."""
    after_batch = Interrupt.on_train_batch_end

    def kill(self: Interrupt, trainer: Any, *arguments: Any) -> None:
        after_batch(self, trainer, *arguments)
        if trainer.global_step == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Interrupt.on_train_batch_end = kill  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_killed_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    train = ["train", *COMMON, *RUNS[name](tmp_path)]
    assert condgen(*train, "hydra.run.dir=whole", cwd=tmp_path).code == 0
    _, status = os.waitpid(
        forked([*train, "hydra.run.dir=killed"], tmp_path, tmp_path / "log.txt", lambda: kill_after_update(5)), 0
    )
    assert os.WTERMSIG(status) == signal.SIGKILL, (tmp_path / "log.txt").read_text()
    result = condgen("resume", "killed", cwd=tmp_path)
    assert result.code == 0, result
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "killed"))
