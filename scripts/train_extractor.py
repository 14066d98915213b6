"""Train one of the classifiers that condgen ships as extractors, and write its weights with their card.

    uv run python scripts/train_extractor.py mnist-cnn
    uv run python scripts/train_extractor.py cifar10-resnet data.archive=PATH/train.zip

Trained on the train part (the validation images stay unseen); the test part is looked at once, at the end. Stopped or
killed, the same command goes on from the last epoch. The remaining arguments are overrides of the data's configuration.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from condgen.config import build, conf_dir, plain
from condgen.data.augment import Augmentation, Crop, Flip, Rotate
from condgen.data.augment import compose as chain
from condgen.metrics.fitting import Recipe, accuracy, fit
from condgen.nets.classifier import Classifier

SEED = 0
DRAFTS = Path("outputs/extractors")


@dataclass(frozen=True)
class Job:
    """What one extractor is trained on and how."""

    data: str
    widths: tuple[int, ...]
    recipe: Recipe
    augment: tuple[Augmentation, ...]


JOBS = {
    "mnist-cnn": Job("mnist", (32, 64, 128), Recipe(epochs=24), (Rotate(12), Crop(2))),
    "cifar10-resnet": Job("cifar10", (64, 256, 256), Recipe(epochs=24), (Flip(), Crop(2, reflect=True))),
}


def main(name: str, overrides: list[str]) -> None:
    """Train extractor ``name`` and write it below ``outputs/extractors``."""
    job = JOBS[name]
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        config = plain(compose("train", [f"data={job.data}", *overrides]).data)
    data: Any = build("data", config)
    torch.manual_seed(SEED)
    network = Classifier(data.space, len(data.condition.classes), job.widths)
    start = time.monotonic()

    def report(epoch: int, loss: float) -> None:
        print(f"epoch {epoch:3d}  loss {loss:.4f}  {time.monotonic() - start:6.0f} s", flush=True)

    draft = DRAFTS / f"{name}.ckpt"
    fit(
        network,
        data.train.images,
        data.train.labels,
        job.recipe,
        augment=chain(job.augment),
        seed=SEED,
        checkpoint=draft,
        report=report,
    )
    scores = {part: accuracy(network, getattr(data, part).images, getattr(data, part).labels) for part in ("val", "test")}
    print(name, scores, f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters")
    torch.save(network.state_dict(), DRAFTS / f"{name}.pt")


if __name__ == "__main__":
    torch.set_num_threads(int(__import__("os").environ.get("THREADS", "2")))
    main(sys.argv[1], sys.argv[2:])
