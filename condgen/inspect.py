"""What a file says of where it comes from, whether a model makes its pixels again, and whether they hold a watermark.

What a file says is never trusted: nothing that it names is opened, its sizes are checked before memory is taken, and what is
printed of it holds no control characters.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from condgen.audio import Sound, comment_of, one_after_another, read_sound, to_pcm
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.generators.vocoder import listen_by
from condgen.images import BROKEN, Picture, decode, read_picture
from condgen.origin import MOST, Origin, image_digest
from condgen.run.checkpoint import device_of, load
from condgen.run.resources import require_memory
from condgen.samples import Request, asked, block, blocks, conditions, digest_of, size_of_block
from condgen.spaces import ORIGIN, Images, Viewed
from condgen.watermark import SURE, Found, check_key, find_in_picture, find_in_samples

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are opened; Pillow reads others by running programs."""
PATIENCE = 1000
"""The most steps, or batches of standing statistics, that a file can make `inspect` compute."""


def inspect(
    file: Path,
    model: Path | None = None,
    image: Path | None = None,
    key: str | None = None,
    device: str = "cpu",
    trust: bool = False,
    vocoder: Path | None = None,
) -> Iterator[str]:
    """Yield what is found out about a file, as plain text, one finding after the other.

    Args:
        file: a PNG, an .npz or a wav of samples; any picture, where only a watermark is looked for.
        model: makes the samples again: a run, a checkpoint, an exported folder or ``zoo:NAME``.
        image: the picture that the samples started from.
        key: of the watermark that is looked for.
        device: where the model computes.
        trust: accept foreign targets in the checkpoint.
        vocoder: what made the sound of the samples, where a trained one did.

    Raises:
        CondgenError: the file is damaged or not condgen's, the model makes other pixels, or the watermark is not there.
    """
    if key is not None:
        check_key(key)
    if image is not None and model is None:
        raise CondgenError("--image is what samples are made again from: give --model too.")
    content = read(file)
    if content.origin is not None:
        yield described(file, content.origin)
    elif key is None or model is not None:
        raise CondgenError(
            f"{file} has no metadata of condgen's{content.other}: they were left out or lost, or others made it."
        )
    if key is not None:
        yield watermarked(file, search(content, key))
    if model is not None and content.origin is not None:
        generator = load(model, trust).to(device_of(device))
        heard_by(file, generator, content.origin, vocoder, trust)
        yield compared(file, model, content, again(file, model, generator, content, image, key))


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        values: of a picture uint8 (C, H, W), of an .npz ``images``, uint8 (N, H, W, C), or ``points``, float32 (N, 2), of a wav
            int16 (T,).
        picture: whether it is one.
        origin: what it says of where it comes from; None: nothing.
        other: which program it names instead, as a part of a sentence.
    """

    values: Tensor
    picture: bool
    origin: Origin | None
    other: str = ""


def read(file: Path) -> Content:
    """Read a file of samples; raises CondgenError if it is none or damaged."""
    if file.is_dir():
        raise CondgenError(f"{file} is a folder: name one of the files in it.")
    if not file.is_file():
        raise CondgenError(f"There is no file {file}.")
    if file.suffix == ".wav":
        return read_wav(file)
    if zipfile.is_zipfile(file):
        return read_npz(file)
    said, maker = None, ""
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if picture.format == "PNG":
                said, maker = picture.info.get(ORIGIN), picture.info.get("Software", "")
    except Image.DecompressionBombError:
        pass  # `decode` tells it
    except UnidentifiedImageError:
        raise CondgenError(f"{file} is neither a picture nor an .npz nor a .wav: there is nothing in it to inspect.") from None
    except BROKEN as error:
        raise CondgenError(f"{file} is a picture that is damaged ({plain(error, 80)}).") from None
    values = decode(Picture(str(file), file.read_bytes))
    other = f", it names {plain(maker, 60)}" if isinstance(maker, str) and maker and said is None else ""
    return Content(values, True, Origin.read(str(said), str(file)) if said is not None else None, other)


def read_npz(file: Path) -> Content:
    """Read samples and their origin from an .npz; no pickle in it is ever loaded."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            name = next((name for name in ("images", "points", "waves") if f"{name}.npy" in members), None)
            if name is None:
                raise CondgenError(f"{file} holds neither images nor points nor waves: it is no .npz of samples.")
            require_memory(2 * members[f"{name}.npy"].file_size, str(file), "it is too large here")
            origin = None
            if "origin.npy" in members:
                if members["origin.npy"].file_size > 4 * MOST + 1024:
                    raise CondgenError(f"{file} has metadata that are too long to be condgen's.")
                origin = Origin.read(str(array(archive, "origin")), str(file))
            values = array(archive, name)
    except BROKEN as error:
        raise CondgenError(f"{file} is damaged, or no .npz of samples ({plain(error, 80)}).") from None
    kinds = {"images": (np.uint8, 4), "points": (np.float32, 2), "waves": (np.float32, 2)}
    if (values.dtype, values.ndim) != kinds[name] or not values.size:
        raise CondgenError(f"{file} holds {name} of a type or shape that condgen does not write.")
    return Content(torch.from_numpy(values), False, origin)


