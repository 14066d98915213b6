"""From an image to its tags: train models that draw sets of tags for features of an image, and score what they draw.

    uv run python scripts/measure_image_tags.py outputs/image_tags --choices model=gan_points model=flow_points

Images are those of data=mnist_attributes, features those of its shipped extractor, which stays frozen (as in Mirza & Osindero
2014, section 4.2). Each training image is tagged as people do, by some of what is true: each of its four tags with a chance
of one half. So a set is one of many answers. For each test image ten sets are drawn: the share of the tags drawn that are true
(precision), the share of what is true that is in a set (recall), and in any of the ten; and the mean number of tags in a set.
Beside them stand people such as those who tagged the training images, and sets drawn without the image.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import condgen
from condgen.conditions import Tags
from condgen.config.build import build
from condgen.data import DataModule
from condgen.data.tables import Part
from condgen.dataset import composed_data
from condgen.metrics.extractors import Extractor
from condgen.randomness import generator
from condgen.run.status import read_status

PARTS = {"rotation": ["right", "upright", "left"]}
DRAWN, TESTED = 10, 2000
HEADS = "| sets of tags | precision | recall | recall of ten | tags in a set |\n|---|---|---|---|---|"


def main(folder: Path, choices: Sequence[str], epochs: int) -> None:
    """Train what is missing and print a line for each model."""
    tree = composed_data("evaluate", "mnist_attributes", [])
    data: DataModule = build("data", tree["data"])
    reader: Extractor = build("extractor", tree["extractor"])
    tags = Tags(data.source.fields, parts=PARTS)  # type: ignore[attr-defined]
    file = folder / "tagged.npz"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        true = truth(tags, data.train)
        np.savez(file, features=features(reader, data.train), tags=given(true, 0).numpy(), names=np.array(tags.words))
    true, seen = truth(tags, data.test)[:TESTED], torch.from_numpy(features(reader, data.test)[:TESTED])
    print(HEADS)
    people = torch.stack([given(true, 1 + i) for i in range(DRAWN)], dim=1)
    print(f"| people like those who tagged | {figures(people, true)} |")
    print(f"| people before other images | {figures(people[torch.randperm(TESTED, generator=generator('other'))], true)} |")
    for choice in choices:
        run = folder / choice.partition("=")[2]
        status = read_status(run) if run.is_dir() else None
        if status is None or status.state != "done":
            settings = [f"trainer.max_epochs={epochs}", "data.batch_size=256", "callbacks.samples=null", f"hydra.run.dir={run}"]
            condgen.train("experiment=none", "data=tagged", f"data.source.file={file.resolve()}", choice, *settings)
        model = condgen.load(run)
        fields = model.condition.fields  # type: ignore[attr-defined]
        columns = [int(field.name.removeprefix("feature")) for field in fields]
        asked = model.condition.encode_values(seen[:, columns])  # type: ignore[attr-defined]
        drawn = model.sample(asked, DRAWN) > 0
        print(f"| {choice} | {figures(drawn.view(TESTED, DRAWN, -1), true)} |", flush=True)


def features(reader: Extractor, part: Part) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Return what the extractor's last layer sees of images, float32 (N, D)."""
    return np.concatenate([reader(part.table.images[rows])[0].numpy() for rows in torch.split(part.rows, 1000)])


def truth(tags: Tags, part: Part) -> Tensor:
    """Return all that is true of images, bool (N, tags)."""
    return tags.vector(tags.from_data(part.labels, part.values)) > 0


def given(true: Tensor, person: int) -> Tensor:
    """Keep each of the true tags (N, T) with a probability of one half, as one person or another does."""
    return true & (torch.rand(true.shape, generator=generator("given", person)) < 0.5)


def figures(drawn: Tensor, true: Tensor) -> str:
    """Return precision, recall, recall of all sets of an image together, and size, of sets (N, sets, T)."""
    right = drawn & true[:, None]
    precision = right.sum() / drawn.sum().clamp(min=1)
    recall, together = right.sum() / true[:, None].expand_as(right).sum(), right.any(1).sum() / true.sum()
    return f"{precision:.3f} | {recall:.3f} | {together:.3f} | {drawn.sum(2).float().mean():.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where runs lie, and are put")
    parser.add_argument("--choices", nargs="+", default=["model=gan_points"], metavar="MODEL")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    main(options.folder, options.choices, options.epochs)
