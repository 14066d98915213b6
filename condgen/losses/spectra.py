"""How far waveforms are from others to the ear, which hears spectra and hardly phases (Yamamoto et al. 2020, section 2.2).

    convergence = |  |S(x)| - |S(y)|  | / |S(x)|        level = mean | log |S(x)| - log |S(y)| |

of short-time spectra S with windows of several lengths: a long one sees the lines of a voice, a short one when it starts. No
window alone would notice a phase that is wrong, several together do.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen import spectral
from condgen.audio import Mel
from condgen.types import NonNegative, Widths

OVERLAP = 4
"""Hops in a window."""


class Spectra:
    """Distance of waveforms in the spectra of several windows, and of their log-mel images.

    Args:
        windows: their lengths in samples, multiples of 4.
        convergence: weight of what loud frequencies decide.
        level: weight of what all frequencies decide alike, in nepers (8.7 dB).
        mel: weight of the mean absolute difference of the log-mel images, in nepers.
        floor: magnitude, of a sine's of full scale, below which nothing is heard.
    """

    def __init__(
        self,
        windows: Widths,
        convergence: NonNegative = 1.0,
        level: NonNegative = 1.0,
        mel: NonNegative = 1.0,
        floor: NonNegative = 1e-4,
    ):
        self.windows: Sequence[int] = list(windows)
        self.convergence, self.level, self.mel, self.floor = convergence, level, mel, floor

    def __call__(self, made: Tensor, real: Tensor, mel: Mel) -> dict[str, Tensor]:
        """Return the three terms and their weighted sum, ``loss``, of each waveform, (B,).

        Args:
            made: waveforms (B, length).
            real: those that they should sound like, same shape.
            mel: how they become log-mel images.
        """
        nepers = -mel.floor * math.log(10) / 40  # in a difference of 1 between images
        with torch.autocast(made.device.type, enabled=False):  # 16 bits are too coarse for spectra
            found = [self.distances(made, real, window) for window in self.windows]
            image = nepers * (mel.encode(made) - mel.encode(real)).abs().mean((1, 2, 3))
        convergence, level = (torch.stack(column).mean(0) for column in zip(*found, strict=True))
        loss = self.convergence * convergence + self.level * level + self.mel * image
        return {"loss": loss, "convergence": convergence, "level": level, "mel": image}

    def distances(self, made: Tensor, real: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """Return the two distances (B,) with a window of one length."""
        a, b = (spectral.stft(padded(waves, window), window, window // OVERLAP) for waves in (made, real))
        power, wanted = (spectrum.real.square() + spectrum.imag.square() + self.floor**2 for spectrum in (a, b))
        gap = (power.sqrt() - wanted.sqrt()).square().sum((1, 2)).sqrt()
        level = (power.log() - wanted.log()).abs().mean((1, 2)) / 2
        return gap / wanted.sum((1, 2)).sqrt(), level


def padded(waves: Tensor, window: int) -> Tensor:
    """Add silence to waveforms (B, length), to a whole number of hops."""
    hop = window // OVERLAP
    return F.pad(waves, (0, -waves.shape[1] % hop))
