"""From waveforms to spectra and back: the short-time Fourier transform, mel bands, Griffin-Lim, another sampling rate.

A spectrum is scaled so that a sine of amplitude 1 has magnitude 1. Frame i of a waveform of ``frames * hop`` samples is centred
on hop i, so that there are as many frames as hops; what lies before the start and after the end is silence.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

NNLS_STEPS = 50
"""Multiplicative updates that spread mel bands over frequencies."""
MOMENTUM = 0.99
ZEROS = 16
"""Zero crossings of the resampling filter on each side."""


@lru_cache
def window(fft: int) -> Tensor:
    """Return Hann's window, float32 (fft,)."""
    return torch.hann_window(fft)


def stft(waves: Tensor, fft: int, hop: int) -> Tensor:
    """Return the spectrum, complex64 (B, fft // 2 + 1, frames), of waveforms (B, frames * hop)."""
    hann = window(fft).to(waves.device)
    padded = F.pad(waves.float(), ((fft - hop) // 2, (fft - hop + 1) // 2))
    spectrum: Tensor = torch.stft(padded, fft, hop, window=hann, center=False, return_complex=True)
    return spectrum * (2 / hann.sum())


def istft(spectrum: Tensor, fft: int, hop: int) -> Tensor:
    """Return waveforms (B, frames * hop) whose spectrum (B, fft // 2 + 1, frames) is nearest to the one given.

    Overlapping frames are windowed, added and divided by the sum of squared windows (Griffin & Lim 1984, equation 6).
    """
    hann = window(fft).to(spectrum.device)
    frames = torch.fft.irfft(spectrum * (hann.sum() / 2), n=fft, dim=1) * hann[:, None]  # (B, fft, frames)
    weight = hann.square()[None, :, None].expand(1, -1, frames.shape[2])
    length = (frames.shape[2] - 1) * hop + fft
    added, weights = (F.fold(part, (1, length), (1, fft), stride=(1, hop))[:, 0, 0] for part in (frames, weight))
    inside = slice((fft - hop) // 2, length - (fft - hop + 1) // 2)
    return added[:, inside] / weights[:, inside]


@lru_cache
def mel_filters(rate: int, fft: int, bands: int) -> Tensor:
    """Return triangles that overlap by half on the mel scale, each of height 1, float32 (bands, fft // 2 + 1).

    The scale is 2595 log10(1 + f / 700) (O'Shaughnessy 1987), from 0 to half the ``rate`` in Hz.
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)  # (bands + 2,) in Hz
    at = torch.arange(fft // 2 + 1, dtype=torch.float64) * rate / fft
    up = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(up, down).clamp(min=0).float()


def around(filters: Tensor) -> Tensor:
    """Return the shares of mel bands in the level of each frequency, (F, bands) of `mel_filters`: the bands, interpolated."""
    shares = filters.clone()
    shares[:, 0], shares[:, -1] = shares[:, 1], shares[:, -2]  # which no band holds
    return (shares / shares.sum(0)).T.contiguous()


def spread_bands(power: Tensor, filters: Tensor) -> Tensor:
    """Return non-negative powers (B, F, frames) of frequencies whose mel bands are nearest to ``power`` (B, bands, frames).

    Multiplicative updates of non-negative least squares (Lee & Seung 2001, theorem 1).
    """
    filters = filters.to(power.device)
    wanted, gram = filters.T @ power, filters.T @ filters
    found = wanted / filters.sum(0).square().clamp(min=1e-6)[:, None]
    for _ in range(NNLS_STEPS):
        found = found * wanted / (gram @ found).clamp(min=1e-12)
    return found


def griffin_lim(magnitude: Tensor, fft: int, hop: int, steps: int = 32, seed: int = 0) -> Tensor:
    """Return waveforms (B, frames * hop) whose spectrum has about the given ``magnitude`` (B, fft // 2 + 1, frames).

    Griffin & Lim 1984 in the accelerated form of Perraudin, Balazs & Sondergaard 2013, algorithm 2. Phases begin as random
    numbers that ``seed`` decides, the same for each waveform.
    """
    stream = torch.Generator().manual_seed(seed)
    phase = 2 * math.pi * torch.rand(magnitude.shape[1:], generator=stream).to(magnitude.device)
    angles = torch.polar(torch.ones_like(phase), phase).expand(magnitude.shape)
    before = torch.zeros_like(angles)
    for _ in range(steps):
        rebuilt = stft(istft(magnitude * angles, fft, hop), fft, hop)
        moved = rebuilt + MOMENTUM * (rebuilt - before)
        angles, before = moved / moved.abs().clamp(min=1e-12), rebuilt
    return istft(magnitude * angles, fft, hop)


def resample(waves: Tensor, rate: int, to: int) -> Tensor:
    """Return waveforms (B, T) at ``rate`` as (B, ceil(T * to / rate)) at the rate ``to``, both in Hz, without aliasing.

    A sinc that Hann's window ends, sampled for each phase between the two rates (J. O. Smith, Digital Audio Resampling).
    """
    if rate == to:
        return waves
    shared = math.gcd(rate, to)
    old, new = rate // shared, to // shared
    cutoff = min(1.0, new / old) * 0.95  # of the old rate's half: room for the filter's slope
    width = math.ceil(ZEROS / cutoff)
    at = torch.arange(-width, width + old, dtype=torch.float64)  # in old samples, from the first of a group of `old`
    distance = at[None] - torch.arange(new, dtype=torch.float64)[:, None] * old / new  # (new, taps)
    hann = torch.where(distance.abs() < width, (math.pi * distance / (2 * width)).cos().square(), 0.0)
    kernel = (cutoff * torch.sinc(cutoff * distance) * hann).to(waves.dtype)[:, None]
    padded = F.pad(waves[:, None], (width, width + old))
    found = F.conv1d(padded, kernel, stride=old).transpose(1, 2).flatten(1)  # (B, groups * new)
    return found[:, : -(-waves.shape[1] * new // old)]
