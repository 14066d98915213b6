"""Sound: the space of log-mel images, and sound files between bytes and tensors.

A log-mel image is an image like any other, so that every family of images makes sound; its space knows the way back to a
waveform. 16-bit PCM is written and PCM read by Python alone; flac and other kinds are read by soundfile, ``condgen[audio]``.
"""

import io
import struct
import wave
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from condgen import spectral
from condgen.errors import CondgenError
from condgen.spaces import ORIGIN, Images, to_uint8
from condgen.types import Positive, PositiveInt

Normalize = Literal["peak", "rms", "none"]
PEAK, RMS = 0.95, 0.1
"""What recordings are brought to: their largest value, or the root of their mean square."""
SUFFIXES = (".wav", ".flac", ".ogg")
PAUSE = 0.25
"""Seconds of silence between samples that are in one file."""
PALETTE = ((0, 0, 4), (40, 17, 89), (114, 31, 129), (183, 55, 121), (241, 96, 93), (254, 176, 120), (252, 253, 191))
"""Colours of a spectrogram from silence to loud, evenly spaced on matplotlib's magma."""


@runtime_checkable
class Sound(Protocol):
    """A space whose samples are heard."""

    rate: int
    """Samples of a waveform in a second."""

    def waves(self, samples: Tensor) -> Tensor:
        """Return waveforms (N, length) in [-1, 1] of ``samples`` (N, *shape)."""
        ...


class Vocoding(Protocol):
    """What makes waveforms of log-mel images: a trained vocoder."""

    def sound(self, images: Tensor) -> Tensor:
        """Return the waveforms (B, length) of log-mel images (B, 1, bands, frames)."""
        ...


