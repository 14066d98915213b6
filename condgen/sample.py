"""Samples of a trained model as files: one PNG, a folder of PNGs, or an .npz."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condgen.checkpoints import device_of, load
from condgen.errors import CondgenError
from condgen.files import replacing, save_png
from condgen.spaces import Images, to_uint8


def write_samples(
    checkpoint: Path,
    out: Path,
    condition: str | None,
    count: int,
    seed: int,
    device: str = "cpu",
    trust: bool = False,
    **knobs: float | str | None,
) -> None:
    """Draw ``count`` samples for each condition and write them to ``out``.

    Args:
        checkpoint: a checkpoint or a run directory.
        out: ``*.png`` for a picture (of images a grid, a row for each condition where there are several; of points a scatter
            with a colour for each); ``*.npz`` for ``images``, uint8 (N, H, W, C), or ``points``, float32 (N, 2), and
            ``labels``, what was asked for, (N,); else a folder of numbered PNGs with ``labels.csv``, of images only.
        condition: see `GenerativeModel.sample`; None for every class.
        count: samples for each condition.
        seed: the same seed gives the same samples.
        device: where to compute.
        trust: accept foreign targets in the checkpoint.
        **knobs: see `GenerativeModel.tune`.

    Raises:
        CondgenError: no such checkpoint, class or device; a folder that is not empty, or for points.
    """
    if out.suffix not in (".png", ".npz", ""):
        raise CondgenError(f"--out {out} must end in .png (a grid) or .npz, or be a folder (no ending).")
    if not out.suffix and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CondgenError(f"--out {out} exists already and is not an empty folder: choose another, nothing was overwritten.")
    model = load(checkpoint, trust).to(device_of(device))
    model.tune(**knobs)
    if not out.suffix and not isinstance(model.space, Images):
        kind = type(model.space).__name__.lower()
        raise CondgenError(f"--out {out}: a folder is for images and {checkpoint} makes {kind}: write {out}.npz or {out}.png.")
    wanted = model.condition.every() if condition is None else model.condition.encode(condition)
    samples = model.sample(wanted, count, seed=seed).cpu()
    asked = wanted.repeat_interleave(count, dim=0)
    if out.suffix == ".png":
        save_png(out, model.space.grid(samples, model.space.layout(len(wanted), count)[1]))
    elif out.suffix == ".npz":
        write_npz(out, *model.space.export(samples), asked)
    else:
        write_folder(out, to_uint8(samples), model.condition.describe(asked))


def write_npz(path: Path, name: str, samples: Tensor, labels: Tensor) -> None:
    """Write ``samples`` (N, ...) under ``name`` beside ``labels``; -1 where nothing was asked for."""
    if labels.dim() > 1:
        labels = torch.full((len(samples),), -1)
    with replacing(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {name: samples.numpy(), "labels": labels.numpy()}
        np.savez(file, **arrays)


def write_folder(path: Path, images: Tensor, names: list[str]) -> None:
    """Write numbered PNGs and ``labels.csv`` with the columns file and label."""
    files = [f"{i:06d}.png" for i in range(len(images))]
    for file, image in zip(files, images, strict=True):
        save_png(path / file, image)
    with replacing(path / "labels.csv") as temporary, temporary.open("w", newline="") as table:
        csv.writer(table).writerows([("file", "label"), *zip(files, names, strict=True)])