def read_wav(file: Path) -> Content:
    """Read a wav of samples; raises CondgenError if it is none or damaged."""
    content = file.read_bytes()
    sound, _ = read_sound(str(file), content)
    said = comment_of(content)
    origin = Origin.read(said, str(file)) if said and said.startswith("{") else None
    return Content((sound * 2**15).round().short(), False, origin)


def array(archive: zipfile.ZipFile, name: str) -> Any:
    """Read an array of an .npz, whose header may not promise more than the entry holds."""
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(member)
        if prod(shape) * dtype.itemsize > archive.getinfo(f"{name}.npy").file_size:
            raise ValueError(f"{name} is cut short")
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def described(file: Path, origin: Origin) -> str:
    """Say in plain words where a file comes from."""
    options = ", ".join(f"{name} {value}" for name, value in origin.sampling.items())
    asked_for = "every class" if origin.condition is None else origin.condition
    lines = {
        "model": origin.model,
        "weights": f"sha256 {origin.weights}",
        "asked for": f"{asked_for}, on the way to {origin.to}" if origin.to is not None else asked_for,
        "heard by": f"a vocoder, sha256 {origin.vocoder}" if origin.vocoder else None,
        "starts from": f"a picture of sha256 {origin.image}" if origin.image else None,
        "count": f"{origin.count} for each condition",
        "seed": str(origin.seed),
        "sampling": options or "as trained",
        "this file": None if origin.index is None else f"sample number {origin.index} of these, counted from 0",
        "watermark": "an invisible one, which --key KEY finds" if origin.watermark else None,
    }
    said = [f"  {name:<12} {plain(line, 300)}" for name, line in lines.items() if line is not None]
    return "\n".join([f"{file} was generated by condgen {plain(origin.version, 40)}; its metadata say:", *said])


