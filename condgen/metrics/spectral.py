"""Figures of waveforms that were made of the image of a real one: how far apart they are in their spectra.

    LSD = mean over frames of  sqrt(mean over frequencies of (10 log10 |S(x)|^2 - 10 log10 |S(y)|^2)^2)        in dB

(Gray & Markel 1976, section III, with p = 2), of waveforms x and y, levels below -80 dB as -80. Windows of other lengths than
that of the image see what it does not tell: a longer one the lines of a voice, a shorter one its pulses.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from condgen import spectral
from condgen.metrics.states import Summed

BLOCK = 100
"""Waveforms that are compared at a time."""
FLOOR = 1e-8
"""Power, of a sine's of full scale, below which nothing is heard: -80 dB."""
SCALES = {"lsd": 1.0, "lsd_short": 0.5, "lsd_long": 2.0}
"""Each figure's window, in windows of the image."""


class SpectralDistance(Summed):
    """Those of "lsd", "lsd_short" and "lsd_long" that are among ``metrics``, of samples and the real waveforms.

    Args:
        metrics: names of metrics; others are passed over.
        fft: samples in a window of the log-mel image.
        options: of `torchmetrics.Metric`.
    """

    count: Tensor

    def __init__(self, metrics: Sequence[str], fft: int, **options: Any):
        super().__init__(**options)
        self.windows = {name: max(4, round(scale * fft)) for name, scale in SCALES.items() if name in metrics}
        for name in ("count", *self.windows):
            self.add_sum(name)

    def update(self, samples: Tensor, real: Tensor) -> None:
        """Take in waveforms and real waveforms, float (B, length) both, row by row."""
        self.count += len(samples)
        for some, others in zip(torch.split(samples, BLOCK), torch.split(real, BLOCK), strict=True):
            for name, window in self.windows.items():
                total = getattr(self, name)
                total += log_spectral_distance(some, others, window).double().sum()

    def compute(self) -> dict[str, float]:
        """Return the means, by name."""
        return {name: float(getattr(self, name) / self.count) for name in self.windows}


def log_spectral_distance(samples: Tensor, real: Tensor, window: int) -> Tensor:
    """Return the distance in dB (B,) of waveforms (B, length), frames a quarter of a ``window`` of samples apart."""
    spectra = (spectral.stft(waves, window, window // 4) for waves in (samples, real))
    one, other = (10 * spectrum.abs().square().clamp(min=FLOOR).log10() for spectrum in spectra)  # (B, F, frames)
    return (one - other).square().mean(1).sqrt().mean(1)
