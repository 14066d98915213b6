"""Several processes that train one run: those that this command starts, and those that torchrun or srun started."""

import contextlib
import functools
import logging
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from condgen.config.build import sentence
from condgen.errors import CondgenError, Interrupted

PATIENCE = timedelta(minutes=5)
"""How long the processes that a launcher starts wait for the first of them."""
GRACE = 15.0
"""Seconds that local processes have to end in once one of them has: to report, not to save."""


@dataclass(frozen=True)
class Place:
    """Where this process stands among those that a launcher started."""

    launcher: str
    """"torchrun" or "Slurm"."""
    rank: int
    world: int
    nodes: int


def place() -> Place | None:
    """Return this process's place, None where no launcher started it. It is Lightning's own view of the environment."""
    found = os.environ
    if "TORCHELASTIC_RUN_ID" in found:  # also inside a Slurm job
        world = int(found["WORLD_SIZE"])
        return Place("torchrun", int(found["RANK"]), world, world // int(found["LOCAL_WORLD_SIZE"]))
    if "SLURM_NTASKS" in found and found.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return Place("Slurm", int(found.get("SLURM_PROCID", 0)), int(found["SLURM_NTASKS"]), int(found.get("SLURM_NNODES", 1)))
    return None


def is_first() -> bool:
    """Whether this process speaks and writes for all that a launcher started."""
    here = place()
    return here is None or here.rank == 0


def processes(config: dict[str, Any]) -> int:
    """Return how many processes train the run that ``config`` describes.

    Raises:
        CondgenError: a launcher started another number, or there is none and several nodes are asked for.
    """
    devices, nodes, here = local_devices(config), node_count(config), place()
    if here is None and nodes > 1:
        raise CondgenError(f"trainer.num_nodes={nodes} needs a launcher on every node: torchrun, or srun under Slurm.")
    if here is not None and (devices * nodes, nodes) != (here.world, here.nodes):
        raise CondgenError(
            f"{here.launcher} runs {here.world} processes on {here.nodes} nodes and the run asks for trainer.devices={devices} "
            f"on trainer.num_nodes={nodes}: set trainer.devices={here.world // here.nodes} trainer.num_nodes={here.nodes}."
        )
    return devices * nodes


def node_count(config: dict[str, Any]) -> int:
    """Return how many nodes the run asks for; ``auto`` is as many as the launcher has, one where there is none."""
    nodes, here = config["trainer"].get("num_nodes", 1), place()
    return int(nodes) if nodes != "auto" else here.nodes if here else 1


def local_workers(config: dict[str, Any]) -> int:
    """How many processes this command has to start; one where a launcher (torchrun, srun) has started them already."""
    return 1 if place() else local_devices(config)


def local_devices(config: dict[str, Any]) -> int:
    """Return how many devices of this machine the run asks for."""
    import torch  # here: the command line's help does not need it

    devices = config["trainer"].get("devices", 1)
    if isinstance(devices, list):
        return len(devices)
    if str(devices) in ("auto", "-1"):
        gpus = 0 if config["trainer"].get("accelerator") == "cpu" else torch.cuda.device_count()
        return max(1, gpus)
    return int(devices)


def elastic() -> bool:
    """Whether torchrun may start this command again, after a process was lost or because a node has joined."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) > 0


@contextlib.contextmanager
def losses_told() -> Iterator[None]:
    """Tell in a sentence that another process was lost: this one notices it where it exchanges something with that one.

    Raises:
        CondgenError: the connection to it is gone.
    """
    from torch.distributed import DistError

    try:
        yield
    except RuntimeError as error:
        here = place()
        if here is None or not (isinstance(error, DistError) or "gloo/transport" in str(error)):
            raise
        raise CondgenError(
            f"Process {here.rank} of {here.world} lost its connection to another, which was killed or whose machine was lost; "
            "condgen resume RUN goes on from the last checkpoint."
        ) from error


# --- one time stamp for all processes of a run ---


def stamp() -> str:
    """Return when the run began, ``2026-01-31_12-00-00-000000``, for the name of its directory.

    Processes that a launcher started take the first one's: their clocks differ, and one run has one directory.
    """
    here = place()
    if elastic():
        raise CondgenError(
            "torchrun may start this run again (--max-restarts), which then has to find its directory: "
            "name one with hydra.run.dir=FOLDER."
        )
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    return now if here is None or here.world == 1 else from_first(here.rank, now)


@functools.cache  # the store lives as long as the process: torch's process group goes on with it
def store() -> Any:
    """Return the key-value store in which the processes of a launcher find each other."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from torch.distributed.rendezvous import rendezvous

    address, here = "env://", place()
    if here and here.launcher == "Slurm":
        slurm = SLURMEnvironment()
        address = f"tcp://{slurm.main_address}:{slurm.main_port}?rank={here.rank}&world_size={here.world}"
    return next(rendezvous(address, timeout=PATIENCE))[0]


def from_first(rank: int, text: str) -> str:
    """Return the first process's ``text``, in every process."""
    key = f"condgen/stamp/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    if rank == 0:
        store().set(key, text)
    answer: bytes = store().get(key)
    return answer.decode()


# --- processes that this command starts ---


def launch(workers: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run ``function(*arguments)`` in ``workers`` local processes that know of each other, and return the first one's result.

    Lightning would start the command line again in each, which is wrong under Hydra. However it ends, no process is left.

    Raises:
        CondgenError: what one of them raised; one was killed; or this process was written to stop, with its ``signum``.
        RuntimeError: another error, with the traceback of the process that failed first; the others are stopped.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        run_id=f"condgen-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    # Their accounts of a failing process would come before ours, which has the same traceback or one sentence.
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")  # seconds to save in when written to stop; torch's own: 30
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # for workers: DDP advises against looking for unused parameters
    try:
        with signals_given_back(), stragglers_killed(workers):
            return elastic_launch(settings, in_own_group)(function, *arguments)[0]
    except SignalException as stop:
        raise Interrupted(
            f"Stopped by {signal.Signals(stop.sigval).name}; condgen resume RUN goes on from the last checkpoint.",
            int(stop.sigval),
        ) from None
    except ChildFailedError as error:
        raise failure_of(error, workers) from error


@contextlib.contextmanager
def signals_given_back() -> Iterator[None]:
    """Restore the handlers that torch's launcher replaces and leaves behind: Ctrl-C has to end a sweep between two runs too."""
    before = {signum: signal.getsignal(signum) for signum in signal.valid_signals()}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for signum, handler in before.items():
                if handler is not None and signal.getsignal(signum) is not handler:
                    signal.signal(signum, handler)


@contextlib.contextmanager
def stragglers_killed(workers: int) -> Iterator[None]:
    """Kill the processes that are left `GRACE` seconds after the first of ``workers`` has ended.

    One that waits for a dead one may not hear SIGTERM, and torch would let it live for another 30 seconds.
    """
    others, over = set(multiprocessing.active_children()), threading.Event()

    def watch() -> None:
        started: set[Any] = set()
        while len(started) < workers:
            if over.wait(0.5):
                return
            started = set(multiprocessing.active_children()) - others
        multiprocessing.connection.wait([process.sentinel for process in started])
        if not over.wait(GRACE):
            for process in started:
                process.kill()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def in_own_group(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a worker's ``function`` where Ctrl-C reaches it once, by the process that waits for it, not by the terminal too."""
    os.setpgrp()
    return function(*arguments)


def failure_of(error: Any, workers: int) -> Exception:
    """Return what to tell of the process that failed first."""
    rank, failure = error.get_first_failure()
    written: Any = failure.message  # a dict where the process could still write down what happened
    message = str(written["message"] if isinstance(written, dict) else written)
    if "CondgenError: " in message:
        return CondgenError(sentence(ValueError(message.partition("CondgenError: ")[2])))
    if failure.exitcode < 0:
        hint = ", perhaps because memory ran out" if failure.signal_name() == "SIGKILL" else ""
        return CondgenError(
            f"Process {rank} of {workers} was ended by {failure.signal_name()}{hint}, and so were the others; "
            "condgen resume RUN goes on from the last checkpoint."
        )
    trace = written["extraInfo"]["py_callstack"] if isinstance(written, dict) else message
    return RuntimeError(f"Process {rank} of {workers} failed:\n{trace}")
