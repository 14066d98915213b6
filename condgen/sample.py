"""Samples of a trained model as files: one PNG, a folder of PNGs, or an .npz."""

import csv
import itertools
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from condgen.errors import CondgenError
from condgen.files import TEMPORARY, replacing, require_writable, save_png
from condgen.generators.base import BLOCK, Generator
from condgen.images import read_picture
from condgen.reporting.pictures import walk
from condgen.run.checkpoint import device_of, load
from condgen.run.resources import require_disk, require_memory
from condgen.spaces import Images, Space, to_uint8


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
            ``labels``, what was requested for, (N,); else a folder of numbered PNGs with ``labels.csv``, of images only.
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
    check_place(out)
    model = load(checkpoint, trust).to(device_of(device))
    model.set_sampling(**options)
    if not out.suffix and not isinstance(model.space, Images):
        kind = type(model.space).__name__.lower()
        raise CondgenError(f"--out {out}: a folder is for images and {checkpoint} makes {kind}: write {out}.npz or {out}.png.")
    picture = None if image is None else read_picture(image, model.space)
    encoded = model.condition.ask(condition, picture)
    require_room(model, out, encoded, count, walking=to is not None)
    if to is None:
        requested = model.requested(encoded, count, seed)
        blocks = drawn(model, requested, seed, model.condition.describe)
    else:
        requested, samples, names = on_the_way(model, encoded, model.condition.ask(to, picture), count, seed)
        blocks = iter([(samples, names)])
    if out.suffix == ".png":
        samples = torch.cat([samples for samples, _ in blocks])
        save_png(out, model.picture(samples, requested, len(encoded)))
    elif out.suffix == ".npz":
        write_npz(out, model.space, requested, (samples for samples, _ in blocks))
    else:
        write_folder(out, ((to_uint8(samples), names) for samples, names in blocks))


def check_place(out: Path) -> None:
    """Refuse a place where samples cannot be written or would overwrite others; raises CondgenError."""
    if out.suffix not in (".png", ".npz", ""):
        raise CondgenError(f"--out {out} must end in .png (a grid) or .npz, or be a folder (no ending).")
    if out == Path():
        raise CondgenError("--out needs a name: FILE.png, FILE.npz or a new folder.")
    try:
        there = out.lstat() and out.is_dir()
    except FileNotFoundError:
        require_writable(out.parent)
        return
    except OSError as error:
        raise CondgenError(f"--out {out} cannot be used ({error.strerror}): choose another place.") from error
    if out.suffix and there:
        raise CondgenError(f"--out {out} is a folder: name a file in it.")
    if not out.suffix and (not there or any(out.iterdir())):
        raise CondgenError(f"--out {out} exists already and is not an empty folder: choose another, nothing was overwritten.")
    require_writable(out.parent)


def require_room(model: Generator, out: Path, encoded: Tensor, count: int, walking: bool) -> None:
    """Refuse more samples than the disk, or for a picture the memory, has room for; raises CondgenError."""
    total, values = len(encoded) * count, prod(model.space.shape)
    what, remedy = f"{total:,} samples", "set --count lower, or --condition to fewer conditions"
    kept = 8 * values if out.suffix == ".png" or walking else 0  # as numbers, and once more in the picture
    require_memory(total * (3 * encoded[0].nbytes + kept), what, remedy)
    value = 1 if isinstance(model.space, Images) else 4
    each = max(4096, value * values) if not out.suffix else value * values + encoded[0].nbytes
    require_disk(0 if out.suffix == ".png" else total * each, out, what, remedy)


def drawn(
    model: Generator, requested: Tensor, seed: int, name: Callable[[Tensor], list[str]]
) -> Iterator[tuple[Tensor, list[str]]]:
    """Yield what `Generator.sample` would draw (N, *shape), some samples at a time, with the names of their conditions."""
    with tqdm(desc="drawing", total=len(requested), unit=" samples", leave=False, delay=2, disable=None) as bar:
        for i, conditions in enumerate(torch.split(requested, BLOCK)):
            yield model.sample_block(i, conditions, seed).cpu(), name(conditions)
            bar.update(len(conditions))


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


def write_npz(path: Path, space: Space, requested: Tensor, blocks: Iterator[Tensor]) -> None:
    """Write samples beside ``labels``; -1 where no class was requested for, and then ``conditions`` as encoded.

    The file is what `numpy.savez` writes, though no more than a block of samples (B, *shape) is in memory.
    """
    labels = requested.numpy() if requested.dim() == 1 else np.full(len(requested), -1)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        first = next(blocks)
        name, values = space.export(first)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            head = {"descr": values.numpy().dtype.str, "fortran_order": False, "shape": (len(requested), *values.shape[1:])}
            np.lib.format.write_array_header_1_0(file, head)
            for samples in itertools.chain([first], blocks):
                file.write(space.export(samples)[1].contiguous().numpy().tobytes())
        rest = {"labels": labels} | ({"conditions": requested.numpy()} if requested.dim() > 1 and requested[0].numel() else {})
        for name, array in rest.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array)


def write_folder(path: Path, blocks: Iterator[tuple[Tensor, list[str]]]) -> None:
    """Write numbered PNGs and ``labels.csv`` with the columns file and label: all of them, or nothing.

    Args:
        path: a folder that is empty, or not there yet.
        blocks: images, uint8 (B, C, H, W), and what each was requested for.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}."[:200], suffix=TEMPORARY, dir=path.parent) as name:
            folder, count = Path(name) / "samples", 0
            folder.mkdir()
            with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(("file", "label"))
                for images, labels in blocks:
                    for image, label in zip(images, labels, strict=True):
                        Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()).save(folder / f"{count:06d}.png")
                        table.writerow((f"{count:06d}.png", label))
                        count += 1
            folder.replace(path)
    except OSError as error:
        raise CondgenError(f"{path} could not be written ({error.strerror or error}); nothing was kept.") from error
