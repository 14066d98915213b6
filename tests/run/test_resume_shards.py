"""Training from shards: killed at any moment it ends with the same bits, and two processes train what one trains."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import condgen
from data.pictures import noise
from same_run import assert_same, outcome
from test_two_processes import losses, tolerance

from condgen.pack import pack

SHORT = ("experiment=none", "model=cgan_mlp", "model.options.expects=null", "extractor=none", "callbacks.evaluation=null")
SHORT += (
    "data=shards",
    "data.source.path=shards",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "data.batch_size=8",
)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Four hundred images in shards of fifty."""
    np.savez(tmp_path / "samples.npz", images=noise(0, 400, 8, 8, 1), labels=np.arange(400) % 4)
    pack(str(tmp_path / "samples.npz"), [], tmp_path / "shards", shard_images=50, workers=0)
    return tmp_path / "shards"


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_ends_with_the_same_bits(shards: Path, tmp_path: Path) -> None:
    words = [*SHORT, "trainer.max_epochs=4", "callbacks.checkpoint.every_steps=3", "data.workers=2", "data.source.buffer=100"]
    whole = condgen("train", *words, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.code == 0, whole
    run, moments = tmp_path / "killed", random.Random(0)
    for start in range(4):
        verb = (
            ["resume", "killed"] if (run / "checkpoints" / "last.ckpt").exists() else ["train", *words, "hydra.run.dir=killed"]
        )
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-m", "condgen", *verb], cwd=tmp_path, **quiet)  # type: ignore[call-overload]
        if start < 3:
            written(run / "checkpoints" / "last.ckpt", process)
            time.sleep(moments.uniform(0, 0.2))
            os.kill(process.pid, signal.SIGKILL)
        _, said = process.communicate()
        assert process.returncode == (-signal.SIGKILL if start < 3 else 0), said
    assert_same(outcome(run), outcome(tmp_path / "whole"))


def written(file: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file is written anew."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    while process.poll() is None and (not file.exists() or file.stat().st_mtime_ns == before):
        time.sleep(0.01)


@pytest.mark.slow
def test_two_processes_with_two_workers_each_train_what_one_trains(shards: Path, tmp_path: Path) -> None:
    for name, trainer, workers in (("one", "cpu", 0), ("two", "ddp_cpu", 2)):
        words = [*SHORT, f"trainer={trainer}", f"data.workers={workers}", "trainer.max_epochs=1", f"hydra.run.dir={name}"]
        result = condgen("train", *words, cwd=tmp_path)
        assert result.code == 0, result
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() and max(map(len, one.values())) == 35
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=tolerance(name)), name
