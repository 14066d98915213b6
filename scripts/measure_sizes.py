"""Train every family for a few steps on larger images, draw samples, and measure seconds and memory, or tell why it refuses.

    uv run python scripts/measure_sizes.py --archive ../shared/data/cifar10/train.zip --work /tmp/sizes
    uv run python scripts/measure_sizes.py ... --models flow_matching --sizes 128 -- +trainer.accumulate_grad_batches=4

Images are those of the archive, resized. Seconds are what one processor computed in the second of two short epochs, whatever
else the machine did; memory is the most that the training
process had at one time, Python and torch included (a first row, of one step of a tiny model, says how much that is).
"""

import argparse
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import lightning as L
from benchmark_shards import repeated
from warm import forked, warm

MODELS = {
    "cgan_mlp": 1,
    "cgan_conv": 1,
    "acgan_conv": 1,
    "dcgan": 1,
    "sngan": 5,
    "biggan": 5,
    "r3gan": 1,
    "pix2pix": 1,
    "cvae_mlp": 1,
    "cvae_conv": 1,
    "flow_matching": 1,
    "glow": 1,
    "stylization": 1,
    "merf": 1,
}
"""Models of conf/model that make images, with the batches of a cycle: an update of what samples, and what belongs to it."""
COMMON = (
    "experiment=none",
    "extractor=none",
    "callbacks.evaluation=null",
    "callbacks.samples=null",
    "trainer=cpu",
    "logger=none",
    "data=archive",
    "run.threads=1",
)
COMMON = (*COMMON, "data.channels=3", "trainer.max_epochs=2", "trainer.limit_val_batches=1")

TINY = ["train", "experiment=none", "model=cvae_mlp", "trainer=cpu", "trainer.max_steps=1", "trainer.limit_val_batches=1"]
TINY += ["extractor=none", "callbacks.evaluation=null", "run.threads=1"]
"""What only loads and starts everything."""


class Clock(L.Callback):
    """Writes into ``file`` what this process computed in each epoch, in seconds, validation and pictures left out."""

    def __init__(self, file: str):
        self.file, self.began, self.epochs = Path(file), 0.0, list[float]()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The clock starts with an epoch's first batch."""
        if batch_idx == 0:
            self.began = time.process_time()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """It stops with the last."""
        if batch_idx + 1 == trainer.num_training_batches:
            self.epochs.append(time.process_time() - self.began)
            self.file.write_text(json.dumps(self.epochs))


def condgen(folder: Path, *words: str) -> tuple[int, str, int]:
    """Run a command in a fork of this process; return its status, its last line, and the most memory that it had, in bytes."""
    log = folder / "log"
    _, status, used = os.wait4(forked(list(words), folder, log), 0)
    said = (log.read_text().strip().splitlines() or ["nothing was said"])[-1].removeprefix("condgen: ")
    return status, said, used.ru_maxrss * 1024


def measure(model: str, size: int, archive: Path, run: Path, options: argparse.Namespace) -> dict[str, object]:
    """Train and sample ``model`` on images of ``size`` pixels and return what was seen, for a row of the table."""
    batches = MODELS[model] * options.cycles
    words = [*COMMON, f"model={model}", f"data.source.path={archive}", f"data.image_size={size}"]
    words += [f"data.batch_size={options.batch}", f"trainer.limit_train_batches={batches}", f"hydra.run.dir={run}"]
    words += [f"+callbacks.clock={{_target_: measure_sizes.Clock, file: {run}.json}}"]
    code, said, memory = condgen(options.work, "train", *words, *options.overrides)
    row: dict[str, object] = {"model": model, "size": size}
    if code:
        return row | {"refused": said}
    seconds = json.loads(Path(f"{run}.json").read_text())[-1] / options.cycles
    image = ("--image", str(archive.with_suffix(".png"))) if model in ("pix2pix", "stylization") else ()
    drawn, said, _ = condgen(options.work, "sample", str(run), "--count", "1", "--out", f"{run}.npz", *image)
    if drawn:
        return row | {"refused": f"trains, but condgen sample: {said}"}
    return row | {"seconds": seconds, "gigabytes": memory / 1e9}


def main() -> None:
    """Print a Markdown table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, required=True, help="images in the layout of EDM's dataset tool")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cycles", type=int, default=1, help="of each of the two epochs")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE, as for condgen train, behind --")
    options = parser.parse_args()
    options.work = options.work.absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    warm(TINY)
    archive = repeated(options.archive, 400, options.work / "400.zip").absolute()
    with zipfile.ZipFile(archive) as images:
        archive.with_suffix(".png").write_bytes(images.read("00000/img00000000.png"))
    print(f"| model | pixels | s for a cycle of batches of {options.batch} | GB |\n| --- | --- | --- | --- |", flush=True)
    rows = []
    _, _, least = condgen(options.work, *TINY, f"hydra.run.dir={options.work}/least-{os.getpid()}")
    print(f"| one step of a tiny model | 28 |  | {least / 1e9:.2f} |", flush=True)
    for model in options.models:
        for size in options.sizes:
            row = measure(model, size, archive, options.work / f"{model}-{size}-{os.getpid()}", options)
            rows.append(row)
            told = row.get("refused") or f"{row['seconds']:.2f} | {row['gigabytes']:.2f}"
            print(f"| {model} | {size} | {told} |", flush=True)
    (options.work / "sizes.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
