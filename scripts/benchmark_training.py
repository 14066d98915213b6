"""Time condgen's training against loops written by hand, alternating, since machines are noisy.

    uv run python scripts/benchmark_training.py                       # the published models (a), (b), (c)
    uv run python scripts/benchmark_training.py --models cgan_mlp --rounds 7 --compiled

In each round every contender trains the same number of images, in a process of its own, after a warm-up:
  condgen    `condgen.train` with what a default run has switched on while it trains: logging, EMA (for
             GANs), progress bar, checkpoints, sample grid;
  tutorial   (i) torchvision's data set with per-image transforms in a DataLoader, default Adam, `.item()` at each step;
  bare       (ii) condgen's own networks, losses, batch gather and optimizer flags in a plain loop, nothing else;
  allocator  the bare loop with condgen's setting of the C library's allocator;
  compiled   (with --compiled) condgen with model.compile=true, without the compilation itself.
Printed are images/s (median over rounds), the ratio of condgen to each (median, min and max over rounds), and the share of
the machine's matrix-product rate (2048 x 2048, float32) that the bare loop's arithmetic amounts to.
"""

import argparse
import gzip
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from handwritten_loops import Contender, bare_contender, tutorial_contender
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

import condgen.train
from condgen.config import conf_dir
from condgen.train import Run, assemble, fit

MNIST_FILES = Path(condgen.__file__).parent / "data" / "files" / "mnist"
RECIPES = {"cgan_mlp": "mnist_cgan", "cgan_embedding": "mnist_cgan_embedding", "cvae_mlp": "mnist_cvae"}
BATCH = {"cgan_mlp": 64, "cgan_embedding": 64, "cvae_mlp": 512}


def configuration(model: str, batches: int, directory: Path, *extra: str) -> dict[str, Any]:
    """Compose what ``condgen train`` would run for ``batches`` batches."""
    overrides = [
        f"experiment={RECIPES[model]}",
        "trainer=cpu",
        "trainer.max_epochs=1",
        "trainer.limit_val_batches=0",  # the loops by hand do not validate,
        "callbacks.evaluation=null",  # and do not measure samples
        f"trainer.limit_train_batches={batches}",
    ]
    overrides += [f"run.name={model}", f"run.dir={directory}", *extra]
    overrides[2:2] = [] if model.startswith("cvae") else ["model.ema=0.999"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose("train", overrides)
    config: Any = OmegaConf.to_container(tree, resolve=True)
    return dict(config)


def condgen_contender(config: dict[str, Any], directory: Path, skip: int = 0) -> Contender:
    """A whole run, timed from after its first ``skip`` batches to its last file, so that start-up is left out."""

    def run() -> float:
        parts = assemble(config, directory)
        watch = Stopwatch(skip)
        parts.trainer.callbacks.insert(0, watch)
        fit(parts, directory, None)
        return (time.perf_counter() - watch.start) * watch.batches / (watch.batches - skip)

    return run


class Stopwatch(L.Callback):
    """Notes when the batch ``skip`` starts."""

    def __init__(self, skip: int):
        self.skip = skip
        self.start = 0.0
        self.batches = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Look at the clock once."""
        self.batches = batch_idx + 1
        if batch_idx == self.skip:
            self.start = time.perf_counter()


def torchvision_mnist(root: Path) -> None:
    """Unpack the MNIST that condgen ships to where torchvision looks."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in MNIST_FILES.glob("*-ubyte.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))


def product_rate(size: int = 2048, repeats: int = 8) -> float:
    """Measure the machine's float32 matrix products in FLOP/s, the best of several."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def flops_per_image(run: Run) -> float:
    """Count the arithmetic of one bare step."""
    with FlopCounterMode(display=False) as counter:
        bare_contender(run, 1)()
    return counter.get_total_flops() / run.data.batch_size


def contender(name: str, model: str, batches: int, root: Path) -> Contender:
    """Make one contender."""
    directory = root / f"run-{batches}"
    directory.mkdir()
    config = configuration(model, batches, directory, *(["model.compile=true"] if name == "compiled" else []))
    if name in ("condgen", "compiled"):
        return condgen_contender(config, directory, skip=5 if name == "compiled" else 0)
    if name != "allocator":
        condgen.train.keep_memory = lambda: None
    run = assemble(config, directory)
    return tutorial_contender(run, batches, root) if name == "tutorial" else bare_contender(run, batches)


def measure(name: str, model: str, batches: int) -> None:
    """In a process of its own: warm up, run, print the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        torchvision_mnist(Path(folder))
        contender(name, model, max(10, batches // 10), Path(folder))()
        print(contender(name, model, batches, Path(folder))())


def benchmark(model: str, images: int, rounds: int, compiled: bool) -> None:
    """Print one model's table."""
    with tempfile.TemporaryDirectory() as folder:
        run = assemble(configuration(model, 1, Path(folder)), Path(folder))
        batches, rate, work = images // run.data.batch_size, product_rate(), flops_per_image(run)
    size = batches * run.data.batch_size
    names = ["condgen", "tutorial", "bare", "allocator", *(["compiled"] if compiled else [])]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--measure", name, "--models", model, "--images", str(images)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            seconds[name].append(float(done.stdout))
    print(f"\n{model}: {size:,} images a round, {rounds} rounds, {torch.get_num_threads()} threads")
    for name, times in seconds.items():
        speed = statistics.median(size / t for t in times)
        ratios = [other / t for other, t in zip(times, seconds["condgen"], strict=True)]
        spread = f"condgen / {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"  {name:9} {speed:9,.0f} images/s   {spread if name != 'condgen' else ''}")
    bare = statistics.median(size / t for t in seconds["bare"])
    print(f"  bare loop: {work / 1e6:.2f} MFLOP an image, {bare * work / rate:.0%} of {rate / 1e9:.0f} GFLOP/s", flush=True)


def main() -> None:
    """Read the arguments and benchmark each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=38_400, help="images a round")
    parser.add_argument("--compiled", action="store_true", help="also time model.compile=true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for model in arguments.models:
        if arguments.measure:
            measure(arguments.measure, model, arguments.images // BATCH[model])
        else:
            benchmark(model, arguments.images, arguments.rounds, arguments.compiled)


if __name__ == "__main__":
    main()
