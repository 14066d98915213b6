"""Ask a model for digits by captions or by tags, and let the shipped extractor say how many have all that they were asked for.

    uv run python scripts/measure_captions.py outputs/mnist_captions/RUN --split val

What is asked for is what images of the split show, and as much of the combinations that training has left out; where the split
has none of these (val) they are drawn. Captions say all of it, in words drawn anew. Digit, colour and thickness must be read as
asked for, and the angle within the third of all angles that the words name: turned to the left, upright, turned to the right.
Real images of the test part stand beside: the extractor misreads some of these too, above all angles near the end of a third.
A model of tags is asked for all four tags of an image, then for three, two and one of them; only what is asked for counts.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import condgen
from condgen.conditions import Attributes, Tags
from condgen.config.build import build
from condgen.data import DataModule
from condgen.data.captions import DRAWS, caption, said
from condgen.data.sources.mnist_attributes import DEGREES
from condgen.dataset import composed_data
from condgen.generators.base import Generator
from condgen.metrics.extractors import Extractor
from condgen.randomness import generator
from condgen.spaces import to_uint8

HEADS = ("digit", "third of angles", "colour", "thickness", "all four")
LANGUAGES = {"English": 0.0, "Chinese": 0.99}


def main(run: Path, split: str, count: int, temperature: float | None, seed: int) -> None:
    """Print a line for each language, and for real images, of seen and of unseen combinations."""
    tree = composed_data("evaluate", "mnist_attributes", [])
    data: DataModule = build("data", tree["data"])
    reader: Extractor = build("extractor", tree["extractor"])
    model = condgen.load(run)
    model.set_sampling(temperature=temperature)
    images, values = data.test.images, data.test.values
    assert values is not None
    left = left_out(data, values)
    wanted = {"seen": getattr(data, split).values, "unseen": drawn(data, count, seed)}
    if split == "test":
        wanted = {"seen": values[~left], "unseen": values[left]}
    if isinstance(model.condition, Tags):
        print_tags(model, reader, {kind: asked[:count] for kind, asked in wanted.items()}, seed)
        return
    print(f"| combinations | asked in | {' | '.join(HEADS)} |\n|---|---|{'---|' * len(HEADS)}")
    for kind, rows in (("seen", ~left), ("unseen", left)):
        for language, number in LANGUAGES.items():
            asked = wanted[kind][:count]
            found = read(reader, told(model, asked, number, seed, language, kind))
            print(f"| {kind} | {language} | {figures(found, asked)} |", flush=True)
        print(f"| {kind} | real images | {figures(read(reader, images[rows]), values[rows])} |", flush=True)


def print_tags(model: Generator, reader: Extractor, wanted: dict[str, Tensor], seed: int) -> None:
    """Print which share of samples has all tags that it was asked for, of four tags down to one."""
    assert isinstance(model.condition, Tags)
    print("| combinations | four tags | three | two | one |\n|---|---|---|---|---|")
    for kind, values in wanted.items():
        shares = []
        for tags in (4, 3, 2, 1):
            order = torch.rand(len(values), 4, generator=generator("tags", seed, kind, tags)).argsort(1)
            kept = order < tags  # (N, 4)
            encoded = model.condition.from_data(values, values)
            encoded[:, :4] = torch.where(kept, encoded[:, :4], -1.0)
            right = said(read(reader, to_uint8(model.sample(encoded)))) == said(values)
            shares.append((right | ~kept).all(1).float().mean().item())
        print(f"| {kind} | {' | '.join(f'{share:.3f}' for share in shares)} |", flush=True)


def left_out(data: DataModule, values: Tensor) -> Tensor:
    """Tell which of values (N, 4) have a combination of digit, colour and thickness that no training image has, bool (N,)."""
    assert data.train.values is not None
    known = set(map(tuple, data.train.values[:, [0, 2, 3]].tolist()))
    return torch.tensor([tuple(row) not in known for row in values[:, [0, 2, 3]].tolist()])


def drawn(data: DataModule, count: int, seed: int) -> Tensor:
    """Draw values (count, 4) of combinations that no training image has."""
    u = torch.rand(20 * count, 4, generator=generator(seed, "unseen"))
    values = torch.stack([(u[:, 0] * 10).floor(), (2 * u[:, 1] - 1) * DEGREES, (u[:, 2] * 5).floor(), (u[:, 3] * 3).floor()], 1)
    return values[left_out(data, values)][:count]


def told(model: Generator, values: Tensor, number: float, *key: int | str) -> Tensor:
    """Draw a sample for each of values (N, 4), told by a caption in the language that a number in [0, 1) chooses."""
    u = torch.rand(len(values), DRAWS, generator=generator("measured", *key))
    u[:, 0], u[:, 2 + (DRAWS - 2) // 2 :] = number, 1.0  # the language, and nothing is left out
    captions = [caption(row, some) for row, some in zip(said(values).tolist(), u.tolist(), strict=True)]
    return to_uint8(model.sample(captions))


def read(reader: Extractor, images: Tensor) -> Tensor:
    """Return digit, rotation, colour and thickness (N, 4) as the extractor reads them from uint8 images."""
    assert isinstance(reader.attributes, Attributes)
    return reader.attributes.values(reader(images)[1])


def figures(found: Tensor, asked: Tensor) -> str:
    """Return the shares of images whose parts, and all of them, are as asked for."""
    right = said(found) == said(asked)
    shares = [*right.float().mean(0).tolist(), right.all(1).float().mean().item()]
    return " | ".join(f"{share:.3f}" for share in shares) + f" | of {len(asked):,}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run on data=mnist_attributes with condition=caption or tags")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--count", type=int, default=1000, help="captions of each kind and language")
    parser.add_argument("--temperature", type=float, help="of the samples; as the recipe says where it is left out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.run, options.split, options.count, options.temperature, options.seed)
