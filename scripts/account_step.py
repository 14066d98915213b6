"""Say where the time of a training step goes: the networks' own arithmetic, and all that stands around it.

    OMP_NUM_THREADS=1 uv run python scripts/account_step.py                     # model (a)
    OMP_NUM_THREADS=1 uv run python scripts/account_step.py --model cvae_mlp --compiled step

A run with all that `condgen train` has switched on trains ``--updates`` batches. Meanwhile the processor's clock interrupts it
every few milliseconds of the run's own time, and charges the innermost call that belongs to one of the kinds below. So the
parts add up to the whole, and Python is not slowed down, as it is by a profiler that sees every call.
"""

import argparse
import re
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from benchmark_training import CASES, COMPILED, configuration

from condgen.train import assemble, fit

KINDS = {
    "backward passes": r"torch/autograd/|torch/_tensor\.py",
    "optimizers": r"torch/optim/",
    "the compiled step": r"torch/_inductor/|torchinductor|torch/_functorch/",
    "its checks that what was compiled still fits": r"torch/_dynamo/|torch/fx/",
    "networks and losses, forward": r"torch/nn/|condgen/(nets|losses|generators|augment|conditions)/",
    "random numbers": r"condgen/randomness\.py",
    "the moving average": r"condgen/training/average\.py",
    "batches": r"condgen/data/|torch/utils/data/",
    "curves, progress bar, checkpoints, plan": r"condgen/(callbacks|run|training/tally|training/counts)|tqdm|pytorch/loggers",
    "Lightning's loops and hooks": r"/lightning/|lightning_utilities|lightning_fabric|torchmetrics",
    "the rest of condgen's training": r"condgen/",
}
"""Kinds of work, each with the files that it is done in; of one call the first that fits."""
PATTERNS = {kind: re.compile(files) for kind, files in KINDS.items()}
INTERVAL = 0.001
"""Seconds; a kernel that counts in coarser ticks makes it one of those."""
WARM = 200
"""Updates before the account begins: buffers, caches and the first points of the curves are there."""


class Account(L.Callback):
    """Counts from the ``WARM``-th batch on what the processor is at."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.seconds, self.updates = 0.0, 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin, once."""
        self.updates += 1
        if self.updates == WARM:
            self.seconds = -time.process_time()
            signal.signal(signal.SIGPROF, self.look)
            signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.seconds += time.process_time()
        self.updates -= WARM - 1

    def look(self, number: int, frame: FrameType | None) -> None:
        """Charge the innermost call that is of a kind."""
        self.found[kind_of(frame)] += 1


def kind_of(frame: FrameType | None) -> str:
    """Return the kind of work that a stack of calls is at."""
    while frame is not None:
        for kind, files in PATTERNS.items():
            if files.search(frame.f_code.co_filename):
                return kind
        frame = frame.f_back
    return "else"


def main() -> None:
    """Train, and print microseconds an update by kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(CASES), default="cgan_mlp")
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--compiled", choices=COMPILED)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        extra = [f"model.options.compile={given.compiled}"] if given.compiled else []
        config = configuration(given.model, Path(folder), "cpu", *extra, f"trainer.max_steps={given.updates + WARM}")
        account = Account()
        run = assemble(config, Path(folder), time.monotonic(), afresh=True)
        run.trainer.callbacks.insert(0, account)
        fit(run, Path(folder), None)
    total, step = sum(account.found.values()), account.seconds / account.updates * 1e6
    print(f"{given.model}: {step:,.0f} us of processor time an update, {torch.get_num_threads()} thread(s), {total:,} looks")
    for kind, looks in account.found.most_common():
        print(f"{step * looks / total:8.0f} us {looks / total:7.1%}  {kind}")


if __name__ == "__main__":
    sys.exit(main())
