"""The space of waveforms themselves, for models that make sound out of log-mel images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from condgen.audio import Mel, fitted_to, one_after_another, read_sound, to_pcm, to_wav
from condgen.spaces import ORIGIN
from condgen.types import Positive, PositiveInt


class Waveforms:
    """Waveforms, float32 (B, length) in [-1, 1], which are looked at and measured as the log-mel images of `condgen.audio.Mel`.

    Args:
        rate: samples of a waveform in a second.
        seconds: length of a waveform, a whole number of hops.
        bands: mel bands of its image.
        fft: samples in a window.
        hop: samples from one frame of the image to the next.
        floor: the level in dB that counts as silence.
    """

    suffix = ".wav"

    def __init__(
        self,
        rate: PositiveInt,
        seconds: Positive,
        bands: PositiveInt = 64,
        fft: PositiveInt = 512,
        hop: PositiveInt = 128,
        floor: float = -80.0,
    ):
        self.view = Mel(rate, seconds, bands, fft, hop, floor)
        self.rate, self.seconds, self.length = rate, seconds, self.view.length
        self.shape: tuple[int, ...] = (self.length,)

    def __str__(self) -> str:
        return f"waveforms of {self.length / self.rate:.3g} s at {self.rate:,} Hz"

    def config(self) -> dict[str, Any]:
        """Return what rebuilds this space: a plain dict with a ``_target_``."""
        return {"_target_": "condgen.waveforms.Waveforms"} | self.view.settings

    def layout(self, conditions: int, count: int | None = None) -> tuple[int, int]:
        """As for images."""
        return self.view.layout(conditions, count)

    def viewed(self, samples: Tensor) -> Tensor:
        """Return the log-mel images (N, 1, bands, frames) of ``samples`` (N, length)."""
        return self.view.encode(samples)

    def grid(self, samples: Tensor, columns: int) -> Tensor:
        """Arrange the spectrograms of ``samples`` (N, length) row by row into one picture, uint8 (3, H, W)."""
        return self.view.grid(self.viewed(samples), columns)

    def stored(self, waves: Tensor) -> Tensor:
        """Return what the cache keeps of waveforms (B, length): their 16 bits as pairs of bytes, uint8 (B, 2 * length)."""
        return to_pcm(waves).view(torch.uint8)

    def restored(self, stored: Tensor) -> Tensor:
        """Return the waveforms, float32 (B, length), of what `stored` kept."""
        return stored.view(torch.int16).float() / 32767

    def waves(self, samples: Tensor) -> Tensor:
        """Return ``samples`` (N, length), which are waveforms, without what lies beyond [-1, 1]."""
        return samples.float().clamp(-1, 1)

    def read(self, name: str, content: bytes) -> Tensor:
        """Return a user's recording as a sample, float32 (length,): its largest value 0.95, cut at the end or filled up.

        Args:
            name: of the file, for messages.
            content: its bytes.

        Raises:
            CondgenError: it is no sound, or damaged.
        """
        return fitted_to(*read_sound(name, content), self.rate, self.length, "peak")

    def export(self, samples: Tensor) -> tuple[str, Tensor]:
        """``waves``, float32 (N, length)."""
        return "waves", self.waves(samples)

    def file(self, samples: Tensor, about: Mapping[str, str] | None = None) -> bytes:
        """Return the wav of ``samples`` (N, length), with a pause after each of several; it says their origin."""
        return to_wav(one_after_another(self.waves(samples.cpu()), self.rate), self.rate, (about or {}).get(ORIGIN))
