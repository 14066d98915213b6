"""Sounds that tests put into folders and archives."""

import io
import wave
import zipfile
from itertools import product
from pathlib import Path

import numpy as np

SPEAKERS = ("george", "jackson", "theo")


def tone(pitch: float, seconds: float, rate: int, level: float = 0.5) -> np.ndarray:
    """Return a sine, float (T,)."""
    return level * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


def wav(sound: np.ndarray, rate: int = 8000, width: int = 2) -> bytes:
    """Encode sound (T,) or (T, channels) in [-1, 1] as PCM of so many bytes a value."""
    numbers = np.round(np.atleast_2d(sound.T).T * (2 ** (8 * width - 1) - 1)).astype("<i4")
    data = (numbers + 128).astype(np.uint8) if width == 1 else numbers.reshape(-1, 1).view(np.uint8)[:, :width]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((numbers.shape[1], width, rate, 0, "NONE", ""))
        out.writeframes(data.tobytes())
    return file.getvalue()


def write_recordings(path: Path, digits: int, speakers: int, takes: int) -> Path:
    """Write a zip of recordings named as the Free Spoken Digit Dataset names them, each digit and speaker another tone."""
    with zipfile.ZipFile(path, "w") as archive:
        for digit, speaker, take in product(range(digits), range(speakers), range(takes)):
            sound = tone(300 + 200 * digit + 50 * speaker + take, 0.2 + 0.01 * take, 8000)
            archive.writestr(f"recordings/{digit}_{SPEAKERS[speaker]}_{take}.wav", wav(sound))
    return path
