"""Measure what training from shards costs beside training from memory, and how much memory it takes.

    python scripts/benchmark_shards.py --archive ../shared/data/cifar10/train.zip --work /tmp/shards --images 100000

makes a zip of so many images by repeating those of the archive, packs it, and then trains the same model from memory and from
the shards. The two take turns of some seconds, while the other one is stopped, since a machine is not the same at all times:
a figure is the ratio of two turns, one after the other. Resident memory is the sum over the training process and its workers of
what each has to itself and its share of the rest (PSS), the largest of ten readings a second.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from spread import spread

WARMUP = 30
"""Steps before the first turn."""
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


class Steps(L.Callback):
    """Counts the steps of a training in a file, where another process can read them.

    Args:
        file: eight bytes.
    """

    def __init__(self, file: str):
        self.count = np.memmap(file, np.int64, "w+", shape=(1,))

    def on_train_batch_end(self, trainer: Any, *unused: Any) -> None:
        """Count one."""
        self.count[0] += 1


class Training:
    """A training in a process of its own that runs in turns, and its memory.

    Args:
        data: overrides that say where the images come from.
        options: of the command line.
        folder: of the run.
    """

    def __init__(self, data: list[str], options: argparse.Namespace, folder: Path):
        counter = folder.with_suffix(".steps")
        words = ["train", "experiment=none", f"model={options.model}", *QUIET, *data, f"data.batch_size={options.batch}"]
        words += ["trainer.max_epochs=-1", "trainer.limit_val_batches=0", *options.overrides, f"hydra.run.dir={folder}"]
        words += ["+callbacks.steps._target_=benchmark_shards.Steps", f"+callbacks.steps.file={counter}"]
        folder.parent.mkdir(parents=True, exist_ok=True)
        counter.write_bytes(bytes(8))
        self.steps = np.memmap(counter, np.int64, "r", shape=(1,))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "condgen", *words],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=folder.with_suffix(".log").open("w"),
        )
        self.memory = Memory(self.process.pid)
        while self.steps[0] < WARMUP:
            if self.process.poll() is not None:
                raise SystemExit(f"condgen {' '.join(words)} ended; see {folder.with_suffix('.log')}")
            time.sleep(0.1)
        self.signal(signal.SIGSTOP)

    def signal(self, signum: int) -> None:
        """Send a signal to the training and its workers."""
        os.killpg(self.process.pid, signum)

    def turn(self, seconds: float) -> float:
        """Train for so long, and return the steps a second."""
        before, started = self.steps[0], time.monotonic()
        self.signal(signal.SIGCONT)
        time.sleep(seconds)
        self.signal(signal.SIGSTOP)
        return float(self.steps[0] - before) / (time.monotonic() - started)

    def end(self) -> int:
        """End it, and return its memory in bytes."""
        most = self.memory.stop()
        self.signal(signal.SIGKILL)
        self.process.wait()
        return most


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, required=True, help="images in the layout of EDM's dataset tool")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the zip, the shards and the runs")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--model", default="sngan")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=12, help="of each")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn")
    parser.add_argument("--shards-only", action="store_true", help="memory alone, nothing is trained from memory")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    archive = repeated(options.archive, options.images, options.work / f"{options.images}.zip")
    shards = options.work / f"{options.images}"
    if not shards.exists():
        print(f"packed {options.images:,} images in {condgen('pack', str(archive), '--out', str(shards)):.0f} s", flush=True)
    folder = options.work / f"runs-{time.time_ns()}"
    sources = {"shards": ["data=shards", f"data.source.path={shards}"]}
    if not options.shards_only:
        sources["memory"] = ["data=archive", f"data.source.path={archive}"]
    trainings = {name: Training(data, options, folder / name) for name, data in sources.items()}
    speeds: dict[str, list[float]] = {name: [] for name in trainings}
    for number in range(options.turns):
        for name in list(trainings)[:: 1 - 2 * (number % 2)]:
            speeds[name].append(options.batch * trainings[name].turn(options.seconds))
    for name, training in trainings.items():
        print(f"{name}: {statistics.median(speeds[name]):.0f} images/s, {training.end() / 1e9:.2f} GB", flush=True)
    if "memory" in speeds:
        print(f"ratio {spread(a / b for a, b in zip(speeds['shards'], speeds['memory'], strict=True))}")


if __name__ == "__main__":
    main()
