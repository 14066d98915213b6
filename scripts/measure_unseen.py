"""Ask for classes that training never saw, by their vectors: digits by their strokes, colours by their light.

    uv run python scripts/measure_unseen.py outputs/unseen strokes --without 8 9 6 3 --choices model=cvae_conv
    uv run python scripts/measure_unseen.py outputs/unseen colours --without yellow green white \\
        --choices model=acgan_conv auxiliary=none

For each class that is left out a run is trained without it (one that is there is taken), 500 samples of every class are drawn
and read by a shipped extractor. Prints how many of the class that was left out are read as it, as what else, and how many of
the others are read as what they are. A one-hot condition has no name for a class that it never saw; chance is one among all.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import condgen
from condgen.config.build import build
from condgen.config.compose import by_choices
from condgen.data.sources.mnist_attributes import COLOURS, MNISTAttributes
from condgen.generators.base import Generator
from condgen.metrics.extractors import Extractor
from condgen.run.status import read_status
from condgen.spaces import to_uint8

COUNT = 500
SEGMENTS = ("1111110", "0110000", "1101101", "1111001", "0110011", "1011011", "1011111", "1110000", "1111111", "1111011")
"""Those of a display that show each digit: top, upper right, lower right, bottom, lower left, upper left, middle."""
COLOURED = 12_000
"""Coloured digits to train on."""
QUIET = ("callbacks.evaluation=null", "callbacks.samples=null", "trainer.max_epochs=4")


def main(folder: Path, what: str, without: Sequence[str], choices: Sequence[str]) -> None:
    """Train what is missing and print a line for each class that was left out."""
    vectors: dict[str, list[float]] = {str(i): [float(bit) for bit in bits] for i, bits in enumerate(SEGMENTS)}
    data, reader = ["data=mnist"], "mnist-cnn"
    if what == "colours":
        vectors = {name: [round(light / 255, 3) for light in lights] for name, lights in COLOURS.items()}
        data, reader = ["data=folder", f"data.source.path={coloured(folder / 'digits')}"], "mnist-attributes"
    extractor: Extractor = build("extractor", by_choices("evaluate", [f"extractor={reader}"])[0]["extractor"])
    names = list(vectors)
    given = "condition.vectors={" + ",".join(f"{name}: {vector}" for name, vector in vectors.items()) + "}"
    print("| left out | read as it | read most often as | the others, read as what they are |\n|---|---|---|---|")
    for left in without:
        run = folder / what / left
        status = read_status(run) if run.is_dir() else None
        if status is None or status.state != "done":
            classes = f"data.classes=[{','.join(name for name in names if name != left)}]"
            condgen.train(
                "experiment=none", *data, "condition=vector", given, classes, *QUIET, *choices, f"hydra.run.dir={run}"
            )
        model = condgen.load(run)
        found = torch.stack([read(extractor, names, model, name) for name in names])  # (asked for, read as)
        mine = found[names.index(left)]
        others = found.diagonal().sum() - mine[names.index(left)]
        most = ", ".join(f"{names[i]} ({mine[i]:.2f})" for i in mine.argsort(descending=True)[:2].tolist())
        print(f"| {left} | {mine[names.index(left)]:.3f} | {most} | {others / (len(names) - 1):.3f} |", flush=True)


def coloured(folder: Path) -> Path:
    """Write coloured digits as images, a folder for each colour, and return the folder above."""
    if not folder.is_dir():
        table = MNISTAttributes(samples=COLOURED).load().train
        assert table.values is not None
        for i, (image, values) in enumerate(zip(table.images[range(COLOURED)], table.values, strict=True)):
            home = folder / list(COLOURS)[int(values[2])]
            home.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(home / f"{i:05}.png")
    return folder.resolve()


def read(extractor: Extractor, names: Sequence[str], model: Generator, name: str) -> Tensor:
    """Return which share of the samples of a class is read as each of all, (names,)."""
    _, outputs = extractor(to_uint8(model.sample(name, COUNT)))
    scores = extractor.class_logits(outputs)
    if extractor.attributes and len(names) == len(COLOURS):
        field = [field.name for field in extractor.attributes.fields].index("colour")
        scores = extractor.attributes.parts(outputs)[field]
    return scores.argmax(1).bincount(minlength=len(names)) / COUNT


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where runs lie, and are put")
    parser.add_argument("what", choices=("strokes", "colours"))
    parser.add_argument("--without", nargs="+", required=True, metavar="CLASS")
    parser.add_argument("--choices", nargs="*", default=[], help="of the trainings, such as model=cvae_conv")
    options = parser.parse_args()
    main(options.folder, options.what, options.without, options.choices)
