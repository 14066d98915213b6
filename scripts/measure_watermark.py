"""Measure how often the watermark is found, and how often where there is none, and print the tables of docs/origin.md.

    uv run python scripts/measure_watermark.py
    uv run python scripts/measure_watermark.py --cifar10 PATH/test.zip

Test images of MNIST or of CIFAR-10 stand for samples: each is marked with a key of its own, saved, treated, and searched for
this key; as many unmarked ones are treated and searched for it, too. Grids are of 64 images that are drawn at random.
"""

import argparse
import io
import math
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from condgen.data.sources import MNIST, ImageArchive
from condgen.images import Picture, decode, to_picture
from condgen.spaces import Images, to_float, to_uint8
from condgen.watermark import SURE, Found, find_in_picture, mark

LEVELS = (1e-2, SURE)
"""Probabilities of a false alarm at which the mark counts as found."""


def jpeg(picture: Tensor) -> Tensor:
    """Save a picture, uint8 (C, H, W), as a JPEG of quality 75 and read it again."""
    file = io.BytesIO()
    to_picture(picture).save(file, "JPEG", quality=75)
    return decode(Picture("a JPEG", file.getvalue))


def scaled(factor: float) -> Callable[[Tensor], Tensor]:
    """Return what scales a picture by ``factor`` and back, by Pillow's bicubic filter."""

    def scale(picture: Tensor) -> Tensor:
        image = to_picture(picture)
        between = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        between.resize(image.size, Image.Resampling.BICUBIC).save(file, "PNG")
        return decode(Picture("a PNG", file.getvalue))

    return scale


TREATMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "as written": lambda picture: picture,
    "JPEG, quality 75": jpeg,
    "to 2x and back": scaled(2),
    "to 0.75x and back": scaled(0.75),
}


def pictures(images: Tensor, count: int, together: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return ``count`` pictures of ``together`` images, uint8 (C, H, W), unmarked and marked, number i with ``key i``."""
    space, stream = Images(images.shape[1:]), torch.Generator().manual_seed(0)
    unmarked, marked = [], []
    for i in range(count):
        chosen = to_float(images[torch.randperm(len(images), generator=stream)[:together]])
        hidden = mark(chosen, f"key {i}")
        if together == 1:
            unmarked.append(to_uint8(chosen)[0])
            marked.append(to_uint8(hidden)[0])
        else:
            unmarked.append(space.grid(chosen, 8))
            marked.append(space.grid(hidden, 8))
    return unmarked, marked


def shares(found: list[Found]) -> str:
    """Return the share that counts as found at each level, in per cent."""
    return " | ".join(f"{sum(one.exponent <= math.log10(level) for one in found) / len(found):.1%}" for level in LEVELS)


def changes(images: Tensor) -> str:
    """Say how much the mark changes images, uint8 (N, C, H, W)."""
    moved = (to_uint8(mark(to_float(images), "key 0")).int() - images.int()).abs()
    square = moved.float().square().mean()
    mean, most = moved.float().mean(), int(moved.max())
    return f"PSNR {10 * math.log10(255**2 / square):.1f} dB, {mean:.1f} levels of 255 on average, at most {most}"


def main() -> None:
    """Print the table of a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", help="test.zip of CIFAR-10 in the layout of EDM's dataset tool; without it MNIST")
    parser.add_argument("--count", type=int, default=1000, help="single samples")
    parser.add_argument("--grids", type=int, default=100, help="grids of 64")
    options = parser.parse_args()
    test = ImageArchive(options.cifar10).load().train if options.cifar10 else MNIST().load().test
    assert test is not None
    print(f"{'CIFAR-10' if options.cifar10 else 'MNIST'}: {changes(test.images[:1000])}\n")
    print("| picture | treatment | found at 1 % | at 0.01 % | false alarms at 1 % | at 0.01 % |\n|---|---|---|---|---|---|")
    for kind, together, count in (("one sample", 1, options.count), ("grid of 64", 64, options.grids)):
        unmarked, marked = pictures(test.images, count, together)
        for treatment, treat in TREATMENTS.items() if count else ():
            rates = [
                shares([find_in_picture(treat(one), f"key {i}") for i, one in enumerate(some)]) for some in (marked, unmarked)
            ]
            print(f"| {kind} | {treatment} | {' | '.join(rates)} |", flush=True)


if __name__ == "__main__":
    main()
