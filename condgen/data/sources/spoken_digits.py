"""Spoken digits: 8 kHz recordings of the digits 0 to 9 by six speakers (https://github.com/Jakobovski/free-spoken-digit-dataset)."""

import re
import zipfile
import zlib
from functools import partial
from pathlib import Path

import torch

from condgen.audio import Normalize
from condgen.conditions.fields import Category, Field
from condgen.data import cache
from condgen.data.about import About
from condgen.data.sounds import Recordings, Sounds
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.errors import CondgenError
from condgen.images import Picture
from condgen.types import Count

NAME = re.compile(r"(?:.*/)?(\d)_([a-z]+)_(\d+)\.wav")
"""digit_speaker_take.wav."""


class SpokenDigits:
    """The Free Spoken Digit Dataset from a zip of its recordings, with the attributes ``digit``, the class, and ``speaker``.

    The first takes of each speaker are the test part, as its authors have it.

    Args:
        path: a zip of ``digit_speaker_take.wav``, in whatever folder.
        space: what a sample is.
        normalize: see `condgen.audio.fitted_to`.
        test_takes: take so many takes of each digit by each speaker, the first ones, for the test part.
    """

    about = About(
        "Free Spoken Digit Dataset",
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
        "cc-by-sa-4.0",
        "By Zohar Jackson and contributors, under CC BY-SA 4.0.",
    )

    def __init__(self, path: str | Path, space: Sounds, normalize: Normalize = "peak", test_takes: Count = 5):
        self.path = Path(path)
        self.recordings = Recordings(space, normalize)
        self.test_takes = test_takes

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load all recordings; raises CondgenError naming the zip, and the recording in it, that is broken."""
        if not self.path.is_file():
            raise CondgenError(f"{self.path} does not exist: name the zip of recordings with data.source.path=FILE.")
        try:
            with zipfile.ZipFile(self.path) as archive:
                found = {
                    match[0]: (match[1], match[2], int(match[3])) for match in map(NAME.fullmatch, archive.namelist()) if match
                }
                if not found:
                    raise CondgenError(f"{self.path} holds no recordings named digit_speaker_take.wav, such as 3_theo_12.wav.")
                names = sorted(found, key=lambda name: found[name])
                pictures = [Picture(f"{self.path}/{name}", partial(archive.read, name)) for name in names]
                images = self.recordings.read_all(self.path.stem, cache.stamp(self.path), pictures, decoding)
        except (OSError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
            raise CondgenError(
                f"{self.path} is not a readable zip, it is corrupt or truncated ({error}): take a whole copy."
            ) from None
        digits, speakers = sorted({digit for digit, _, _ in found.values()}), sorted({one for _, one, _ in found.values()})
        rows = [(digits.index(digit), speakers.index(speaker)) for digit, speaker, _ in (found[name] for name in names)]
        values = torch.tensor(rows, dtype=torch.float32)
        test = torch.tensor([found[name][2] < self.test_takes for name in names])
        parts = [
            Table(images[mine], values[mine, 0].long(), values[mine], made=self.recordings.space) if bool(mine.any()) else None
            for mine in (~test, test)
        ]
        if parts[0] is None:
            raise CondgenError(f"{self.path} has only the takes of the test part: set data.source.test_takes lower.")
        fields: list[Field] = [Category("digit", tuple(digits)), Category("speaker", tuple(speakers))]
        return Tables(parts[0], parts[1], digits, fields)
