"""Samples of a trained model as files: one PNG, an .npz, one wav or text, or a folder with a file for each."""

import csv
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from condgen.errors import CondgenError
from condgen.files import TEMPORARY, replacing, require_writable
from condgen.generators.base import Generator
from condgen.generators.vocoder import listen_by
from condgen.images import read_picture
from condgen.origin import Origin
from condgen.run.checkpoint import device_of, load
from condgen.run.resources import require_disk, require_memory
from condgen.samples import Request, Samples, asked, blocks, conditions, files, names_of, origin_of, write_npz
from condgen.spaces import Images, Space


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
    metadata: bool = True,
    watermark: str | None = None,
    vocoder: Path | None = None,
    **options: float | str | None,
) -> None:
    """Draw ``count`` samples for each condition and write them to ``out``.

    Args:
        checkpoint: a checkpoint or a run directory.
        out: ``*.png`` for a picture (of images a grid, a row for each condition where there are several; of points a scatter
            with a colour for each); ``*.npz`` for ``images``, uint8 (N, H, W, C), or ``points``, float32 (N, 2), and
            ``labels``, what was requested for, (N,); ``*.wav`` for sounds one after another, ``*.txt`` for texts; else a folder
            of numbered files, PNGs of images, wavs of sounds, with ``labels.csv``.
        condition: see `Generator.sample`; None for every class.
        count: samples for each condition, or on the way from it to another one.
        seed: the same seed gives the same samples.
        device: where to compute.
        trust: accept foreign targets in the checkpoint.
        to: a second condition, to which the samples of each first one walk, all from the same noise.
        image: a picture to start from, for a model that needs one; it is cropped and resized to the model's size. What the
            model sees of it comes first in a picture of samples, in each row where there are several.
        metadata: the files say where they come from, see `condgen.origin`.
        watermark: a secret text that hides an invisible mark in images, see `condgen.watermark`; None: no mark.
        vocoder: a run of ``model=vocoder`` that makes the waveforms of log-mel images; None: Griffin & Lim's method.
        **options: see `Generator.set_sampling`.

    Raises:
        CondgenError: no such checkpoint, class or device; a folder that is not empty, or for points.
    """
    check_place(out)
    model = load(checkpoint, trust).to(device_of(device))
    model.chosen_sampling(**options)
    require_kind(out, model.space, checkpoint)
    if vocoder is not None:
        if out.suffix not in ("", ".wav"):
            raise CondgenError(f"--vocoder makes sound and --out {out} holds none: write a .wav or a folder, or leave it out.")
        listen_by(model, load(vocoder, trust).to(model.device), str(vocoder))
    picture = None if image is None else read_picture(image, model.space)
    request = Request(condition, to, picture, count, seed, options, watermark)
    require_room(model, out, asked(model, request), count, walking=to is not None)
    requested, rows = conditions(model, request)
    origin = origin_of(model, request) if metadata else None
    drawn = watched(blocks(model, request, requested), len(requested))
    if out.suffix == ".png":
        whole = Samples(model, requested, torch.cat(list(drawn)), [], rows, origin)
        content = whole.png()
        with replacing(out) as temporary:
            temporary.write_bytes(content)
    elif out.suffix == ".npz":
        with replacing(out) as temporary, temporary.open("wb") as file:
            write_npz(file, model.space, requested, drawn, origin)
    elif out.suffix:
        samples = torch.cat(list(drawn))
        with replacing(out) as temporary:
            temporary.write_bytes(model.space.file(samples, origin.texts() if origin else None))
    else:
        write_folder(out, model.space, drawn, names_of(model, request, requested), origin)


def check_place(out: Path) -> None:
    """Refuse a place where samples cannot be written or would overwrite others; raises CondgenError."""
    if out.suffix not in (".png", ".npz", ".wav", ".txt", ""):
        raise CondgenError(f"--out {out} must end in .png (a grid), .npz, .wav or .txt, or be a folder (no ending).")
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


def require_kind(out: Path, space: Space, checkpoint: Path) -> None:
    """Refuse a file that samples of ``space`` are not written to; raises CondgenError."""
    kind = type(space).__name__.lower()
    if not out.suffix and not space.suffix:
        raise CondgenError(
            f"--out {out}: a folder is for samples that have files of their own and {checkpoint} makes {kind}: "
            f"write {out}.npz or {out}.png."
        )
    if out.suffix not in (".png", ".npz", "", space.suffix):
        raise CondgenError(
            f"--out {out}: {checkpoint} makes {kind}, which are not written as {out.suffix}: "
            f"write {out.with_suffix(space.suffix or '.npz')} or {out.with_suffix('.png')}."
        )


def require_room(model: Generator, out: Path, encoded: Tensor, count: int, walking: bool) -> None:
    """Refuse more samples than the disk, or for a picture the memory, has room for; raises CondgenError."""
    total, values = len(encoded) * count, prod(model.space.shape)
    what, remedy = f"{total:,} samples", "set --count lower, or --condition to fewer conditions"
    whole = out.suffix not in (".npz", "")
    kept = 8 * values if whole or walking else 0  # as numbers, and once more in the picture
    require_memory(total * (3 * encoded[0].nbytes + kept), what, remedy)
    value = 1 if isinstance(model.space, Images) else 4
    each = max(4096, value * values) if not out.suffix else value * values + encoded[0].nbytes
    require_disk(0 if whole else total * each, out, what, remedy)


def watched(samples: Iterator[Tensor], total: int) -> Iterator[Tensor]:
    """Yield blocks of samples (B, *shape) as they come, and show how far it is."""
    with tqdm(desc="drawing", total=total, unit=" samples", leave=False, delay=2, disable=None) as bar:
        for block in samples:
            yield block
            bar.update(len(block))


def write_folder(path: Path, space: Space, samples: Iterator[Tensor], names: list[str], origin: Origin | None) -> None:
    """Write numbered files and ``labels.csv`` with the columns file and label: all of them, or nothing.

    Args:
        path: a folder that is empty, or not there yet.
        space: what a sample is.
        samples: blocks of them (B, *shape).
        names: what each was requested for.
        origin: what the files say of where they come from; None: nothing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}."[:200], suffix=TEMPORARY, dir=path.parent) as name:
            folder = Path(name) / "samples"
            folder.mkdir()
            with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(("file", "label"))
                for i, (content, label) in enumerate(zip(files(space, samples, origin), names, strict=True)):
                    file_name = f"{i:06d}{space.suffix}"
                    (folder / file_name).write_bytes(content)
                    table.writerow((file_name, label))
            folder.replace(path)
    except OSError as error:
        raise CondgenError(f"{path} could not be written ({error.strerror or error}); nothing was kept.") from error