def plain(text: object, length: int) -> str:
    """Return text of a file as it may be printed: in one line, without control characters, cut to ``length``."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(text)[: length + 1])
    return shown if len(shown) <= length else f"{shown[:length]}..."


def search(content: Content, key: str) -> Found:
    """Look for the watermark of ``key``."""
    if content.picture:
        return find_in_picture(content.values, key)
    if content.values.dim() != 4:
        raise CondgenError(f"A watermark is in images, and these are {kind_of(content)}: leave --key out.")
    return find_in_samples(content.values.permute(0, 3, 1, 2), key)


def kind_of(content: Content) -> str:
    """Say what the values of a file are."""
    if content.values.dim() == 2:
        return "points" if content.values.shape[1] == 2 else "values"
    return "waveforms" if content.values.dim() == 1 else "pixels"


def watermarked(file: Path, found: Found) -> str:
    """Say that the watermark was found; raises CondgenError if it was not."""
    power = found.exponent
    odds = f"{10**power:.2g}" if power > -4 else f"1e{power:.0f}"
    score = f"score {found.score:.1f}, as high by chance with probability {odds}"
    if not found.there:
        raise CondgenError(f"{file}: no watermark of this key was found ({score}; up to {SURE:g} would count).")
    return f"{file}: the watermark of this key is there ({score})."


def again(file: Path, model: Path, generator: Generator, content: Content, image: Path | None, key: str | None) -> Tensor:
    """Make the values of a file again; raises CondgenError if this model cannot."""
    origin = content.origin
    assert origin is not None
    if (own := digest_of(generator)) != origin.weights:
        raise CondgenError(
            f"{file} was made with other weights than those of {model}: sha256 {plain(origin.weights, 64)}, not {own}."
        )
    if origin.watermark and key is None:
        raise CondgenError(f"{file} holds a watermark, without whose key its pixels cannot be made again: give --key KEY.")
    request = Request(
        origin.condition,
        origin.to,
        the_picture(file, generator, origin, image),
        origin.count,
        origin.seed,
        origin.sampling,
        key if origin.watermark else None,
    )
    chosen = generator.chosen_sampling(**request.sampling)
    if any(int(chosen.get(name, 0)) > PATIENCE for name in ("steps", "standing")):
        raise CondgenError(f"{file} says that it took more than {PATIENCE} steps: that is not made again.")
    require_same_number(file, generator, content, len(asked(generator, request)) * origin.count)
    requested, rows = conditions(generator, request)
    if origin.index is not None:
        generator.set_sampling(**request.sampling)
        number, place = divmod(origin.index, size_of_block(request))
        sample = block(generator, request, requested, number)[place, None]
        if not content.picture and isinstance(generator.space, Sound):
            return to_pcm(generator.space.waves(sample)[0])
        assert isinstance(generator.space, Viewed)  # else refused above
        return generator.space.view.pixels(generator.space.viewed(sample))[0]
    samples = torch.cat(list(blocks(generator, request, requested)))
    if kind_of(content) == "waveforms" and isinstance(generator.space, Sound):
        return to_pcm(one_after_another(generator.space.waves(samples), generator.space.rate))
    return generator.picture(samples, requested, rows) if content.picture else generator.space.export(samples)[1]


def heard_by(file: Path, generator: Generator, origin: Origin, vocoder: Path | None, trust: bool) -> None:
    """Let samples be heard as those of a file were; raises CondgenError if its vocoder is missing or another."""
    if origin.vocoder is None and vocoder is not None:
        raise CondgenError(f"{file} was made by no vocoder: leave --vocoder out.")
    if origin.vocoder is None:
        return
    if vocoder is None:
        raise CondgenError(f"{file} was made by a vocoder, which is needed to make it again: give --vocoder RUN.")
    maker = load(vocoder, trust).to(generator.device)
    if digest_of(maker) != origin.vocoder:
        raise CondgenError(f"{vocoder} has other weights than the vocoder of {file}: sha256 {plain(origin.vocoder, 64)}.")
    listen_by(generator, maker, str(vocoder))


def the_picture(file: Path, generator: Generator, origin: Origin, image: Path | None) -> Tensor | None:
    """Read the picture that a file's samples started from; raises CondgenError if it is missing or another."""
    if origin.image is None:
        if image is not None:
            raise CondgenError(f"{file} started from no picture: leave --image out.")
        return None
    if image is None:
        raise CondgenError(f"{file} started from a picture, which is needed to make it again: give --image FILE.")
    picture = read_picture(image, generator.space)
    if image_digest(picture) != origin.image:
        raise CondgenError(f"{image} is another picture than the one that {file} started from.")
    return picture


def require_same_number(file: Path, generator: Generator, content: Content, total: int) -> None:
    """Raise CondgenError if a file cannot hold ``total`` samples of this model, before any are drawn."""
    origin, values = content.origin, content.values
    assert origin is not None
    each = prod(generator.space.shape)
    require_memory(8.0 * total * each, f"Making {file} again", "it is too large here")
    heard = kind_of(content) == "waveforms"
    if heard and not isinstance(generator.space, Sound):
        fits = False
    elif origin.index is not None:
        fits = (content.picture or heard) and origin.index < total and isinstance(generator.space, Viewed)
    elif heard:
        fits = total <= len(values)
    elif not content.picture:
        fits = len(values) == total
    else:
        fits = not isinstance(generator.space, Images) or total * each <= values.numel()
    if not fits:
        raise CondgenError(f"{file} does not hold the {total:,} samples that its metadata speak of: it was changed.")


def compared(file: Path, model: Path, content: Content, made: Tensor) -> str:
    """Say that a file's values and those made again are the same; raises CondgenError that says how many are not."""
    held = content.values
    if content.picture and held.shape != made.shape and held.shape[1:] == made.shape[1:]:
        made, held = made.expand(3, -1, -1), held.expand(3, -1, -1)  # one of them is grey
    if held.shape != made.shape:
        raise CondgenError(f"{file} has another size than what {model} makes: it was cut or scaled.")
    different = (held != made) if held.dim() == 1 else (held != made).any(0 if content.picture else -1)
    what = kind_of(content)
    if count := int(different.sum()):
        most = float((held.double() - made.double()).abs().max())
        much = f"{most:g} of 255 levels" if what == "pixels" else f"{most:g}"
        raise CondgenError(
            f"{model} makes other {what}: {count:,} of {different.numel():,} differ, by up to {much}, so {file} was changed, "
            "or another machine rounds otherwise."
        )
    return f"{model} makes the same {what} again, all {different.numel():,} of them."
