"""Measure what training from shards costs beside training from memory, and how much memory it takes.

    python scripts/benchmark_shards.py --archive ../shared/data/cifar10/train.zip --work /tmp/shards --images 100000

makes a zip of so many images by repeating those of the archive, packs it, and then trains the same model alternately from
memory and from the shards. A figure is the ratio of the two speeds within one round, since a machine is not the same at
all times. Resident memory is the sum over the training process and its workers of what each has to itself and its share of
the rest (PSS), the largest of ten readings a second.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

from spread import spread

EPOCHS = 4
"""Cut short, see --steps; the first one is left out of the speed."""
QUIET = ("callbacks.samples=null", "callbacks.evaluation=null", "extractor=none", "logger=csv", "trainer=cpu")


def repeated(archive: Path, images: int, out: Path) -> Path:
    """Write a zip in EDM's layout with the images of ``archive`` again and again, ``images`` in all."""
    if out.is_file():
        return out
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w", allowZip64=True) as target:
        index = json.loads(source.read("dataset.json"))
        pairs = index["labels"]
        contents = [source.read(name) for name, _ in pairs]
        labels = []
        for i in range(images):
            name = f"{i // 1000:05d}/img{i:08d}.png"
            target.writestr(name, contents[i % len(pairs)])
            labels.append([name, pairs[i % len(pairs)][1]])
        target.writestr("dataset.json", json.dumps(index | {"labels": labels}))
    return out


def condgen(*words: str) -> float:
    """Run a command and return its seconds."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "condgen", *words], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [one for child in task.read_text().split() for one in family(int(child))]
    return found


def share(pid: int) -> int:
    """Return the PSS of a process in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


class Memory:
    """Watches a process and those below it."""

    def __init__(self, pid: int):
        self.pid, self.most, self.over = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self) -> None:
        """Note the largest sum until told to stop."""
        while not self.over.wait(0.1):
            try:
                self.most = max(self.most, sum(map(share, family(self.pid))))
            except (OSError, ValueError):
                continue

    def stop(self) -> int:
        """Return the largest sum, in bytes."""
        self.over.set()
        self.thread.join()
        return self.most


def train(data: list[str], options: argparse.Namespace, run: Path) -> tuple[float, int]:
    """Train and return images a second, the median over the epochs but the first, and bytes of memory."""
    words = ["train", "experiment=none", f"model={options.model}", *QUIET, *data, f"data.batch_size={options.batch}"]
    words += [f"trainer.max_epochs={EPOCHS}", f"trainer.limit_train_batches={options.steps}", "trainer.limit_val_batches=0"]
    words += [*options.overrides, f"hydra.run.dir={run}"]
    process = subprocess.Popen([sys.executable, "-m", "condgen", *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    memory = Memory(process.pid)
    status = process.wait()
    most = memory.stop()
    if status:
        raise SystemExit(f"condgen {' '.join(words)} ended with status {status}")
    with (run / "metrics.csv").open() as file:
        speeds = [float(row["speed/images_per_second"]) for row in csv.DictReader(file) if row.get("speed/images_per_second")]
    return statistics.median(speeds[1:]), most


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, required=True, help="images in the layout of EDM's dataset tool")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the zip, the shards and the runs")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--model", default="sngan")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60, help="batches of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards-only", action="store_true", help="memory alone, nothing is trained from memory")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    archive = repeated(options.archive, options.images, options.work / f"{options.images}.zip")
    shards = options.work / f"{options.images}"
    if not shards.exists():
        print(f"packed {options.images:,} images in {condgen('pack', str(archive), '--out', str(shards)):.0f} s", flush=True)
    from_shards = ["data=shards", f"data.source.path={shards}"]
    from_memory = ["data=archive", f"data.source.path={archive}"]
    runs = options.work / f"runs-{time.time_ns()}"
    ratios = []
    for number in range(options.rounds):
        if options.shards_only:
            speed, memory = train(from_shards, options, runs / f"shards{number}")
            print(f"shards {speed:.0f} images/s, {memory / 1e9:.2f} GB", flush=True)
            continue
        pairs = [("memory", from_memory), ("shards", from_shards)]
        found = {name: train(data, options, runs / f"{name}{number}") for name, data in pairs[:: 1 - 2 * (number % 2)]}
        ratios.append(found["shards"][0] / found["memory"][0])
        told = ", ".join(f"{name} {speed:.0f} images/s, {memory / 1e9:.2f} GB" for name, (speed, memory) in found.items())
        print(f"{told}: ratio {ratios[-1]:.2f}", flush=True)
    if ratios:
        print(f"median ratio {spread(ratios)}")


if __name__ == "__main__":
    main()