class Mel(Images):
    """Log-mel images of sound, float32 (B, 1, bands, frames) in [-1, 1]: low tones first, from ``floor`` dB to full scale.

    0 dB is a sine of amplitude 1. There and back is lossy: a mel image has no phase, and few bands where tones are high.

    Args:
        rate: samples of a waveform in a second.
        seconds: length of a sample, a whole number of hops.
        bands: mel bands, the image's height.
        fft: samples in a window.
        hop: samples from one frame to the next.
        floor: the level in dB that counts as silence.
        mean: see `Images`.
        deviation: see `Images`.
    """

    suffix = ".wav"
    vocoder: Vocoding | None = None
    """What makes waveforms; None: Griffin & Lim's method. It belongs to who listens, no part of what a sample is."""

    def __init__(
        self,
        rate: PositiveInt,
        seconds: Positive,
        bands: PositiveInt = 64,
        fft: PositiveInt = 512,
        hop: PositiveInt = 128,
        floor: float = -80.0,
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
    ):
        frames = round(seconds * rate / hop)
        if frames < 1 or hop > fft // 2 or floor >= 0:
            raise CondgenError(
                f"Log-mel images need seconds of at least a hop, a hop of at most half of fft and a floor below 0 dB, not "
                f"seconds={seconds}, hop={hop}, fft={fft}, floor={floor} at rate={rate}."
            )
        self.filters = spectral.mel_filters(rate, fft, bands)
        if int((self.filters.sum(1) == 0).sum()):
            raise CondgenError(f"{bands} mel bands are too many for fft={fft} at {rate} Hz: some hold no frequency.")
        super().__init__((1, bands, frames), mean, deviation)
        self.rate, self.seconds, self.fft, self.hop, self.floor = rate, seconds, fft, hop, floor
        self.length = frames * hop

    def __str__(self) -> str:
        return f"{super().__str__()} log-mel, {self.length / self.rate:.3g} s at {self.rate:,} Hz"

    def config(self) -> dict[str, Any]:
        """Return what rebuilds this space: a plain dict with a ``_target_``."""
        own = {"_target_": "condgen.audio.Mel"} | self.settings
        return own | {"mean": list(self.mean), "deviation": list(self.deviation)}

    @property
    def settings(self) -> dict[str, Any]:
        """How a waveform becomes an image: equal settings make equal images of it."""
        own = {"rate": self.rate, "seconds": self.seconds, "bands": self.shape[1], "fft": self.fft, "hop": self.hop}
        return own | {"floor": self.floor}

    def fitted(self, mean: Sequence[float], deviation: Sequence[float]) -> "Mel":
        """Return this space with the mean and deviation of its samples."""
        return Mel(self.rate, self.seconds, self.shape[1], self.fft, self.hop, self.floor, mean, deviation)

    def encode(self, waves: Tensor) -> Tensor:
        """Return log-mel images (B, 1, bands, frames) in [-1, 1] of waveforms (B, length)."""
        return self.image(spectral.stft(waves, self.fft, self.hop))

    def image(self, spectrum: Tensor) -> Tensor:
        """Return log-mel images (B, 1, bands, frames) in [-1, 1] of spectra (B, fft // 2 + 1, frames)."""
        power = self.filters.to(spectrum.device) @ spectrum.abs().square()
        level = 10 * power.clamp(min=10 ** (self.floor / 10)).log10()
        return (1 - 2 * level / self.floor).clamp(-1, 1)[:, None]

    def levelled(self, waves: Tensor, images: Tensor, steps: int) -> Tensor:
        """Return waveforms (B, length) whose bands are nearer to the levels of log-mel images (B, 1, bands, frames).

        Alternating projections, as Griffin & Lim's are: onto spectra whose bands have these levels, each frequency raised or
        lowered as the bands around it, and onto those of waveforms. Phases stay, and so does what is fine within a band.
        """
        shares = spectral.around(self.filters).to(waves.device)
        for _ in range(steps):
            spectrum = spectral.stft(waves, self.fft, self.hop)
            gap = (images - self.image(spectrum))[:, 0] * (-self.floor / 2)  # dB
            waves = spectral.istft(spectrum * 10 ** (shares @ gap / 20), self.fft, self.hop)
        return waves

    def stored(self, waves: Tensor) -> Tensor:
        """Return what the cache keeps of waveforms (B, length): uint8 (B, 1, bands, frames)."""
        return to_uint8(self.encode(waves))

    def restored(self, stored: Tensor) -> Tensor:
        """Return what a table keeps, the same."""
        return stored

    def magnitude(self, samples: Tensor) -> Tensor:
        """Return magnitudes (B, fft // 2 + 1, frames) of log-mel images (B, 1, bands, frames); silence is 0."""
        level = (1 - samples[:, 0].float().clamp(-1, 1)) / 2 * self.floor
        power = torch.where(level > self.floor, 10 ** (level / 10), 0.0)
        return spectral.spread_bands(power, self.filters).sqrt()

    def waves(self, samples: Tensor) -> Tensor:
        """Return waveforms (B, length) in [-1, 1] of log-mel images (B, 1, bands, frames), by the vocoder or Griffin-Lim.

        One at a time: in a batch rounding would depend on the others, and a sound could not be made again alone.
        """
        make = self.vocoder.sound if self.vocoder else self.griffin_lim
        return torch.cat([make(one) for one in torch.split(samples, 1)]).clamp(-1, 1)

    def griffin_lim(self, samples: Tensor) -> Tensor:
        """Return waveforms (B, length) of log-mel images (B, 1, bands, frames) by Griffin & Lim's method."""
        return spectral.griffin_lim(self.magnitude(samples), self.fft, self.hop)

    def pixels(self, samples: Tensor) -> Tensor:
        """Return spectrograms as people read them, uint8 (N, 3, bands, frames): high tones above, loud ones bright."""
        return spectrogram(samples)

    def file(self, samples: Tensor, about: Mapping[str, str] | None = None) -> bytes:
        """Return the wav of ``samples`` (N, 1, bands, frames), with a pause after each of several; it says their origin."""
        return to_wav(one_after_another(self.waves(samples.cpu()), self.rate), self.rate, (about or {}).get(ORIGIN))


def spectrogram(samples: Tensor) -> Tensor:
    """Colour log-mel images (N, 1, bands, frames) in [-1, 1]: uint8 (N, 3, bands, frames), high tones above."""
    palette = torch.tensor(PALETTE, dtype=torch.float32)
    place = (samples[:, 0].float().cpu().clamp(-1, 1) + 1) / 2 * (len(PALETTE) - 1)
    low = place.long().clamp(max=len(PALETTE) - 2)
    share = (place - low)[..., None]
    colours = torch.lerp(palette[low], palette[low + 1], share)  # (N, bands, frames, 3)
    return colours.round().to(torch.uint8).flip(1).permute(0, 3, 1, 2)


def one_after_another(waves: Tensor, rate: int) -> Tensor:
    """Return waveforms (N, T) as one (N * (T + pause),), with a pause after each; a single one, (1, T), as (T,)."""
    return F.pad(waves, (0, round(PAUSE * rate) if len(waves) > 1 else 0)).flatten()


def to_pcm(waves: Tensor) -> Tensor:
    """Round waveforms in [-1, 1] to 16 bits, int16."""
    return (waves.clamp(-1, 1) * 32767).round().short()


