"""Draw the pictures of the documentation, docs/assets/*.png, from trained models: a thumbnail for each recipe, and the wall.

Of sounds, the last row is written as a wav, too.

    uv run python scripts/make_gallery.py --runs outputs/gallery --photos test.zip            # of finished runs
    uv run python scripts/make_gallery.py --runs outputs/gallery --photos test.zip --train    # trains those that are missing

``--runs`` is a folder with a run directory (or a link to one) for each recipe, under the recipe's name. ``--photos`` is an
archive of images that no model was trained on, such as the test part of CIFAR-10. Recipes that are not there keep the pictures
that they have, also on the wall.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import condgen
from condgen.audio import Sound
from condgen.data.sources import MNIST, ImageArchive
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.spaces import to_float, to_uint8

TILE = 32
"""Side of a tile of the wall in pixels; digits have a margin."""
COLOURS = 128
"""Colours of a picture: fewer make smaller files."""
Draw = Callable[[Generator, Tensor], Tensor]
"""From a generator and photos (N, 3, 32, 32) in [-1, 1] to rows of samples (rows, columns, C, H, W)."""


def classes(generator: Generator, photos: Tensor) -> Tensor:
    """A column for each of ten classes, four samples of it below each other."""
    return generator.sample("0-9", count=4, seed=1).unflatten(0, (10, 4)).transpose(0, 1)


def attributes(generator: Generator, photos: Tensor) -> Tensor:
    """A row for each colour; digits turn from left to right."""
    colours, columns = ("red", "yellow", "green", "blue"), 10
    turns = torch.linspace(-45, 45, columns).tolist()
    wanted = [f"digit={i},colour={colour},rotation={turn:.0f}" for colour in colours for i, turn in enumerate(turns)]
    return generator.sample(wanted, seed=1).unflatten(0, (len(colours), columns))


def captions(generator: Generator, photos: Tensor) -> Tensor:
    """Ten samples of each of four captions."""
    said = ("a thick red three, turned to the left", "向左转的粗红色数字三", "a thin green 7", "白色的数字五")
    return generator.sample(list(said), count=10, seed=1).unflatten(0, (len(said), 10))


def sounds(generator: Generator, photos: Tensor) -> Tensor:
    """The ten digits, a row for each speaker."""
    speakers = generator.condition.schema()["properties"]["speaker"]["enum"]
    wanted = [f"digit={digit},speaker={speaker}" for speaker in speakers for digit in range(10)]
    return generator.sample(wanted, seed=1).unflatten(0, (len(speakers), 10))


def from_images(generator: Generator, photos: Tensor) -> Tensor:
    """What the model sees of each photo, what it makes of it, and below both the photo."""
    encoded = torch.cat([generator.condition.ask(None, photo) for photo in photos])
    seen = generator.condition.map(encoded)[:, : photos.shape[1]].expand_as(photos)
    return torch.stack([seen, generator.sample(encoded, seed=1), photos])


def from_digits(generator: Generator, photos: Tensor) -> Tensor:
    """The same of digits that no model was trained on."""
    return from_images(generator, to_float(MNIST().load().test.images[:10]))


def styles(generator: Generator, photos: Tensor) -> Tensor:
    """The photos, and below them the same in each style."""
    names = [str(i) for i in reversed(range(generator.condition.width))]
    rows = [torch.cat([generator.condition.ask(f"style={name}", photo) for photo in photos]) for name in names]
    return torch.stack([photos, *(generator.sample(row, seed=1) for row in rows)])


def points(generator: Generator, photos: Tensor) -> Tensor:
    """2,000 points, a colour for each class: one picture instead of samples."""
    count, columns = generator.space.layout(8)
    return to_float(generator.space.grid(generator.sample("0-7", count=count, seed=1), columns))[None, None]


@dataclass(frozen=True)
class Recipe:
    """A picture of the gallery.

    Attributes:
        name: of the picture, and of the run's folder.
        draw: what is asked for.
        choices: what ``condgen train`` is given.
    """

    name: str
    draw: Draw
    choices: tuple[str, ...]


def experiment(name: str, draw: Draw, *choices: str) -> Recipe:
    """Return a recipe of conf/experiment/."""
    return Recipe(name, draw, (f"experiment={name}", *choices))


PHOTOS = "data.source.archive=train.zip"
# Some are shortened, so that they train within minutes on one core; docs/gallery.md says which.
RECIPES = [
    experiment("mnist_quick", classes),
    experiment("mnist_attributes_gan", attributes),
    experiment("fashion_mnist_quick", classes),
    experiment("cifar10_quick", classes, PHOTOS),
    experiment("cifar10_best", classes, PHOTOS),
    experiment("mnist_vae_flow", classes),
    experiment("mnist_cvae_conv", classes, "trainer.max_epochs=6"),
    experiment("mnist_flow_matching", classes),
    experiment("mnist_glow", classes, "trainer.max_epochs=-1", "trainer.max_steps=300"),
    experiment("mnist_captions", captions),
    experiment("spoken_digits_gan", sounds, "data.source.path=recordings.zip"),
    experiment("mnist_inpaint", from_digits),
    experiment("cifar10_inpaint", from_images, PHOTOS, "trainer.max_epochs=1"),
    experiment("stylize", styles, PHOTOS),
    Recipe("ring", points, ("data=ring", "model=gan_points", "data.batch_size=256", "trainer.max_steps=500")),
]
WALL = [
    [("mnist_quick", 4, 10), ("mnist_attributes_gan", 4, 10)],
    [("cifar10_best", 4, 10), ("fashion_mnist_quick", 4, 10)],
    [("mnist_vae_flow", 3, 5), ("mnist_flow_matching", 3, 5), ("mnist_glow", 3, 5), ("mnist_cvae_conv", 3, 5)],
    [("cifar10_inpaint", 3, 10), ("stylize", 3, 10)],
]
"""Bands of the wall, each a list of recipes with the rows and columns that they fill."""


def main() -> None:
    """Draw what can be drawn, then the wall."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="a folder with a run directory for each recipe")
    parser.add_argument("--photos", type=Path, required=True, help="an archive of images, such as CIFAR-10's test part")
    parser.add_argument("--out", type=Path, default=Path("docs/assets"), help="where pictures are written")
    parser.add_argument("--train", action="store_true", help="train the recipes that are not there")
    options = parser.parse_args()
    photos = to_float(ImageArchive(options.photos).load().train.images[:10])
    drawn = {}
    for recipe in RECIPES:
        folder = options.runs / recipe.name
        if not (folder / "checkpoints").is_dir():
            if not options.train:
                print(f"{recipe.name}: no run in {folder}, left as it is")
                continue
            condgen.train(*recipe.choices, f"hydra.run.dir={folder.resolve()}")
        generator = condgen.load(folder)
        drawn[recipe.name] = rows = recipe.draw(generator, photos)
        grid = generator.space.grid(rows.flatten(0, 1), rows.shape[1]) if recipe.draw is not points else to_uint8(rows[0, 0])
        save(options.out / f"{recipe.name}.png", grid)
        if isinstance(generator.space, Sound):
            (options.out / f"{recipe.name}.wav").write_bytes(generator.space.file(rows[-1]))
    for name in {name for band in WALL for name, _, _ in band} - drawn.keys():
        drawn[name] = kept(options.out / f"{name}.png")
    save(options.out / "wall.png", wall(drawn))


