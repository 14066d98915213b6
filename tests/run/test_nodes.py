"""Runs on two nodes, network namespaces of this machine, brought together by torchrun or Slurm; and one node is lost."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from command import condgen
from same_run import assert_same, outcome

from condgen.run.checkpoint import read
from condgen.run.status import read_status

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parents[1]
SCRIPT = TESTS.parent / "scripts" / "local_nodes.sh"
RUN = ("experiment=none", "model=cgan_mlp", "trainer=ddp_cpu", "trainer.devices=1", "trainer.precision=32-true")
RUN = (*RUN, "trainer.max_epochs=1", "data.batch_size=16", "callbacks=none", "+callbacks.checkpoint.every_steps=20")
RUN = (*RUN, "+callbacks.checkpoint._target_=condgen.callbacks.checkpoint.Checkpoint", "run.threads=1", "hydra.run.dir=run")
PATIENCE = 600.0
"""Seconds until processes on a busy machine have begun."""
SOON = 20.0
"""Seconds in which a run whose node was lost has to end."""


@pytest.fixture(scope="module", autouse=True)
def nodes() -> Iterator[None]:
    """Two nodes; skip where they cannot be. There is one set of them on a machine: test processes have it in turn."""
    with (Path(tempfile.gettempdir()) / "condgen-nodes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        brought = subprocess.run([SCRIPT, "start", "2"], stderr=subprocess.PIPE, text=True, timeout=60)
        if brought.returncode == 77:
            pytest.skip(brought.stderr.strip())
        assert brought.returncode == 0, brought.stderr
        yield
        subprocess.run([SCRIPT, "stop"], check=True, timeout=60)


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Leave no command behind."""
    yield
    for process in Started.living:
        process.kill()
    for k in (1, 2):
        subprocess.run([SCRIPT, "lose", str(k)], check=True)
    Started.living.clear()


class Started:
    """A command that runs in a folder, until its end or that of the test.

    Args:
        words: it.
        folder: where, and where its log is written.
    """

    living: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, words: list[object], folder: Path):
        self.log = folder / f"log-{time.monotonic_ns()}"
        paths = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
        own = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "SLURM_CONF": "/run/condgen/slurm.conf"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                list(map(str, words)), cwd=folder, env=os.environ | own, stdout=log, stderr=subprocess.STDOUT
            )
        self.living.append(self.process)

    def ended(self, within: float = PATIENCE) -> tuple[int, str]:
        """Wait for its end and return its status and what it said."""
        return self.process.wait(within), self.log.read_text()


def torchrun(folder: Path, options: str, *words: object) -> list[Started]:
    """Start condgen on both nodes, each by a torchrun of its own; NODE in ``options`` is the number of the node from 0."""
    started = []
    for k in (0, 1):
        own = options.replace("NODE", str(k)).split()
        launcher = [SCRIPT, "run", k + 1, sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", *own]
        started.append(Started([*launcher, "-m", "condgen", *words], folder))
    return started


def lose_second(folder: Path) -> int:
    """Wait until a run has saved itself, kill all on the second node, and return the update of the last checkpoint then."""
    end = time.monotonic() + PATIENCE
    while not (folder / "run/checkpoints/last.ckpt").exists():
        assert time.monotonic() < end, [log.read_text() for log in folder.glob("log*")]
        time.sleep(0.2)
    subprocess.run([SCRIPT, "lose", "2"], check=True)
    return int(read(folder / "run/checkpoints/last.ckpt")["global_step"])


def failed_whole(folder: Path, said: str) -> int:
    """Assert that a run whose node was lost has ended with a sentence and kept its checkpoint; return that one's update."""
    assert "lost its connection to another, which was killed or whose machine was lost" in said and "defect" not in said, said
    status = read_status(folder / "run")
    assert status is not None and status.state == "failed" and "lost its connection" in str(status.error)
    assert sorted(path.name for path in (folder / "run/checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert not list(folder.glob("condgen-crash*"))
    return int(read(folder / "run/checkpoints/last.ckpt")["global_step"])


def as_on_one_node(folder: Path, steps: int) -> None:
    """Assert that the run ended as one of two processes on one node that nothing disturbed."""
    words = [word for word in RUN if not word.startswith("trainer.devices")]
    result = condgen("train", *words, f"trainer.max_steps={steps}", f"hydra.run.dir={folder / 'whole'}", cwd=folder)
    assert result.code == 0, result
    assert_same(outcome(folder / "whole"), outcome(folder / "run"))


def test_two_nodes_under_torchrun_one_of_which_is_lost(tmp_path: Path) -> None:
    first, _ = torchrun(tmp_path, "--nnodes=2 --rdzv-backend=c10d --rdzv-endpoint=node1:29400 --rdzv-id=1", "train", *RUN)
    lose_second(tmp_path)
    code, said = first.ended(within=SOON)
    assert code == 1
    steps = failed_whole(tmp_path, said) + 20
    static = "--nnodes=2 --node-rank=NODE --master-addr=node1 --master-port=29401"
    for one in torchrun(tmp_path, static, "resume", "run", f"trainer.max_steps={steps}"):
        code, said = one.ended()
        assert code == 0, said
    as_on_one_node(tmp_path, steps)


def test_an_elastic_run_goes_on_with_the_node_that_is_left(tmp_path: Path) -> None:
    options = "--nnodes=1:2 --max-restarts=3 --rdzv-backend=c10d --rdzv-endpoint=node1:29402 --rdzv-id=2"
    options += " --rdzv-conf=last_call_timeout=5"
    first, _ = torchrun(tmp_path, options, "train", *RUN, "trainer.max_steps=2000")
    step = lose_second(tmp_path)
    code, said = first.ended()
    assert code == 0, said
    assert step < 2000 and "Resuming" in (tmp_path / "run/train.log").read_text()
    assert "on 2 x cpu" in said and "on 1 x cpu" in said
    status = read_status(tmp_path / "run")
    assert status is not None and (status.state, status.step) == ("done", 2000)


def test_what_torchrun_may_start_again_has_to_say_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert "name one with hydra.run.dir=FOLDER" in condgen("train", *RUN[:-1], cwd=tmp_path).sentence()


def test_two_nodes_under_slurm_one_of_which_is_lost(tmp_path: Path) -> None:
    brought = subprocess.run([SCRIPT, "slurm"], stderr=subprocess.PIPE, text=True, timeout=60)
    if brought.returncode == 77:
        pytest.skip(brought.stderr.strip())
    assert brought.returncode == 0, brought.stderr
    srun, here = ["srun", "--kill-on-bad-exit=1"], [sys.executable, "-m", "condgen"]
    job = Started([*srun, "--nodes=2", "--ntasks-per-node=1", *here, "train", *RUN], tmp_path)
    lose_second(tmp_path)
    code, said = job.ended(within=SOON + 60)  # the run itself is as quick, but srun waits until Slurm misses the node
    assert code != 0
    steps = failed_whole(tmp_path, said) + 20
    again = ["resume", "run", f"trainer.max_steps={steps}", "trainer.devices=2"]
    code, said = Started([*srun, "--nodes=1", "--ntasks-per-node=2", *here, *again], tmp_path).ended()
    assert code == 0, said
    as_on_one_node(tmp_path, steps)