def to_wav(wave_: Tensor, rate: int, comment: str | None = None) -> bytes:
    """Return a waveform (T,) in [-1, 1] as the bytes of a wav, 16 bits, one channel, with ``comment`` in its INFO list."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(to_pcm(wave_).cpu().numpy().astype("<i2").tobytes())
    content = file.getvalue()
    if comment is not None:
        text = comment.encode() + b"\0"
        text += b"\0" * (len(text) % 2)
        info = b"INFOICMT" + struct.pack("<I", len(text)) + text
        content += b"LIST" + struct.pack("<I", len(info)) + info
        content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    return content


def comment_of(content: bytes) -> str | None:
    """Return the comment in the INFO list of a wav, that of `to_wav`; None where there is none."""
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], struct.unpack("<I", content[at + 4 : at + 8])[0]
        if name == b"LIST" and content[at + 8 : at + 16] == b"INFOICMT" and at + 8 + size <= len(content):
            length = struct.unpack("<I", content[at + 16 : at + 20])[0]
            return content[at + 20 : at + 20 + length].rstrip(b"\0").decode(errors="replace")
        at += 8 + size + size % 2
    return None


def read_sound(name: str, content: bytes) -> tuple[Tensor, int]:
    """Return the waveform, float32 (T,) in [-1, 1], channels averaged, and the rate of a sound file.

    Args:
        name: of the file, for messages.
        content: its bytes.

    Raises:
        CondgenError: it is no sound, damaged, or empty; or it is no PCM wav and soundfile is not there.
    """
    try:
        found, rate = read_pcm(name, content)
    except (wave.Error, EOFError, struct.error):
        found, rate = read_other(name, content)
    if found.numel() == 0:
        raise CondgenError(f"{name} holds no sound: every recording needs some, remove it or put a whole copy there.")
    if not bool(found.isfinite().all()):
        raise CondgenError(f"{name} holds values that are not numbers: put a whole copy there, or none.")
    return found.mean(1), rate


def read_pcm(name: str, content: bytes) -> tuple[Tensor, int]:
    """Read a PCM wav of 8 to 32 bits: float32 (T, channels) in [-1, 1] and the rate.

    Raises:
        wave.Error: it is another file.
        CondgenError: it is cut short.
    """
    with wave.open(io.BytesIO(content)) as file:
        channels, width, rate, count = file.getparams()[:4]
        data = np.frombuffer(file.readframes(count), np.uint8)
    if len(data) != count * channels * width:
        raise CondgenError(f"{name} is a sound file that is cut short: put a whole copy there, or none.")
    values = data.reshape(-1, width)
    if width == 1:
        numbers = (values[:, 0].astype(np.int32) - 128) << 24
    else:
        padded = np.zeros((len(values), 4), np.uint8)
        padded[:, 4 - width :] = values
        numbers = padded.view("<i4")[:, 0]
    return torch.from_numpy((numbers / 2**31).astype(np.float32)).reshape(-1, channels), rate


def read_other(name: str, content: bytes) -> tuple[Tensor, int]:
    """Read what soundfile knows: float32 (T, channels) and the rate; raises CondgenError where it cannot."""
    try:
        import soundfile
    except ImportError as error:
        raise CondgenError(f"{name} is no whole PCM wav; other kinds of sound need pip install 'condgen[audio]'.") from error
    try:
        data, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise CondgenError(
            f"{name} is not a readable sound file, it is corrupt or truncated: put a whole copy there, or none."
        ) from error
    return torch.from_numpy(data), int(rate)


def fitted_to(sound: Tensor, rate: int, wanted: int, length: int, normalize: Normalize) -> Tensor:
    """Return a waveform (T,) at ``rate`` as one at the rate ``wanted`` of ``length`` values: cut at the end, or silence added.

    Args:
        sound: the waveform, in [-1, 1].
        rate: its samples in a second.
        wanted: those of the result.
        length: values of the result.
        normalize: bring the largest value to 0.95 ("peak"), or the root of the mean square to 0.1 with no value beyond 1
            ("rms"), before it is cut; "none" leaves the level as it is.
    """
    sound = spectral.resample(sound[None], rate, wanted)[0]
    peak = sound.abs().max().clamp(min=1e-8)
    if normalize == "peak":
        sound = sound * (PEAK / peak)
    elif normalize == "rms":
        sound = sound * torch.minimum(RMS / sound.square().mean().sqrt().clamp(min=1e-8), 1 / peak)
    return F.pad(sound, (0, max(0, length - len(sound))))[:length]
