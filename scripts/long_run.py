"""Train 20,000 updates with everything switched on, and watch memory and the run's folder: neither may go on growing.

    uv run python scripts/long_run.py --work /tmp/long

Memory is what the process has to itself and its share of the rest (PSS), every few seconds; a line of the table for each tenth
of the run has the largest of that tenth.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmark_shards import share

EVERYTHING = (
    "experiment=none",
    "data=mnist",
    "model=cgan_mlp",
    "model.generator.network.hidden=[64,128]",
    "model.discriminator.hidden=[128,64]",
    "auxiliary=acgan",
    "model.options.ema=0.99",
    "regularizer=[r1,lecam]",
    "discriminator_augment=ada",
    "augment=affine",
    "model.alternation.micro_batches=2",
    "model.options.warmup=100",
    "model.options.gradient_clip=10",
    "data.batch_size=16",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=-1",
    "callbacks.evaluation.every_epochs=1",
    "callbacks.evaluation.every_steps=1000",
    "callbacks.evaluation.samples=200",
    "callbacks.evaluation.final_samples=1000",
    "callbacks.samples.every_steps=1000",
    "callbacks.checkpoint.every_steps=200",
    "run.threads=1",
)


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.name.endswith("tmp"))


def look(pid: int, run: Path) -> tuple[int, int, int] | None:
    """Return the update, the memory and the bytes of the folder; None before the first update, or while files change."""
    try:
        return int(json.loads((run / "status.json").read_text())["step"]), share(pid), size(run)
    except (OSError, KeyError, ValueError):
        return None


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder for the run")
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    run = options.work / f"run-{time.time_ns()}"
    words = ["train", *EVERYTHING, f"trainer.max_steps={options.updates}", f"hydra.run.dir={run}", *options.overrides]
    options.work.mkdir(parents=True, exist_ok=True)
    started, seen = time.monotonic(), []
    with (options.work / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "condgen", *words], stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(2)
            if found := look(process.pid, run):
                seen.append(found)
    if process.returncode:
        raise SystemExit(f"condgen {' '.join(words)} ended with status {process.returncode}; see {options.work / 'log'}")
    print(f"{options.updates:,} updates in {(time.monotonic() - started) / 60:.1f} min\n")
    print("| updates | memory, MB | folder, MB |\n| --- | --- | --- |")
    for tenth in range(10):
        ends = [options.updates * (tenth + place) // 10 for place in (0, 1)]
        rows = [one for one in seen if ends[0] < one[0] <= ends[1]]
        if rows:
            print(f"| to {ends[1]:,} | {max(row[1] for row in rows) / 1e6:.0f} | {max(row[2] for row in rows) / 1e6:.1f} |")
    print(f"\nat the end {size(run) / 1e6:.1f} MB in {sum(path.is_file() for path in run.rglob('*'))} files")


if __name__ == "__main__":
    main()
