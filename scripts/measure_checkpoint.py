"""Measure for how long training stands still where a checkpoint of about a gigabyte is saved, written at once or by a thread.

    uv run python scripts/measure_checkpoint.py --work /tmp/checkpoint

The same run is trained twice: the thread is waited for at each save, as if training itself wrote, and it is not.
"""

import argparse
import json
import os
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
from warm import run

from condgen.callbacks.checkpoint import Checkpoint

WIDTH, STEPS, EVERY = 6000, 34, 16
RUN = ("train", "experiment=none", "model=gan_mlp", "trainer=cpu", "trainer.max_epochs=-1", "extractor=none", "logger=none")
RUN = (*RUN, "callbacks=none", "data.batch_size=16", f"trainer.max_steps={STEPS}", "run.threads=1")
RUN = (
    *RUN,
    "+callbacks.checkpoint._target_=condgen.callbacks.checkpoint.Checkpoint",
    "+callbacks.checkpoint.every_epoch=false",
)
RUN = (*RUN, f"+callbacks.checkpoint.every_steps={EVERY}", f"model.generator.network.hidden=[{WIDTH},{WIDTH}]")
RUN = (*RUN, f"model.discriminator.hidden=[{WIDTH},{WIDTH}]")


class Clock(L.Callback):
    """Notes when each batch begins."""

    def __init__(self, file: str):
        self.file, self.times = Path(file), list[float]()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note the time."""
        self.times.append(time.monotonic())

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write them down."""
        self.file.write_text(json.dumps(self.times))


def measure(name: str, work: Path) -> None:
    """Train once and print what was seen."""
    folder = work / f"{name}-{os.getpid()}"
    began = time.monotonic()
    code = run(
        [*RUN, f"hydra.run.dir={folder}", f"+callbacks.clock={{_target_: measure_checkpoint.Clock, file: {work}/times}}"]
    )
    assert code == 0
    whole = time.monotonic() - began
    times = json.loads((work / "times").read_text())
    steps = [after - before for before, after in pairwise(times)]
    saving = [steps[i] for i in range(EVERY - 1, len(steps), EVERY)]
    writing = [steps[i] for i in range(EVERY, len(steps)) if i % EVERY < 3]
    others = [steps[i] for i in range(4, EVERY - 1)]
    size = (folder / "checkpoints" / "last.ckpt").stat().st_size
    print(
        f"{name}: checkpoint of {size / 1e9:.2f} GB; a step {statistics.median(others):.2f} s, one that saves "
        f"{' and '.join(f'{seconds:.2f}' for seconds in saving)} s, the three after it {statistics.median(writing):.2f} s; "
        f"the whole run {whole:.0f} s",
        flush=True,
    )


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder for the runs, 3 GB")
    parser.add_argument("--rounds", type=int, default=2)
    work = parser.parse_args().work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    save = Checkpoint.save
    for _ in range(parser.parse_args().rounds):
        with patch.object(Checkpoint, "save", lambda self, trainer, best=False, wait=False: save(self, trainer, best, True)):
            measure("at once", work)
        measure("by a thread", work)


if __name__ == "__main__":
    main()
