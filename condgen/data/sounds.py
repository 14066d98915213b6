"""From sound files to one tensor: read, brought to a rate, a length and a level, and made what the space keeps of them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from condgen.audio import SUFFIXES, Mel, Normalize, fitted_to, read_sound
from condgen.data import cache
from condgen.data.tables import Decoding
from condgen.errors import CondgenError
from condgen.images import Picture
from condgen.waveforms import Waveforms

CHUNK = 256
VERSION = 1
"""Counts how often what is made of the same files has changed."""

Sounds = Mel | Waveforms
"""What recordings can become."""

__all__ = ["SUFFIXES", "Recordings", "Sounds"]


class Recordings:
    """How the sound files of a set become samples.

    Args:
        space: what a sample is.
        normalize: see `condgen.audio.fitted_to`.
    """

    def __init__(self, space: Sounds, normalize: Normalize = "peak"):
        self.space, self.normalize = space, normalize

    def waves(self, files: Sequence[Picture]) -> Tensor:
        """Read files as waveforms, float32 (N, length)."""
        found = [(file, *read_sound(file.name, file.read())) for file in files]
        space = self.space
        return torch.stack([fitted_to(sound, rate, space.rate, space.length, self.normalize) for _, sound, rate in found])

    def read_all(self, stem: str, identity: object, files: Sequence[Picture], decoding: Decoding) -> Tensor:
        """Read all files to one tensor, uint8 (N, 1, bands, frames) or float32 (N, length); see `decode_all` for the cache.

        Raises:
            CondgenError: a file is damaged or empty; or images are asked for.
        """
        if decoding.later:
            raise CondgenError("Sound files cannot be packed or left for later: train on them with data=audio.")
        if decoding.image_size is not None or decoding.channels is not None:
            raise CondgenError("data.image_size and data.channels change images, and these are sounds: leave both at null.")

        def fill(pixels: cache.Pixels) -> None:
            starts = range(0, len(files), CHUNK)
            for start in tqdm(starts, "reading sounds", leave=False, delay=2, disable=None, unit_scale=CHUNK):
                some = slice(start, start + CHUNK)
                pixels[some] = self.space.stored(self.waves(files[some])).numpy()

        key = cache.name(stem, VERSION, identity, self.space.config(), self.normalize)
        shape = self.space.stored(torch.zeros(1, self.space.length)).shape[1:]
        return self.space.restored(cache.keep(key, (len(files), *shape), fill, decoding.memory_share, costly=True))
