"""Train one of the classifiers that condgen ships as extractors, and write its weights with their card.

    uv run python scripts/train_extractor.py mnist-cnn
    uv run python scripts/train_extractor.py mnist-attributes
    uv run python scripts/train_extractor.py fashion-cnn
    uv run python scripts/train_extractor.py cifar10-resnet data.source.archive=PATH/train.zip
    uv run python scripts/train_extractor.py spoken-digits data.source.path=PATH/recordings.zip

Trained on the train part: the validation images stay unseen, the test images are looked at once, at the end. Stopped or
killed, the same command goes on from the last epoch. What follows the name overrides the configuration of the data.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from hydra import compose, initialize_config_dir

from condgen.augment.images import Augmentation, Crop, Flip, Rotate
from condgen.augment.images import compose as chain
from condgen.conditions import Attributes, Category
from condgen.config.build import build, plain
from condgen.config.folder import conf_dir
from condgen.data.tables import Part
from condgen.losses.attributes import attribute_loss
from condgen.metrics.extractors import SHIPPED, digest
from condgen.metrics.fitting import Recipe, accuracy, fit, predict
from condgen.metrics.floors import learned_from
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
    overrides: tuple[str, ...] = ()
    numbers: float = 0.0  # factor of the errors of attributes that are numbers


JOBS = {
    "mnist-cnn": Job("mnist", (32, 64, 128), Recipe(epochs=24), (Rotate(12), Crop(2))),
    # All combinations of attributes: whoever judges those that generators do not train on has to know them.
    "mnist-attributes": Job(
        "mnist_attributes", (32, 64, 128), Recipe(epochs=16, rate=0.5), (Crop(1),), ("data.source.unseen=[]",), numbers=0.5
    ),
    "fashion-cnn": Job("fashion_mnist", (48, 96, 192), Recipe(epochs=30), (Flip(), Crop(2))),
    "spoken-digits": Job("spoken_digits", (32, 64, 128), Recipe(epochs=30, batch_size=96, rate=0.25), (Crop(4),)),
    "cifar10-resnet": Job("cifar10", (64, 256, 256), Recipe(epochs=24), (Flip(), Crop(2, reflect=True))),
}


def main(name: str, overrides: list[str]) -> None:
    """Train extractor ``name`` and write ``NAME.safetensors`` and ``NAME.json`` to where extractors ship from."""
    job = JOBS[name]
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        data: Any = build("data", plain(compose("train", [f"data={job.data}", *job.overrides, *overrides]).data))
    torch.manual_seed(SEED)
    condition = data.condition
    attributes = condition if isinstance(condition, Attributes) else None
    network = Classifier(data.space, condition.width, job.widths)
    start = time.monotonic()

    def report(epoch: int, loss: float) -> None:
        print(f"epoch {epoch:3d}  loss {loss:.4f}  {time.monotonic() - start:6.0f} s", flush=True)

    fit(
        network,
        data.train.images,
        condition.from_data(data.train.labels, data.train.values),
        job.recipe,
        loss=partial(attribute_loss, attributes, numbers=job.numbers, smoothing=job.recipe.smoothing) if attributes else None,
        augment=chain(job.augment),
        seed=SEED,
        checkpoint=DRAFTS / f"{name}.ckpt",
        report=report,
    )
    parts = {"val": data.val, "test": data.test}
    scores: dict[str, Any]
    if attributes:
        scores = {"errors": {split: errors(attributes, network, part) for split, part in parts.items()}}
    else:
        scores = {"accuracy": {split: accuracy(network, part.images, part.labels) for split, part in parts.items()}}
    given = [override.split("=", 1) for override in overrides]
    weights = safetensors.torch.save({key: value.contiguous() for key, value in network.state_dict().items()})
    card = {
        "name": name,
        "network": {
            "_target_": "condgen.nets.classifier.Classifier",
            "space": {"_target_": "condgen.spaces.Images", "shape": list(data.space.shape)},
            "classes": condition.width,
            "widths": list(job.widths),
        },
        "shape": list(data.space.shape),
        "classes": condition.classes,
        **({"fields": condition.config()["fields"]} if attributes else {}),
        "data": f"{job.data}: {len(data.train):,} training images (split_seed {data.split_seed}), {len(data.test):,} of test",
        **({"licence": about.licence, "terms": about.terms} if (about := getattr(data.source, "about", None)) else {}),
        **({} if job.overrides else {"learned": learned_from(data)}),
        **scores,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "recipe": asdict(job.recipe) | {"augment": [type(one).__name__ for one in job.augment], "seed": SEED},
        "command": " ".join(
            ["python scripts/train_extractor.py", name, *(f"{key}={Path(value).name}" for key, value in given)]
        ),
        "sha256": digest(weights),
    }
    SHIPPED.mkdir(exist_ok=True)
    (SHIPPED / f"{name}.safetensors").write_bytes(weights)
    (SHIPPED / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(scores), f"{len(weights) / 1e6:.2f} MB in {SHIPPED}")


def errors(attributes: Attributes, network: Classifier, part: Part) -> dict[str, float]:
    """Return the share of wrong categories and the mean absolute error of numbers on a part of the data, by attribute."""
    assert part.values is not None
    read, right = attributes.values(predict(network, part.images)), part.values
    wrong = torch.where(torch.tensor([isinstance(f, Category) for f in attributes.fields]), read != right, (read - right).abs())
    return {field.name: round(value, 5) for field, value in zip(attributes.fields, wrong.mean(0).tolist(), strict=True)}


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in JOBS:
        sys.exit(f"Name the extractor: {' or '.join(JOBS)}.")
    main(sys.argv[1], sys.argv[2:])
