"""Time condgen's training against loops written by hand, alternating, since machines are noisy.

    uv run python scripts/benchmark_training.py                       # the published models (a), (b), (c)
    uv run python scripts/benchmark_training.py --models cgan_mlp --rounds 7 --compiled
    uv run python scripts/benchmark_training.py --models dcgan sngan  # MNIST in 3x32x32; condgen and bare only
    uv run python scripts/benchmark_training.py --models biggan --trainer gpu --compiled

In each round every contender trains the same number of images, in a process of its own, after a warm-up:
  condgen    `condgen.train` with what a default run has switched on while it trains: logging, EMA (for
             GANs), progress bar, checkpoints, sample grid;
  tutorial   (i) torchvision's data set with per-image transforms in a DataLoader, default Adam, `.item()` at each step;
  bare       (ii) condgen's own networks, losses, batch gather and optimizer flags in a plain loop, nothing else;
  allocator  the bare loop with condgen's setting of the C library's allocator;
  compiled   (with --compiled) condgen with model.options.compile=true, without the compilation itself.
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
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning as L
import torch
from handwritten_loops import Contender, bare_contender, tutorial_contender
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from spread import spread
from torch.utils.flop_counter import FlopCounterMode

import condgen
from condgen.config.folder import conf_dir
from condgen.run.parts import Parts
from condgen.train import assemble, fit

MNIST_FILES = Path(condgen.__file__).parent / "data" / "files" / "mnist"
COLOUR = ("data=mnist", "data.image_size=32", "data.channels=3", "extractor=none")


@dataclass(frozen=True)
class Case:
    """A model that is timed: its recipe, other overrides, its batch size, images a round, and whether a tutorial's loop is."""

    recipe: str
    overrides: tuple[str, ...]
    batch: int
    images: int = 38_400
    tutorial: bool = True


CASES = {
    "cgan_mlp": Case("mnist_cgan", (), 64),
    "cgan_embedding": Case("mnist_cgan_embedding", (), 64),
    "cvae_mlp": Case("mnist_cvae", (), 512),
    "dcgan": Case("cifar10_dcgan", COLOUR, 128, 6_400, tutorial=False),
    "sngan": Case("cifar10_sngan", COLOUR, 64, 1_280, tutorial=False),
    "biggan": Case("cifar10_biggan", COLOUR, 64, 19_200, tutorial=False),
}
PUBLISHED = ["cgan_mlp", "cgan_embedding", "cvae_mlp"]


def configuration(model: str, batches: int, directory: Path, trainer: str, *extra: str) -> dict[str, Any]:
    """Compose what ``condgen train`` would run for ``batches`` batches."""
    case = CASES[model]
    overrides = [
        f"experiment={case.recipe}",
        f"trainer={trainer}",
        *case.overrides,
        "trainer.max_epochs=1",
        "trainer.max_steps=-1",
        "trainer.limit_val_batches=0",  # the loops by hand do not validate,
        "callbacks.evaluation=null",  # and do not measure samples
        f"trainer.limit_train_batches={batches}",
    ]
    overrides += [f"run.name={model}", f"paths.output_dir={directory}", *extra]
    overrides += [] if model.startswith("cvae") else ["model.options.ema=0.999"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose("train", overrides)
    config: Any = OmegaConf.to_container(tree, resolve=True)
    return dict(config)


def condgen_contender(config: dict[str, Any], directory: Path, skip: int = 0) -> Contender:
    """A whole run, timed from after its first ``skip`` batches to its last file, so that start-up is left out."""

    def run() -> float:
        parts = assemble(config, directory, time.monotonic(), afresh=True)
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


def flops_per_image(run: Parts) -> float:
    """Count the arithmetic of one bare step."""
    with FlopCounterMode(display=False) as counter:
        bare_contender(run, 1)()
    return counter.get_total_flops() / run.data.batch_size


def contender(name: str, model: str, batches: int, root: Path, trainer: str) -> Contender:
    """Make one contender."""
    directory = root / f"run-{batches}"
    directory.mkdir()
    config = configuration(model, batches, directory, trainer, *(["model.options.compile=true"] if name == "compiled" else []))
    if name in ("condgen", "compiled"):
        return condgen_contender(config, directory, skip=5 if name == "compiled" else 0)
    if name != "allocator":
        import_module("condgen.train").keep_memory = lambda: None
    run = assemble(config, directory, time.monotonic(), afresh=True)
    return tutorial_contender(run, batches, root) if name == "tutorial" else bare_contender(run, batches)


def measure(name: str, model: str, batches: int, trainer: str) -> None:
    """In a process of its own: warm up, run, print the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        torchvision_mnist(Path(folder))
        contender(name, model, max(10, batches // 10), Path(folder), trainer)()
        print(contender(name, model, batches, Path(folder), trainer)())


def benchmark(model: str, images: int, rounds: int, compiled: bool, trainer: str) -> None:
    """Print one model's table."""
    with tempfile.TemporaryDirectory() as folder:
        config = configuration(model, 1, Path(folder), trainer)
        run = assemble(config, Path(folder), time.monotonic(), afresh=True)
        batches, rate, work = images // run.data.batch_size, product_rate(), flops_per_image(run)
    size = batches * run.data.batch_size
    names = ["condgen", *(["tutorial"] if CASES[model].tutorial else []), "bare", "allocator"]
    names = [*names[: None if trainer == "cpu" else -1], *(["compiled"] if compiled else [])]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--measure", name, "--models", model, "--images", str(images)]
            command += ["--trainer", trainer]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            seconds[name].append(float(done.stdout))
    print(f"\n{model}: {size:,} images a round, {rounds} rounds, {torch.get_num_threads()} threads")
    for name, times in seconds.items():
        speed = statistics.median(size / t for t in times)
        ratios = [other / t for other, t in zip(times, seconds["condgen"], strict=True)]
        ratio = f"condgen / {name}: {spread(ratios)}" if name != "condgen" else ""
        print(f"  {name:9} {speed:9,.0f} images/s   {ratio}")
    bare = statistics.median(size / t for t in seconds["bare"])
    print(f"  bare loop: {work / 1e6:.2f} MFLOP an image, {bare * work / rate:.0%} of {rate / 1e9:.0f} GFLOP/s", flush=True)


def main() -> None:
    """Read the arguments and benchmark each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=PUBLISHED)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="images a round; without it as many as take seconds on a CPU")
    parser.add_argument("--trainer", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--compiled", action="store_true", help="also time model.options.compile=true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for model in arguments.models:
        images = arguments.images or CASES[model].images
        if arguments.measure:
            measure(arguments.measure, model, images // CASES[model].batch, arguments.trainer)
        else:
            benchmark(model, images, arguments.rounds, arguments.compiled, arguments.trainer)


if __name__ == "__main__":
    main()
