"""Train families of generators on CIFAR-10 for equal compute, and write what came out into docs/results.md.

    uv run python scripts/equal_compute.py --archive PATH/train.zip                           # 1, 5, 25 and 180 minutes of all
    uv run python scripts/equal_compute.py --archive PATH/train.zip --minutes 1 5 --families gan glow
    uv run python scripts/equal_compute.py                                                    # only the table and the chart

Minutes are core-minutes: what one thread computes, not what a clock shows, so that others on the machine disturb little. Before
each training a short one measures the processor time and the FLOP of an update; the budget over that time is how many updates
the run is planned for, its learning rates too. Runs are plain ``condgen train`` commands, which are printed, with one thread.
Each is measured on validation images by ``condgen evaluate``. A run whose figures lie in ``OUT/FAMILY-MINUTES.json`` is not
trained again, and one that was interrupted is resumed.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from equal_tables import FIGURES, write
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from product_rate import product_rate
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from condgen.callbacks.base import Callback
from condgen.config.folder import conf_dir
from condgen.files import write_json
from condgen.metrics.catalogue import METRICS
from condgen.metrics.record import read_records
from condgen.run.status import read_status
from condgen.train import assemble
from condgen.training.base import Training

OUT = Path("outputs/equal_compute")
MINUTES = (1.0, 5.0, 25.0, 180.0)
SAMPLES = 2000
"""Samples of a measurement, of all points alike: figures of other numbers are not compared."""
WARMUP, TIMED, COUNTED = 4, 32, 8
"""Updates of the short training: unseen, timed, and with FLOP counted; whole rounds of what happens in one of eight."""


@dataclass(frozen=True)
class Family:
    """A family and its settings for budgets of a CPU.

    Attributes:
        title: of its row and line.
        overrides: of ``condgen train``, for every budget.
        short: further ones below `LONG` minutes.
    """

    title: str
    overrides: tuple[str, ...]
    short: tuple[str, ...] = ()


LONG = 25.0
SETTLING = "model.options.decay={_target_: condgen.training.schedules.Linear, start: 0.5, end: 0.0}"
FAMILIES = {
    "gan": Family(
        "GAN",
        ("experiment=cifar10_quick",),
        short=(
            "model.generator.network.width=32",
            "model.discriminator.width=32",
            "model.generator_optimizer.lr=2e-3",
            "model.discriminator_optimizer.lr=2e-3",
        ),
    ),
    "vae": Family(
        "CVAE with flow prior",
        (
            "data=cifar10",
            "model=cvae_conv",
            "prior=flow",
            "loss=gaussian",
            "augment=flip",
            "model.generator.latent=128",
            "model.generator.encoder.width=64",
            "model.generator.encoder.depth=3",
            "model.generator.decoder.width=64",
            "model.generator.decoder.depth=3",
            "model.generator.temperature=0.8",
            "model.options.ema=0.999",
            SETTLING,
        ),
    ),
    "flow_matching": Family(
        "flow matching, U-Net",
        (
            "data=cifar10",
            "model=flow_matching",
            "augment=flip",
            "model.generator.network.widths=[64,128]",
            "model.generator.guidance=1.75",
            "model.optimizer.lr=2e-3",
            "model.options.warmup=20",
        ),
    ),
    "glow": Family(
        "Glow",
        (
            "data=cifar10",
            "model=glow",
            "augment=flip",
            "model.options.warmup=50",
        ),
    ),
    "r3gan": Family(
        "shrunk R3GAN",
        (
            "data=cifar10",
            "model=r3gan",
            "augment=flip",
            "discriminator_augment=diffaugment",
            "model.generator.network.width=[128,64,32,16]",
            "model.generator.network.blocks=1",
            "model.discriminator.width=[16,32,64,128]",
            "model.discriminator.blocks=1",
            "data.batch_size=32",
            "model.regularizers.r1.every=8",
            "model.regularizers.r2.every=8",
            "model.generator_optimizer.lr=1e-3",
            "model.discriminator_optimizer.lr=1e-3",
            "model.options.ema=0.999",
            SETTLING,
        ),
    ),
}
COMMON = (
    "trainer=cpu",
    "trainer.max_epochs=-1",
    "trainer.limit_val_batches=0",  # compute is spent on training,
    "callbacks.evaluation=null",  # and samples are measured afterwards
    "callbacks.samples.every_epochs=1000",  # a picture at the end
    "callbacks.checkpoint.every_epoch=false",
    "callbacks.progress.refresh=10",
    "run.threads=1",
)


# --- how many updates a budget buys ---


class Nowhere(ModuleTracker):
    """Tells the counter of FLOP no modules: following them forbids `torch.autograd.grad`, by which gradients are penalized."""

    def __enter__(self) -> "Nowhere":
        return self

    def __exit__(self, *about: object) -> None:
        """Leave nothing."""


class Probe(Callback):
    """Times some updates of a training by the processor's clock, and counts the FLOP of some more."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0
        self.counter = FlopCounterMode(display=False)
        self.counter.mod_tracker = Nowhere()

    def on_update(self, trainer: L.Trainer, model: Training, update: int) -> None:
        """Change over between warming up, timing and counting."""
        if update == WARMUP:
            self.start = time.process_time()
        elif update == WARMUP + TIMED:
            self.seconds = (time.process_time() - self.start) / TIMED
            self.counter.__enter__()  # type: ignore[no-untyped-call]
        elif update == WARMUP + TIMED + COUNTED:
            self.counter.__exit__(None, None, None)  # type: ignore[no-untyped-call]


