"""Time recipes under ``trainer.precision=auto`` against 32-true and bf16-mixed, alternating, since machines are noisy.

    uv run python scripts/benchmark_precision.py                                   # the recipes that leave it to the machine
    uv run python scripts/benchmark_precision.py --recipes mnist_best --rounds 5 --set data.root=../shared/data

In each round every contender trains the same few updates of a recipe, after a warm-up:
  auto       as the recipe says, decided by this machine;
  masked     the same on a machine without instructions for bf16, as far as the decision goes: it has to be 32-true;
  32-true, bf16-mixed    forced.
Counted are the seconds that the process computes, of all its threads, so that others on the machine disturb little; with one
thread, which is the default, they are those of a clock on a quiet machine. Printed is what auto and masked decided, updates
a second (median over rounds), and the ratios of speeds (median, least and greatest over rounds).
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from spread import spread

from condgen.config.folder import conf_dir
from condgen.run import precision
from condgen.train import assemble

RECIPES = (
    "cifar10_colorize",
    "cifar10_inpaint",
    "mnist_attributes_flow",
    "mnist_attributes_gan",
    "mnist_best",
    "mnist_cvae_conv",
    "mnist_flow_matching",
    "mnist_glow",
    "mnist_vae_flow",
    "stylize",
)
"""Those that once asked for bf16-mixed on every machine."""
CONTENDERS = ("auto", "masked", "32-true", "bf16-mixed")


class Stopwatch(L.Callback):
    """Counts the computing of all batches but the first ``skip``, in seconds a batch."""

    def __init__(self, skip: int):
        self.skip = skip
        self.start = self.seconds = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start after the warm-up."""
        if batch_idx == self.skip:
            self.start = time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look after each batch: what follows the last one is not training."""
        self.seconds = (time.process_time() - self.start) / max(1, batch_idx + 1 - self.skip)


def configuration(recipe: str, wanted: str, batches: int, overrides: list[str], folder: Path) -> dict[str, Any]:
    """Compose a recipe for ``batches`` batches, without whatever is not training."""
    words = [
        f"experiment={recipe}",
        "trainer=cpu",
        f"trainer.precision={wanted}",
        "trainer.max_epochs=1",
        "trainer.max_steps=-1",
    ]
    words += [f"trainer.limit_train_batches={batches}", "trainer.limit_val_batches=0", "run.files=false", "logger=none"]
    words += ["callbacks=none", "run.threads=1", f"paths.output_dir={folder}", "run.name=precision", *overrides]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose("train", words), resolve=True)
    return dict(config)


def measure(recipe: str, contender: str, batches: int, warmup: int, overrides: list[str], folder: Path) -> tuple[str, float]:
    """Train a few batches; return the precision that was taken and the seconds that a batch computes."""
    wanted = "auto" if contender == "masked" else contender
    config = configuration(recipe, wanted, warmup + batches, overrides, folder)
    fast = (lambda device: (False, "it is masked")) if contender == "masked" else precision.fast_bf16
    with patch.object(precision, "fast_bf16", fast):
        run = assemble(config, folder, time.monotonic(), afresh=True)
    watch = Stopwatch(warmup)
    run.trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.data)
    return str(run.config["trainer"]["precision"]), watch.seconds


def ratios(one: list[float], other: list[float]) -> str:
    """Return how many times as fast ``one`` is as ``other``, round by round."""
    return spread(b / a for a, b in zip(one, other, strict=True))


def main() -> None:
    """Read the arguments and print a line for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides of every recipe")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(f"{torch.backends.cpu.get_cpu_capability()}, {precision.fast_bf16('cpu')[1]}, torch {torch.__version__}")
    print("| recipe | auto is | masked is | updates/s | auto / 32-true | auto / bf16-mixed | masked / 32-true |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for recipe in options.recipes:
        taken: dict[str, str] = {}
        seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.rounds):
                for name in CONTENDERS:
                    taken[name], found = measure(recipe, name, options.batches, options.warmup, options.set, Path(folder))
                    seconds[name].append(found)
        auto, masked, plain, half = (seconds[name] for name in CONTENDERS)
        cells = [recipe, taken["auto"], taken["masked"], f"{1 / statistics.median(auto):.2f}"]
        cells += [ratios(auto, plain), ratios(auto, half), ratios(masked, plain)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
