"""Train a short run and keep pictures of many moments of it: sets of samples in an order that is known.

    uv run python scripts/snapshots.py mnist
    uv run python scripts/snapshots.py cifar10 data.source.archive=PATH/train.zip

Writes ``outputs/snapshots/NAME/update-00000400.npz`` (``images``, ``labels``), of the averaged weights, always from the same
noise. What follows the name overrides the configuration of the run.
"""

import sys
from pathlib import Path

import lightning as L
import numpy as np
import torch

import condgen
from condgen.callbacks.base import Callback
from condgen.spaces import to_uint8
from condgen.training.base import Training

FOLDER = Path("outputs/snapshots")
MOMENTS = (25, 50, 100, 150, 200, 300, 400, 550, 700, 900, 1100, 1400, 1700)
"""Updates after which samples are drawn: denser where a training changes fast."""
COUNT = 1000
RUNS = {
    "mnist": ("model=acgan_conv", "data=mnist"),
    "cifar10": ("cifar10_quick", "model.generator.network.width=32", "model.discriminator.width=32"),
}


class Snapshots(Callback):
    """Writes samples of every class after each of `MOMENTS`.

    Args:
        folder: where to.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_update(self, trainer: L.Trainer, model: Training, update: int) -> None:
        """Draw, if it is time."""
        if update in MOMENTS:
            classes = model.condition.width
            labels = torch.arange(classes).repeat_interleave(COUNT // classes)
            samples = model.eval_generator.sample(labels, seed=0)
            images = to_uint8(samples).permute(0, 2, 3, 1).cpu().numpy()
            np.savez_compressed(self.folder / f"update-{update:08d}.npz", images=images, labels=labels.numpy())


def main(name: str, overrides: list[str]) -> None:
    """Train the run ``name`` and write its snapshots."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    sys.modules["snapshots"] = sys.modules["__main__"]  # by which name the configuration finds the callback
    condgen.train(
        *RUNS[name],
        f"+callbacks={{snapshots: {{_target_: snapshots.Snapshots, folder: {folder}}}}}",
        f"trainer.max_steps={MOMENTS[-1]}",
        "callbacks.evaluation=null",
        *overrides,
        directory=folder / "run",
    )


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in RUNS:
        sys.exit(f"Name the run: {' or '.join(RUNS)}.")
    main(sys.argv[1], sys.argv[2:])
