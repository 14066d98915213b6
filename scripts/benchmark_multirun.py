"""What a job of a multirun costs beyond its training: 20 jobs of two steps each, in one process.

    uv run python scripts/benchmark_multirun.py [--jobs 20] [KEY=VALUE ...]

Prints the seconds until the first job starts (imports, Hydra), and for the jobs the mean wall time, the part of it within
Trainer.fit (training, validation, checkpoints, pictures) and the rest: composing the configuration, reading the data, building
the model, opening the loggers, the report. A line for a grid, and one for a search by Optuna, where that is installed.
"""

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

SMALL = ("experiment=none", "model=cvae_mlp", "data.batch_size=64", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
SMALL += ("trainer.limit_val_batches=1", "trainer.accelerator=cpu", "callbacks.evaluation=null")


def run(arguments: list[str]) -> dict[str, list[float]]:
    """Run ``condgen ARGUMENTS`` in this process and return when jobs began and ended, and how long each was fitted."""
    import lightning as L

    from condgen import cli, train

    times: dict[str, list[float]] = {"begin": [], "end": [], "fit": []}
    fit, job = L.Trainer.fit, train.train

    def timed_fit(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return fit(*args, **kwargs)
        finally:
            times["fit"].append(time.perf_counter() - start)

    def timed_job(*args: Any, **kwargs: Any) -> Any:
        times["begin"].append(time.perf_counter())
        try:
            return job(*args, **kwargs)
        finally:
            times["end"].append(time.perf_counter())

    quiet = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stderr(quiet),
        contextlib.redirect_stdout(quiet),
        patch.object(sys, "argv", ["condgen", *arguments]),
        patch.object(L.Trainer, "fit", timed_fit),
        patch.object(train, "train", timed_job),
        contextlib.suppress(SystemExit),
    ):
        cli.main()
    return times


def tell(name: str, start: float, times: dict[str, list[float]], jobs: int) -> None:
    """Print a line; raises SystemExit where jobs are missing."""
    end = time.perf_counter()
    if len(times["fit"]) != jobs:
        sys.exit(f"{name}: {len(times['fit'])} of {jobs} jobs were trained.")
    wall, fitted = (end - times["begin"][0]) / jobs, statistics.mean(times["fit"])
    first = times["begin"][0] - start
    print(f"{name}: {first:.1f} s until the first job; a job {wall:.2f} s, of which fit {fitted:.2f}, rest {wall - fitted:.2f}")


def main() -> None:
    """Measure a grid and a search."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    shared = ["train", "--multirun", *SMALL, *options.overrides]
    start = time.perf_counter()
    tell("grid", start, run([*shared, f"seed=range({options.jobs})"]), options.jobs)
    if find_spec("optuna"):
        start = time.perf_counter()
        search = ["hydra/sweeper=optuna", f"hydra.sweeper.n_trials={options.jobs}", "hydra.sweeper.minimize=val/loss"]
        tell("search", start, run([*shared, *search, "model.beta=interval(0.5,2)"]), options.jobs)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
