"""Train one of the classifiers that condgen ships as extractors, and write its weights with their card.

    uv run python scripts/train_extractor.py mnist-cnn
    uv run python scripts/train_extractor.py cifar10-resnet data.archive=PATH/train.zip

Trained on the train part: the validation images stay unseen, the test images are looked at once, at the end. Stopped or
killed, the same command goes on from the last epoch. What follows the name overrides the configuration of the data.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from hydra import compose, initialize_config_dir

from condgen.config import build, conf_dir, plain
from condgen.data.augment import Augmentation, Crop, Flip, Rotate
from condgen.data.augment import compose as chain
from condgen.metrics.extractors import SHIPPED, digest
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
    """Train extractor ``name`` and write ``NAME.safetensors`` and ``NAME.json`` to where extractors ship from."""
    job = JOBS[name]
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        data: Any = build("data", plain(compose("train", [f"data={job.data}", *overrides]).data))
    torch.manual_seed(SEED)
    network = Classifier(data.space, len(data.condition.classes), job.widths)
    start = time.monotonic()

    def report(epoch: int, loss: float) -> None:
        print(f"epoch {epoch:3d}  loss {loss:.4f}  {time.monotonic() - start:6.0f} s", flush=True)

    fit(
        network,
        data.train.images,
        data.train.labels,
        job.recipe,
        augment=chain(job.augment),
        seed=SEED,
        checkpoint=DRAFTS / f"{name}.ckpt",
        report=report,
    )
    scores = {split: accuracy(network, *whole(getattr(data, split))) for split in ("val", "test")}
    weights = safetensors.torch.save({key: value.contiguous() for key, value in network.state_dict().items()})
    card = {
        "name": name,
        "network": {
            "_target_": "condgen.nets.classifier.Classifier",
            "space": {"_target_": "condgen.spaces.Images", "shape": list(data.space.shape)},
            "classes": len(data.condition.classes),
            "widths": list(job.widths),
        },
        "shape": list(data.space.shape),
        "classes": data.condition.classes,
        "data": f"{job.data}: {len(data.train):,} training images (split_seed {data.split_seed}), {len(data.test):,} of test",
        "accuracy": scores,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "recipe": asdict(job.recipe) | {"augment": [type(one).__name__ for one in job.augment], "seed": SEED},
        "command": f"python scripts/train_extractor.py {name}" + (" data.archive=train.zip" if overrides else ""),
        "sha256": digest(weights),
    }
    SHIPPED.mkdir(exist_ok=True)
    (SHIPPED / f"{name}.safetensors").write_bytes(weights)
    (SHIPPED / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(card["accuracy"]), f"{len(weights) / 1e6:.2f} MB in {SHIPPED}")


def whole(part: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images and labels of a part of the data."""
    return part.images, part.labels


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in JOBS:
        sys.exit(f"Name the extractor: {' or '.join(JOBS)}.")
    main(sys.argv[1], sys.argv[2:])
