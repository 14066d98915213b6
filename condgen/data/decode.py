"""From image files to one tensor: decoded by a few threads, checked, and packed into the cache."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from condgen.data import cache
from condgen.data.pixels import recolour, resize
from condgen.data.tables import Decoding
from condgen.errors import CondgenError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
BROKEN = (OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error, zipfile.BadZipFile)
"""What Pillow and zipfile raise on files that are damaged."""
CHUNK = 256


@dataclass(frozen=True)
class Picture:
    """An image file, in a folder or in an archive: its name for messages and how to read its bytes."""

    name: str
    read: Callable[[], bytes]


def decode(picture: Picture, decoding: Decoding) -> Tensor:
    """Decode one picture to uint8 (C, H, W).

    Raises:
        CondgenError: the file is damaged, or holds more than 8 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(picture.read())) as image:
            mode = image.mode
            pixels = np.array(image.convert("L" if mode in ("1", "L", "LA") else "RGB"))  # (H, W) or (H, W, 3)
    except BROKEN as error:
        raise CondgenError(f"{picture.name} is not a readable image, it is corrupt or truncated ({error}).") from None
    if mode[0] in "IF":
        raise CondgenError(f"{picture.name} has more than 8 bits a channel (mode {mode}): convert it to 8 bits.")
    planes = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    return resize(recolour(planes[None], decoding.channels), decoding.image_size)[0]


def opacity(picture: Picture) -> Tensor | None:
    """Return how opaque a picture is, uint8 (1, H, W); None where it is opaque everywhere by its kind."""
    with Image.open(io.BytesIO(picture.read())) as image:
        if "A" not in image.getbands() and "transparency" not in image.info:
            return None
        return torch.from_numpy(np.array(image.convert("RGBA"))[:, :, 3])[None]


def decode_all(stem: str, identity: object, pictures: Sequence[Picture], decoding: Decoding) -> Tensor:
    """Decode all pictures to one uint8 tensor (N, C, H, W), or take it from the cache.

    Args:
        stem: readable start of the cache file's name.
        identity: what the pixels were read from (paths, sizes, times); equal identities are decoded once.
        pictures: at least one.
        decoding: size and colour to bring every picture to.

    Raises:
        CondgenError: a picture is damaged, or differs from the first one in size or colour.
    """
    first = decode(pictures[0], decoding)

    def span(pixels: cache.Pixels, start: int) -> None:
        for i, picture in enumerate(pictures[start : start + CHUNK], start):
            image = decode(picture, decoding)
            if image.shape != first.shape:
                raise CondgenError(
                    f"{picture.name} is {_kind(image)} where {pictures[0].name} is {_kind(first)}: the images of a set are "
                    "alike, or data.image_size and data.channels make them so."
                )
            pixels[i] = image.numpy()

    def fill(pixels: cache.Pixels) -> None:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for _ in pool.map(lambda start: span(pixels, start), range(0, len(pictures), CHUNK)):
                pass  # raises what the thread raised

    key = cache.name(stem, identity, decoding.image_size, decoding.channels)
    return cache.keep(key, (len(pictures), *first.shape), fill, decoding.memory_share, costly=True)


def _kind(image: Tensor) -> str:
    channels, height, width = image.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'colour'}"
