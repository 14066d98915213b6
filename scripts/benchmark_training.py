"""Time condgen's training against loops written by hand, by turns, since machines are noisy.

    uv run python scripts/benchmark_training.py                       # the published models (a), (b), (c)
    uv run python scripts/benchmark_training.py --models cgan_mlp --rounds 7 --compiled step
    uv run python scripts/benchmark_training.py --models dcgan sngan  # MNIST in 3x32x32; no tutorial's loop
    uv run python scripts/benchmark_training.py --models biggan --trainer gpu --compiled networks step

Every contender is a process of its own, which starts once and then waits for its turns; in each round all of them train
the same number of images, one after the other. The first turn, with start-up and compilation, does not count.
  condgen    `condgen train` with what a default run has switched on while it trains: logging, EMA (for GANs), progress bar,
             checkpoints, sample grid;
  tutorial   (i) torchvision's data set with per-image transforms in a DataLoader, default Adam, `.item()` at each step;
  bare       (ii) condgen's own networks, losses, batch gather and optimizer flags in a plain loop, nothing else;
  allocator  the bare loop with condgen's setting of the C library's allocator;
  networks   (with --compiled networks) condgen with model.options.compile=networks;
  step       (with --compiled step) condgen with model.options.compile=step.
Printed are images/s (median over rounds), how many times as fast as the bare loop each is (median, min and max over rounds)
by the clock and by processor time, which other work on the machine disturbs less (give it one thread: OMP_NUM_THREADS=1), and
the share of the machine's matrix-product rate (2048 x 2048, float32) that the bare loop's arithmetic amounts to.
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
from handwritten_loops import bare_contender, tutorial_contender
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from product_rate import product_rate
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
    """A model that is timed: its recipe, other overrides, its batch size, images a turn, and whether a tutorial's loop is."""

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
    "flow_matching": Case("mnist_flow_matching", (), 128, 2_560, tutorial=False),
    "biggan": Case("cifar10_biggan", COLOUR, 64, 19_200, tutorial=False),
}
COMPILED = ["networks", "step"]
PUBLISHED = ["cgan_mlp", "cgan_embedding", "cvae_mlp"]


def configuration(model: str, directory: Path, trainer: str, *extra: str) -> dict[str, Any]:
    """Compose what ``condgen train`` would run."""
    case = CASES[model]
    overrides = [
        f"experiment={case.recipe}",
        f"trainer={trainer}",
        *case.overrides,
        "trainer.max_epochs=100000",  # until it is ended
        "trainer.max_steps=-1",
        "trainer.precision=32-true",  # as the loops by hand
        "trainer.limit_val_batches=0",  # the loops by hand do not validate,
        "callbacks.evaluation=null",  # and do not measure samples
    ]
    overrides += [f"run.name={model}", f"paths.output_dir={directory}", *extra]
    overrides += [] if model.startswith("cvae") else ["model.options.ema=0.999"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose("train", overrides)
    config: Any = OmegaConf.to_container(tree, resolve=True)
    return dict(config)


class Turns(L.Callback):
    """Waits for the next turn where one is over, and says how long that took: a line of seconds, and of processor seconds.

    As a callback of a run it does so before every ``batches``-th batch.
    """

    def __init__(self, batches: int = 1):
        self.batches, self.count = batches, 0
        self.began: tuple[float, float] | None = None

    def take(self) -> None:
        """End the present turn, if one is being taken, and wait for the next."""
        if self.began:
            print(time.perf_counter() - self.began[0], time.process_time() - self.began[1], flush=True)
        sys.stdin.readline()
        self.began = time.perf_counter(), time.process_time()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Look at the clock once a turn."""
        if self.count % self.batches == 0:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize(trainer.strategy.root_device)
            self.take()
        self.count += 1


def torchvision_mnist(root: Path) -> None:
    """Unpack the MNIST that condgen ships to where torchvision looks."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in MNIST_FILES.glob("*-ubyte.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))


def flops_per_image(run: Parts) -> float:
    """Count the arithmetic of one bare step."""
    with FlopCounterMode(display=False) as counter:
        bare_contender(run, 1)()
    return counter.get_total_flops() / run.data.batch_size


def contend(name: str, model: str, batches: int, trainer: str) -> None:
    """In a process of its own: take turns until it is ended."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        extra = [f"model.options.compile={name}"] if name in COMPILED else []
        config = configuration(model, root, trainer, *extra)
        if name in ("tutorial", "bare"):
            import_module("condgen.train").keep_memory = lambda: None
        run = assemble(config, root, time.monotonic(), afresh=True)
        if name in ("condgen", *COMPILED):
            run.trainer.callbacks.insert(0, Turns(batches))
            fit(run, root, None)
            return
        if name == "tutorial":
            torchvision_mnist(root)
        turn = tutorial_contender(run, batches, root) if name == "tutorial" else bare_contender(run, batches)
        turns = Turns()
        while True:
            turns.take()
            turn()


def benchmark(model: str, images: int, rounds: int, compiled: list[str], trainer: str) -> None:
    """Print one model's table."""
    with tempfile.TemporaryDirectory() as folder:
        run = assemble(configuration(model, Path(folder), trainer), Path(folder), time.monotonic(), afresh=True)
        size, rate, work = images // run.data.batch_size * run.data.batch_size, product_rate(), flops_per_image(run)
    names = ["condgen", *(["tutorial"] if CASES[model].tutorial else []), "bare", *(["allocator"] if trainer == "cpu" else [])]
    times = by_turns([*names, *compiled], model, images, rounds, trainer)
    print(f"\n{model}: {size:,} images a turn, {rounds} rounds, {torch.get_num_threads()} threads")
    for name, found in times.items():
        speed = statistics.median(size / seconds for seconds, _ in found)
        ratios = [[b[i] / t[i] for b, t in zip(times["bare"], found, strict=True)] for i in range(2)]
        ratio = f"x bare: {spread(ratios[0])}, by processor time {spread(ratios[1])}" if name != "bare" else ""
        print(f"  {name:9} {speed:9,.0f} images/s   {ratio}")
    bare = statistics.median(size / seconds for seconds, _ in times["bare"])
    print(f"  bare loop: {work / 1e6:.2f} MFLOP an image, {bare * work / rate:.0%} of {rate / 1e9:.0f} GFLOP/s", flush=True)


def by_turns(names: list[str], model: str, images: int, rounds: int, trainer: str) -> dict[str, list[tuple[float, float]]]:
    """Return each contender's seconds, and processor seconds, of every round."""
    command = [sys.executable, __file__, "--models", model, "--images", str(images), "--trainer", trainer, "--contend"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    started = {name: subprocess.Popen([*command, name], **pipes) for name in names}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    try:
        for number in range(rounds + 1):
            for name, process in started.items():
                process.stdin.write("\n")
                process.stdin.flush()
                line = process.stdout.readline().split()
                if not line:
                    raise SystemExit(f"{name} of {model} ended: run it alone with --contend {name} to see why.")
                if number:
                    times[name].append((float(line[0]), float(line[1])))
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    return times


def main() -> None:
    """Read the arguments and benchmark each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=PUBLISHED)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="images a turn; without it as many as take seconds on a CPU")
    parser.add_argument("--trainer", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--compiled", nargs="+", choices=COMPILED, default=[], help="also time model.options.compile=...")
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for model in arguments.models:
        images = arguments.images or CASES[model].images
        if arguments.contend:
            contend(arguments.contend, model, images // CASES[model].batch, arguments.trainer)
        else:
            benchmark(model, images, arguments.rounds, arguments.compiled, arguments.trainer)


if __name__ == "__main__":
    main()
