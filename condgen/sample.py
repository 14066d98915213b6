"""Samples of a trained model as files: one PNG, a folder of PNGs, or an .npz."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condgen.errors import CondgenError
from condgen.files import replacing, save_png
from condgen.generators.base import Generator
from condgen.images import Picture, decode, opacity, resize
from condgen.reporting.pictures import starts, walk
from condgen.run.checkpoint import device_of, load
from condgen.spaces import Images, Space, to_float, to_uint8


def write_samples(
    checkpoint: Path,
    out: Path,
    condition: str | None,
    count: int,
    seed: int,
    device: str = "cpu",
    trust: bool = False,
    to: str | None = None,
    image: Path | None = None,
    **options: float | str | None,
) -> None:
    """Draw ``count`` samples for each condition and write them to ``out``.

    Args:
        checkpoint: a checkpoint or a run directory.
        out: ``*.png`` for a picture (of images a grid, a row for each condition where there are several; of points a scatter
            with a colour for each); ``*.npz`` for ``images``, uint8 (N, H, W, C), or ``points``, float32 (N, 2), and
            ``labels``, what was asked for, (N,); else a folder of numbered PNGs with ``labels.csv``, of images only.
        condition: see `Generator.sample`; None for every class.
        count: samples for each condition, or on the way from it to another one.
        seed: the same seed gives the same samples.
        device: where to compute.
        trust: accept foreign targets in the checkpoint.
        to: a second condition, to which the samples of each first one walk, all from the same noise.
        image: a picture to start from, for a model that needs one; it is cropped and resized to the model's size. What the
            model sees of it comes first in a picture of samples, in each row where there are several.
        **options: see `Generator.set_sampling`.

    Raises:
        CondgenError: no such checkpoint, class or device; a folder that is not empty, or for points.
    """
    if out.suffix not in (".png", ".npz", ""):
        raise CondgenError(f"--out {out} must end in .png (a grid) or .npz, or be a folder (no ending).")
    if not out.suffix and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CondgenError(f"--out {out} exists already and is not an empty folder: choose another, nothing was overwritten.")
    model = load(checkpoint, trust).to(device_of(device))
    model.set_sampling(**options)
    if not out.suffix and not isinstance(model.space, Images):
        kind = type(model.space).__name__.lower()
        raise CondgenError(f"--out {out}: a folder is for images and {checkpoint} makes {kind}: write {out}.npz or {out}.png.")
    picture = None if image is None else read_picture(image, model.space)
    encoded = model.condition.ask(condition, picture)
    if to is None:
        requested = model.requested(encoded, count, seed)
        samples, names = model.sample(requested, seed=seed).cpu(), model.condition.describe(requested)
    else:
        requested, samples, names = on_the_way(model, encoded, model.condition.ask(to, picture), count, seed)
    if out.suffix == ".png":
        if model.condition.image:
            samples, count = after_starts(model, requested, samples, count), count + 1
        save_png(out, model.space.grid(samples, model.space.layout(len(encoded), count)[1]))
    elif out.suffix == ".npz":
        write_npz(out, *model.space.export(samples), requested)
    else:
        write_folder(out, to_uint8(samples), names)


def after_starts(model: Generator, requested: Tensor, samples: Tensor, count: int) -> Tensor:
    """Return samples (N * count, C, H, W) with, before each ``count`` of them, the image that they start from."""
    rows = samples.view(-1, count, *samples.shape[1:])
    return torch.cat([starts(model, requested.cpu())[::count, None], rows], dim=1).flatten(0, 1)


def on_the_way(model: Generator, first: Tensor, last: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor, list[str]]:
    """Draw ``count`` samples from each of the conditions ``first`` to that of ``last`` beside it, or to the only one.

    Returns:
        Encoded mixtures (N * count, ...), samples (N * count, *shape), and their names.
    """
    if len(last) not in (1, len(first)):
        raise CondgenError(f"--to names {len(last)} conditions and --condition {len(first)}: name one, or as many.")
    if count < 2:
        raise CondgenError("--to needs a --count of at least 2: the first sample and the last.")
    starts, ends = model.requested(first, seed=seed), model.requested(last.expand(len(first), *last.shape[1:]), seed=seed)
    walks, mixtures, names = [], [], []
    for start, end in zip(torch.split(starts, 1), torch.split(ends, 1), strict=True):
        shares = torch.linspace(0, 1, count).tolist()
        walks.append(walk(model, start, end, count, seed).cpu())
        mixtures += [model.condition.between(start, end, share) for share in shares]
        (a,), (b,) = model.condition.describe(start), model.condition.describe(end)
        names += [f"{a} to {b}: {share:.3g}" for share in shares]
    return torch.cat(mixtures), torch.cat(walks), names


def read_picture(path: Path, space: Space) -> Tensor:
    """Read a picture as a sample of ``space``, float32 (C, H, W), or (C + 1, H, W) with its opacity where it has one.

    Raises:
        CondgenError: no such file, or no picture, or the samples are no square images.
    """
    if not isinstance(space, Images) or space.shape[1] != space.shape[2]:
        raise CondgenError("--image is for models of square images.")
    if not path.is_file():
        raise CondgenError(f"--image {path} is not a file.")
    picture = Picture(str(path), path.read_bytes)
    colours = to_float(decode(picture, space.shape[1], space.shape[0]))
    if (alpha := opacity(picture)) is None:
        return colours
    return torch.cat([colours, to_float(resize(alpha[None], space.shape[1])[0])])


def write_npz(path: Path, name: str, samples: Tensor, labels: Tensor) -> None:
    """Write ``samples`` (N, ...) beside ``labels``; -1 where no class was asked for, and then ``conditions`` as encoded."""
    arrays: dict[str, Any] = {name: samples.numpy(), "labels": labels.numpy()}
    if labels.dim() > 1:
        arrays["labels"] = np.full(len(samples), -1)
        arrays |= {"conditions": labels.numpy()} if labels[0].numel() else {}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def write_folder(path: Path, images: Tensor, names: list[str]) -> None:
    """Write numbered PNGs and ``labels.csv`` with the columns file and label."""
    files = [f"{i:06d}.png" for i in range(len(images))]
    for file, image in zip(files, images, strict=True):
        save_png(path / file, image)
    with replacing(path / "labels.csv") as temporary, temporary.open("w", newline="") as table:
        csv.writer(table).writerows([("file", "label"), *zip(files, names, strict=True)])
