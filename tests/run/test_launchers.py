"""Processes that are started, told of each other, and ended: by condgen, by torchrun, by Slurm, by signals."""

import multiprocessing
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import condgen
from lightning.fabric.utilities.rank_zero import rank_zero_only as fabric_rank_zero
from lightning.pytorch.utilities.rank_zero import rank_zero_only as rank_zero
from witness import told, watched

from condgen.errors import CondgenError, Interrupted
from condgen.run import processes as launcher

TESTS = Path(__file__).parents[1]
TINY = ("experiment=none", "model=cgan_mlp", "trainer=ddp_cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=6")
TINY = (*TINY, "trainer.limit_val_batches=1", "data.batch_size=16", "callbacks.evaluation=null")
ENDLESS = ("trainer.max_epochs=1000", "trainer.limit_train_batches=1.0")
PATIENCE = 600  # seconds until processes that share a busy machine have begun


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun tells the second of four processes on two nodes."""
    for kept in (fabric_rank_zero, rank_zero):  # a strategy sets it, and the tests after this one are the first process again
        monkeypatch.setattr(kept, "rank", 0, raising=False)
    for key, value in {"RUN_ID": "x", "USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(f"TORCHELASTIC_{key}", value)
    for key, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(key, str(value))


HERE = "hydra.run.dir=run"


def test_what_does_not_fit_the_launcher_is_refused(torchrun: None, tmp_path: Path) -> None:
    sentence = condgen("train", "trainer=ddp_cpu", "trainer.num_nodes=1", HERE, cwd=tmp_path).sentence()
    assert "torchrun runs 4 processes on 2 nodes" in sentence and "set trainer.devices=2 trainer.num_nodes=2" in sentence
    sentence = condgen("train", "--multirun", "trainer=ddp_cpu", "seed=0,1", cwd=tmp_path).sentence()
    assert "torchrun started this sweep 4 times" in sentence
    arguments = ("trainer=ddp_cpu", "data.batch_size=18", HERE)
    assert "cannot be shared by 4 processes" in condgen("train", *arguments, cwd=tmp_path).sentence()
    assert not list(tmp_path.iterdir())


def test_slurm_without_as_many_tasks_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key, value in {"NTASKS": 1, "PROCID": 0, "NNODES": 1, "JOB_NAME": "job", "JOB_ID": 7}.items():
        monkeypatch.setenv(f"SLURM_{key}", str(value))
    sentence = condgen("train", "trainer=ddp_cpu", HERE, cwd=tmp_path).sentence()
    assert "Slurm runs 1 processes on 1 nodes and the run asks for trainer.devices=2" in sentence


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.num_nodes=2", "trainer.num_nodes=2 needs a launcher on every node"),
        ("run.scale_rates=twice", "run.scale_rates must be none, linear or sqrt, not 'twice'"),
        ("run.scale_rates=linear", "run.scale_rates=linear needs run.scale_from"),
    ],
)
def test_what_cannot_be_is_refused(override: str, expected: str, tmp_path: Path) -> None:
    assert expected in condgen("train", "trainer=ddp_cpu", override, cwd=tmp_path).sentence()
    assert not list(tmp_path.iterdir())


def test_rates_follow_the_batch_only_if_asked_to(tmp_path: Path) -> None:
    import torch

    rates = []
    for name, rule in (("given", "none"), ("double", "linear"), ("root", "sqrt")):
        scale = (f"run.scale_rates={rule}", "run.scale_from=8", f"hydra.run.dir={name}")
        result = condgen("train", *TINY, "trainer=cpu", "trainer.limit_train_batches=1", *scale, cwd=tmp_path)
        assert result.code == 0, result
        state = torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"]
        rates.append([group["lr"] for optimizer in state for group in optimizer["param_groups"]])
    assert rates == [[2e-4] * 2, [pytest.approx(4e-4)] * 2, [pytest.approx(2e-4 * 2**0.5)] * 2]
    assert "Learning rates x 1.414: sqrt, from batch 8 to 16." in (tmp_path / "root/train.log").read_text()


# --- real processes ---


def part(folder: Path) -> None:
    """Die as the second of two processes; as the first, hear nothing of it."""
    (folder / f"{os.getpid()}").touch()
    if os.environ["RANK"] == "1":
        while len(list(folder.iterdir())) < 2:
            time.sleep(0.1)
        (folder / f"{os.getpid()}").touch()  # when it died
        os.kill(os.getpid(), signal.SIGSEGV)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


@pytest.mark.slow
def test_a_process_that_waits_for_a_dead_one_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "GRACE", 1.0)
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(CondgenError, match=r"Process 1 of 2 was ended by SIGSEGV, and so were"):
        launcher.launch(2, part, tmp_path)
    first, second = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime)
    assert time.time() - second.stat().st_mtime < 20, "torch's own patience, 30 s, ended it"
    assert not Path(f"/proc/{first.name}").exists() and not Path(f"/proc/{second.name}").exists()
    assert handlers == [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]


def test_what_stopped_a_run_passes_from_process_to_process() -> None:
    stopped = pickle.loads(pickle.dumps(Interrupted("Stopped by SIGINT.", signal.SIGINT)))
    assert stopped.signum == 2 and str(stopped) == "Stopped by SIGINT."


@contextmanager
def started(*words: object, cwd: Path, **environment: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start ``python WORDS`` in a process group of its own, and yield it with the mark that all its processes bear."""
    mark = uuid.uuid4().hex
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    own = {"PYTHONPATH": paths, "MARK": mark, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=os.environ | own | {key: str(value) for key, value in environment.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process, mark
    finally:
        for pid in bearing(mark):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def bearing(mark: str) -> list[int]:
    """Return the living processes whose environment bears ``mark``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"MARK={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # gone, or not ours
            continue
    return found


def begun(folder: Path, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Wait until both processes train, and return what they saw."""
    end = time.monotonic() + PATIENCE
    while len(told(folder, "start")) < 2:
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.2)
    return told(folder, "start")


def ended(process: subprocess.Popen[str], mark: str, within: float = 30) -> str:
    """Assert that all processes end, and return what they said."""
    out, _ = process.communicate(timeout=within)
    end = time.monotonic() + 5
    while bearing(mark) and time.monotonic() < end:
        time.sleep(0.1)
    assert not bearing(mark), out
    return out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_process_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    arguments = ("-m", "condgen", "train", *TINY, *ENDLESS, watched(tmp_path / "seen"))
    with started(*arguments, cwd=tmp_path) as (process, mark):
        os.kill(begun(tmp_path / "seen", process)[1]["pid"], signal.SIGKILL)
        out = ended(process, mark)
    assert process.returncode == 1
    assert "condgen: Process 1 of 2 was ended by SIGKILL, perhaps because memory ran out, and so were the others" in out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("everybody", [True, False], ids=["Ctrl-C", "kill"])
def test_a_stopped_command_saves_and_leaves_no_process(everybody: bool, tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal, ``kill`` only the first; the run is saved once, and goes on."""
    arguments = ("-m", "condgen", "train", *TINY, *ENDLESS, watched(tmp_path / "seen"), "hydra.run.dir=run")
    with started(*arguments, cwd=tmp_path) as (process, mark):
        begun(tmp_path / "seen", process)
        if everybody:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
        out = ended(process, mark)
    assert process.returncode == 128 + (signal.SIGINT if everybody else signal.SIGTERM), out
    assert "Traceback" not in out and (tmp_path / "run/checkpoints/last.ckpt").is_file(), out
    assert out.splitlines()[-1].startswith("condgen: Stopped by SIG"), out


@pytest.mark.slow
def test_a_defect_in_one_process_is_told_with_its_traceback(tmp_path: Path) -> None:
    result = condgen("train", *TINY, *ENDLESS, watched(tmp_path / "seen", crash=1), cwd=tmp_path)
    assert result.code == 70 and "Process 1 of 2 failed" in result.err, result
    (crash,) = tmp_path.glob("condgen-crash-*.txt")
    written = crash.read_text()
    assert "ArithmeticError: a defect in one process" in written and "witness.py" in written
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_two_nodes_under_torchrun(tmp_path: Path) -> None:
    """Two agents on this machine stand for two nodes; the second starts later, its clock would give another directory."""
    port = free_port()
    command = ("-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", f"--master_port={port}")
    run = ("-m", "condgen", "train", *TINY, "trainer.devices=1", "seed=3", watched(tmp_path / "seen"))
    with started(*command, "--node_rank=0", *run, cwd=tmp_path) as (first, mark):
        time.sleep(2)
        with started(*command, "--node_rank=1", *run, cwd=tmp_path) as (second, other):
            out = ended(first, mark, within=PATIENCE)
            ended(second, other)
    assert first.returncode == second.returncode == 0, out
    one_run(tmp_path, out)
    assert {rank["seed"] for rank in told(tmp_path / "seen", "start")} == {3}


@pytest.mark.slow
def test_two_tasks_as_slurm_starts_them(tmp_path: Path) -> None:
    """No Slurm here, but what it tells its tasks."""
    port = free_port()
    job = {
        "NTASKS": 2,
        "NTASKS_PER_NODE": 2,
        "NNODES": 1,
        "NODEID": 0,
        "JOB_ID": 4711,
        "JOB_NAME": "job",
        "NODELIST": "localhost",
    }
    told_both = {f"SLURM_{key}": value for key, value in job.items()} | {"MASTER_PORT": port, "MASTER_ADDR": "localhost"}
    run = ("-m", "condgen", "train", *TINY, watched(tmp_path / "seen"))
    with started(*run, cwd=tmp_path, **told_both, SLURM_PROCID=0, SLURM_LOCALID=0) as (first, mark):
        time.sleep(2)
        with started(*run, cwd=tmp_path, **told_both, SLURM_PROCID=1, SLURM_LOCALID=1) as (second, other):
            out = ended(first, mark, within=PATIENCE)
            ended(second, other)
    assert first.returncode == second.returncode == 0, out
    one_run(tmp_path, out)


def one_run(root: Path, out: str) -> None:
    """Assert that two processes made one run directory, one of each file and the same weights, and spoke once."""
    directories = {rank["directory"] for rank in told(root / "seen", "start")}
    (found,) = (root / "outputs").glob("*/*")
    assert directories == {str(found)}
    assert [path.name for path in (root / "outputs").iterdir()] == ["mnist-cgan_mlp"]
    assert sorted(path.name for path in (found / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert len(list((found / "tensorboard").iterdir())) == 1 and (found / "config.yaml").is_file()
    first, second = told(root / "seen", "end")
    assert first == second and first["step"] == 6
    assert len(re.findall("Training mnist-cgan_mlp:", out)) == 1 and "on 2 x cpu" in out


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
    return port