def probe(words: list[str], folder: Path) -> dict[str, Any]:
    """Train a few updates of the run that ``words`` stand for; return what an update takes and what it is made of."""
    kept = [word for word in words if not word.startswith("callbacks.")]
    kept += ["callbacks=none", "logger=none", "run.files=false", "run.name=probe", f"paths.output_dir={folder}"]
    kept += [f"trainer.max_steps={WARMUP + TIMED + COUNTED}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose("train", kept), resolve=True)
    run = assemble(config, folder, time.monotonic(), afresh=True)
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    rates = {name: product_rate(kind, time.process_time) for name, kind in kinds.items()}  # after the threads are set
    watch = Probe()
    run.trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.data)
    return {
        "seconds_per_update": watch.seconds,
        "flop_per_update": watch.counter.get_total_flops() / COUNTED,
        "images_per_update": run.data.batch_size * run.model.batches_per_update,
        "parameters": sum(p.numel() for p in run.model.generator.parameters()),
        "precision": run.config["trainer"]["precision"],
        "product_rate": rates,
    }


# --- one run ---


def words_of(name: str, minutes: float, archive: str, more: list[str]) -> list[str]:
    """Return the overrides of ``condgen train`` for a family and a budget, all but the number of updates."""
    family = FAMILIES[name]
    short = family.short if minutes < LONG else ()
    return [*family.overrides, *short, *COMMON, f"data.source.archive={archive}", *more]


def command(*words: str) -> float:
    """Run a command with one thread, print it, and return the seconds that it computed."""
    print("OMP_NUM_THREADS=1", shlex.join([word.replace(sys.executable, "python") for word in words]), flush=True)
    before = os.times()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def planned(words: list[str], minutes: float, file: Path) -> dict[str, Any]:
    """Return how many updates the run is planned for and from what that follows, as it was first found; kept in ``file``."""
    if not file.exists():
        with tempfile.TemporaryDirectory() as folder:
            found = probe(words, Path(folder))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, found | {"updates": max(1, round(60 * minutes / found["seconds_per_update"]))})
    plan: dict[str, Any] = json.loads(file.read_text())
    return plan


def one(name: str, minutes: float, out: Path, archive: str, samples: int, more: list[str]) -> dict[str, Any]:
    """Plan, train and measure one run, as far as that is not done; return its row."""
    key = f"{name}-{minutes:g}"
    run, measured = out / "runs" / key, out / "runs" / key / "evaluation" / "equal"
    words = words_of(name, minutes, archive, more)
    plan = planned(words, minutes, out / "plans" / f"{key}.json")
    status = read_status(run) if run.is_dir() else None
    trained = 0.0
    if status is None or status.state != "done":
        verb = ["train", *words, f"trainer.max_steps={plan['updates']}", f"hydra.run.dir={run}"]
        if (run / "config.yaml").exists():
            verb = ["resume", str(run)]
        trained = command(sys.executable, "-m", "condgen", *verb)
    asked = ["split=val", f"samples={samples}", f"suite=[{','.join(FIGURES)}]", "likelihood=null"]
    took = command(sys.executable, "-m", "condgen", "evaluate", str(run), *asked, "--out", str(measured))
    (record,) = read_records(measured / "metrics.json")
    row = plan | {"family": name, "minutes": minutes, "overrides": words, "flop": plan["updates"] * plan["flop_per_update"]}
    row |= {"training_seconds": trained if status is None else None, "measuring_seconds": took}
    return row | {"figures": record.figures, "floors": record.floors, "protocol": record.protocol.stamp()}


def told(row: dict[str, Any]) -> str:
    """Return a line for the terminal."""
    figures = ", ".join(f"{METRICS[key].title} {row['figures'][key]:.4g}" for key in FIGURES)
    rates = " and ".join(f"{value / 1e9:.0f} ({kind})" for kind, value in row["product_rate"].items())
    return (
        f"{row['family']}, {row['minutes']:g} core-minutes: {row['updates']} updates of {row['seconds_per_update']:.3f} s, "
        f"{row['flop'] / 1e12:.2f} TFLOP; {figures}; matrix products at {rates} GFLOP/s on one thread"
    )


def main(arguments: list[str]) -> None:
    """Train and measure what is asked for and not there yet; then write table and chart from all that is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", help="CIFAR-10's train.zip in the layout of EDM's; without it nothing is trained")
    parser.add_argument("--minutes", nargs="+", type=float, default=list(MINUTES))
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides of every training")
    given = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    for minutes in given.minutes if given.archive else ():
        for name in given.families:
            file = given.out / f"{name}-{minutes:g}.json"
            if not file.exists():
                row = one(name, minutes, given.out, str(Path(given.archive).resolve()), given.samples, given.set)
                write_json(file, row)
                print(told(row), flush=True)
    rows = [json.loads(file.read_text()) for file in given.out.glob("*.json")]
    if not rows:
        sys.exit(f"Nothing has been measured in {given.out}: name the --archive to train on.")
    write(rows, {name: family.title for name, family in FAMILIES.items()}, MINUTES)


if __name__ == "__main__":
    main(sys.argv[1:])
