"""What is asked for by words, and what is made of words, survives a kill with the same bits as all else."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from command import condgen
from config.tiny_data import write_songci
from kill_runs import after
from recipes import SMALL_LANGUAGE
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


def songci(root: Path) -> list[str]:
    file = write_songci(root / "songci.jsonl.gz")
    return [
        "data=songci",
        f"data.source.file={file}",
        "data.split=[0.5,0.25,0.25]",
        "data.batch_size=4",
        "model=language",
        *SMALL_LANGUAGE,
    ]


RUNS: dict[str, Callable[[Path], list[str]]] = {
    "captions": lambda root: [*DIGITS, "condition=caption"],
    "tags": lambda root: [*DIGITS, "condition=tags"],
    "songci": songci,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_killed_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    train = ["train", *COMMON, *RUNS[name](tmp_path)]
    assert condgen(*train, "hydra.run.dir=whole", cwd=tmp_path).code == 0
    kill = after(Interrupt, "on_train_batch_end", lambda callback, trainer, *rest: trainer.global_step == 5)
    _, status = os.waitpid(forked([*train, "hydra.run.dir=killed"], tmp_path, tmp_path / "log.txt", kill), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, (tmp_path / "log.txt").read_text()
    result = condgen("resume", "killed", cwd=tmp_path)
    assert result.code == 0, result
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "killed"))
