"""Several processes on this machine that train one run, over torch's own elastic launcher."""

import logging
import os
from collections.abc import Callable
from typing import Any

import torch

from condgen.config import sentence
from condgen.errors import CondgenError


def local_workers(config: dict[str, Any]) -> int:
    """How many processes this run needs here; one where a launcher (torchrun, srun) has started them already."""
    if "LOCAL_RANK" in os.environ or "SLURM_NTASKS" in os.environ:
        return 1
    devices = config["trainer"].get("devices", 1)
    if isinstance(devices, list):
        return len(devices)
    if str(devices) in ("auto", "-1"):
        gpus = 0 if config["trainer"].get("accelerator") == "cpu" else torch.cuda.device_count()
        return max(1, gpus)
    return int(devices)


def launch(workers: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run ``function(*arguments)`` in ``workers`` local processes that know of each other, and return the first one's result.

    Lightning would start the command line again in each, which is wrong under Hydra.

    Raises:
        CondgenError: what one of them raised.
        RuntimeError: another error, with the traceback of the process that failed first; the others are stopped.
    """
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
    # Its account of a failing process would come before ours, which has the same traceback or one sentence.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        return elastic_launch(settings, function)(*arguments)[0]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        told: Any = failure.message  # a dict where the process could still write down what happened
        message = str(told["message"] if isinstance(told, dict) else told)
        if "CondgenError: " in message:
            raise CondgenError(sentence(ValueError(message.partition("CondgenError: ")[2]))) from error
        trace = told["extraInfo"]["py_callstack"] if isinstance(told, dict) else message
        raise RuntimeError(f"Process {rank} of {workers} failed:\n{trace}") from error