def kept(picture: Path) -> Tensor:
    """Return the samples (rows, columns, 3, S, S) of a picture that was drawn before, two pixels apart: S is 28 or 32."""
    with Image.open(picture) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    side = next(side for side in (28, 32) if all((length - 2) % (side + 2) == 0 for length in pixels.shape[1:]))
    cut = pixels[:, 2:, 2:].unfold(1, side, side + 2).unfold(2, side, side + 2)  # (3, rows, columns, S, S)
    return to_float(cut.permute(1, 2, 0, 3, 4))


def wall(drawn: dict[str, Tensor]) -> Tensor:
    """Return all recipes side by side, uint8 (3, H, W), without gaps."""
    bands = []
    for band in WALL:
        blocks = [tiles(drawn[name][:rows], columns, rows) for name, rows, columns in band]
        bands.append(torch.cat(blocks, dim=2))
    return torch.cat(bands, dim=1)


def tiles(samples: Tensor, columns: int, rows: int) -> Tensor:
    """Return the first ``columns`` of rows of samples (rows, N, C, H, W) as one picture, uint8 (3, rows * 32, columns * 32)."""
    if samples.shape[0] < rows or samples.shape[1] < columns:
        raise CondgenError(f"A block of {rows} x {columns} tiles needs as many samples, not {tuple(samples.shape[:2])}.")
    images = to_uint8(samples[:, :columns]).expand(-1, -1, 3, -1, -1)
    margin = (TILE - images.shape[-1]) // 2
    padded = torch.nn.functional.pad(images, (margin, margin, margin, margin))
    return padded.permute(2, 0, 3, 1, 4).reshape(3, rows * TILE, columns * TILE)


def save(path: Path, picture: Tensor) -> None:
    """Write a picture, uint8 (3, H, W), as a PNG with a palette."""
    image = Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {picture.shape[2]} x {picture.shape[1]}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
