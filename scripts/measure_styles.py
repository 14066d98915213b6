"""How much of a style, and how much of the photo, a network for style transfer draws.

    uv run python scripts/measure_styles.py outputs/stylize/RUN --photos test.zip

Photos that the network was not trained on are drawn in each of its styles. Content and style are the two terms of its loss (0
is perfect), under the network of the loss and under another one, whose features no label has taught and which the training has
not seen. Beside them stand the photos as they are, which have all of the content, and the patterns themselves, which have all
of the style. "Style read" is the share of the pictures whose Gram matrices are nearer to those of their own style than to those
of the others, "photo found" that of the pictures whose own photo is the nearest of all in the layer that content is compared
in, "class read" how often a classifier still names the photo's class.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import condgen
from condgen.data.patterns import PATTERNS, style_image
from condgen.data.sources import ImageArchive
from condgen.generators.base import Generator
from condgen.losses.perceptual import Perceptual
from condgen.metrics.extractors import Shipped
from condgen.metrics.perception import ShippedLayers
from condgen.spaces import to_float, to_uint8

NETWORKS = {"cifar10-resnet": "the loss's own", "cifar10-rotation": "without labels"}
HEADS = ["content", "style", "style read", "photo found"]
BLOCK = 100
"""Pictures at a time."""


def main(run: Path, archive: Path, count: int) -> None:
    """Print a table with a row for each style, and one for photos and patterns."""
    generator = condgen.load(run)
    part = ImageArchive(archive).load().train
    photos, labels = to_float(part.images[:count]), torch.as_tensor(part.labels[:count]).long()
    names = list(generator.condition.said.fields[0].config())  # type: ignore[attr-defined]
    if unknown := set(names) - set(PATTERNS):
        raise SystemExit(f"{run} has styles of its own, {', '.join(sorted(unknown))}: of these it keeps no picture to compare.")
    shown = torch.stack([style_image(name, *photos.shape[1:3]) for name in names])
    every = torch.arange(len(photos)) % len(names)  # a style for each photo
    rows = {name: (drawn(generator, photos, name), torch.full((len(photos),), i)) for i, name in enumerate(names)}
    rows |= {"photos as they are": (photos, every), "the patterns": (shown[every], every)}
    reader = Shipped("cifar10-resnet")
    print("| |", " | ".join(f"{head}, {said}" for said in NETWORKS.values() for head in HEADS), "| class read |")
    print("|---|" + "--:|" * (len(NETWORKS) * len(HEADS) + 1))
    for row, (pictures, asked) in rows.items():
        found = [figure for name in NETWORKS for figure in figures(name, pictures, photos, shown, asked)]
        named = torch.cat([reader(to_uint8(block))[1].argmax(1) for block in torch.split(pictures, BLOCK)])
        found.append((named == labels).float().mean())
        print(f"| {row} |", " | ".join(f"{figure:.3f}" for figure in found), "|", flush=True)


def drawn(generator: Generator, photos: Tensor, style: str) -> Tensor:
    """Return photos (N, 3, H, W) in a style."""
    asked = [
        torch.cat([generator.condition.ask(f"style={style}", photo) for photo in block]) for block in torch.split(photos, BLOCK)
    ]
    return torch.cat([generator.sample(block) for block in asked])


@torch.inference_mode()
def figures(name: str, pictures: Tensor, photos: Tensor, shown: Tensor, asked: Tensor) -> list[Tensor]:
    """Return the four figures of pictures (N, 3, H, W) of photos, in the styles that were ``asked`` (N,) of those ``shown``."""
    loss = Perceptual(lambda: ShippedLayers(name), content_layer=1, style_layers=[0, 1, 2])
    targets = loss.grams(loss.layers(shown))
    terms, read, inside, outside = [], [], [], []
    for block in torch.split(torch.arange(len(pictures)), BLOCK):
        terms.append(loss(pictures[block], photos[block], [target[asked[block]] for target in targets]))
        layers = loss.layers(pictures[block])
        pairs = zip(loss.grams(layers), targets, strict=True)
        away = torch.stack([(a[:, None] - b).square().sum((2, 3)) / b.square().sum((1, 2)) for a, b in pairs])  # (layers, B, S)
        read.append(away.mean(0).argmin(1) == asked[block])
        inside.append(layers[loss.content_layer].flatten(1))
        outside.append(loss.layers(photos[block])[loss.content_layer].flatten(1))
    found = torch.cdist(torch.cat(inside), torch.cat(outside)).argmin(1) == torch.arange(len(pictures))
    means = [torch.cat([term[part] for term in terms]).mean() for part in ("content", "style")]
    return [*means, torch.cat(read).float().mean(), found.float().mean()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--photos", type=Path, required=True, help="an archive of images, such as CIFAR-10's test part")
    parser.add_argument("--count", type=int, default=1000)
    given = parser.parse_args()
    main(given.run, given.photos, given.count)
