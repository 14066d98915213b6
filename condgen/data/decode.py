"""From image files to one tensor: decoded by a few threads, checked, and packed into the cache."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor
from tqdm import tqdm

from condgen.data import cache
from condgen.data.tables import Decoding
from condgen.data.undecoded import Pictures, Undecoded
from condgen.errors import CondgenError
from condgen.images import Picture, decode

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
CHUNK = 256


def decode_all(stem: str, identity: object, pictures: Sequence[Picture], decoding: Decoding) -> Tensor | Undecoded:
    """Decode all pictures to one uint8 tensor (N, C, H, W), or take it from the cache; or leave all that for later.

    Args:
        stem: readable start of the cache file's name.
        identity: what the pixels were read from (paths, sizes, times); equal identities are decoded once.
        pictures: at least one.
        decoding: size and colour to bring every picture to.

    Raises:
        CondgenError: a picture is damaged, or differs from the first one in size or colour.
    """
    size, channels = decoding.image_size, decoding.channels
    if decoding.later:
        return Pictures(pictures, size, channels)
    first = decode(pictures[0], size, channels)

    def span(pixels: cache.Pixels, start: int) -> None:
        for i, picture in enumerate(pictures[start : start + CHUNK], start):
            image = decode(picture, size, channels)
            if image.shape != first.shape:
                raise CondgenError(
                    f"{picture.name} is {_kind(image)} where {pictures[0].name} is {_kind(first)}: the images of a set are "
                    "alike, or data.image_size and data.channels make them so."
                )
            pixels[i] = image.numpy()

    def fill(pixels: cache.Pixels) -> None:
        pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        starts = range(0, len(pictures), CHUNK)
        try:
            done = pool.map(lambda start: span(pixels, start), starts)
            for _ in tqdm(done, "decoding images", len(starts), leave=False, delay=2, disable=None, unit_scale=CHUNK):
                pass  # raises what the thread raised
        finally:  # on Ctrl-C nobody waits for the rest
            pool.shutdown(cancel_futures=True)

    key = cache.name(stem, identity, size, channels)
    return cache.keep(key, (len(pictures), *first.shape), fill, decoding.memory_share, costly=True)


def _kind(image: Tensor) -> str:
    channels, height, width = image.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'colour'}"
