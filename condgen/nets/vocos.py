"""Vocos in small: from a log-mel image to the spectrum of a waveform, frame by frame (Siuzdak 2023, section 3).

    h = ConvNeXt blocks along time,    spectrum = exp(m) (cos p + i sin p),    waveform = inverse STFT(spectrum)

with m and p, log-magnitude and phase of each frequency, linear in h. Nothing is upsampled by a network: all blocks work at the
rate of the frames. Here m is learned as what it differs from the level of the mel bands around a frequency, so that an
untrained network already has the loudness and the colour of the sound, and has to learn its fine structure and its phase.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import spectral
from condgen.audio import Mel
from condgen.conditions import Condition, MelImage
from condgen.errors import CondgenError
from condgen.spaces import Space
from condgen.types import OddInt, PositiveInt
from condgen.waveforms import Waveforms


class Vocos(nn.Module):
    """Map conditions that are log-mel images (B, 1, bands, frames) to waveforms (B, length).

    Args:
        condition: the log-mel image of a waveform.
        space: what a waveform is.
        width: channels of a frame between the blocks.
        blocks: how many there are.
        expansion: times the width that a frame has within a block.
        kernel: frames that a block sees.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        width: PositiveInt = 128,
        blocks: PositiveInt = 6,
        expansion: PositiveInt = 3,
        kernel: OddInt = 7,
    ):
        super().__init__()
        if not isinstance(space, Waveforms) or not isinstance(condition, MelImage):
            raise CondgenError(
                "model=vocoder makes waveforms of their log-mel images: choose condition=mel, and data of sounds with "
                "data.source.space._target_=condgen.waveforms.Waveforms."
            )
        mel = condition.space.view
        self.first = nn.Conv1d(mel.shape[1], width, kernel, padding=kernel // 2)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(ConvNeXt(width, expansion * width, kernel, 1 / blocks) for _ in range(blocks)))
        self.head = SpectrumHead(width, mel)

    def forward(self, condition: Tensor) -> Tensor:
        """Return the waveforms (B, length) of encoded conditions (B, 1, bands, frames)."""
        image = condition[:, 0].float()
        h = self.norm(self.first(image).mT)  # (B, frames, width)
        waves: Tensor = self.head(self.blocks(h), image)
        return waves


class ConvNeXt(nn.Module):
    """A block of Liu et al. 2022 (section 2.6) along time: each channel over some frames, then each frame by itself.

    Args:
        width: channels of a frame.
        hidden: channels between the block's two linear layers.
        kernel: frames.
        scale: what the scales of the block's channels begin at (LayerScale).
    """

    def __init__(self, width: int, hidden: int, kernel: int, scale: float):
        super().__init__()
        self.along = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, h: Tensor) -> Tensor:
        """Return frames (B, frames, width) of frames (B, frames, width)."""
        inner = self.norm(self.along(h.mT).mT)
        change: Tensor = self.down(F.gelu(self.up(inner)))
        return h + self.scale * change


class SpectrumHead(nn.Module):
    """Log-magnitude and phase of each frequency, and the waveform of this spectrum (Siuzdak 2023, equation 5).

    Args:
        width: channels of a frame.
        mel: how a waveform becomes the log-mel image that it is asked for by.
    """

    around: Tensor
    middle: Tensor

    def __init__(self, width: int, mel: Mel):
        super().__init__()
        self.fft, self.hop = mel.fft, mel.hop
        self.nepers = -mel.floor * math.log(10) / 20  # from silence to full scale
        self.linear = nn.Linear(width, 2 * (mel.fft // 2 + 1))
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        # A phase of 0 is at the middle of a frame, where its window is 1; as spectra count, from its start, the window is 0.
        self.register_buffer("middle", math.pi * (torch.arange(mel.fft // 2 + 1) % 2)[:, None], persistent=False)  # (F, 1)
        self.register_buffer("around", spectral.around(mel.filters), persistent=False)  # (F, bands)

    def forward(self, h: Tensor, image: Tensor) -> Tensor:
        """Return waveforms (B, length) of frames (B, frames, width) and log-mel images (B, bands, frames) in [-1, 1]."""
        with torch.autocast(h.device.type, enabled=False):  # spectra need 32 bits
            return spectral.istft(self.spectrum(h.float(), image), self.fft, self.hop)

    def spectrum(self, h: Tensor, image: Tensor) -> Tensor:
        """Return spectra, complex64 (B, F, frames), of at most ten times the magnitude of a sine of full scale."""
        learned, phase = self.linear(h).mT.chunk(2, dim=1)  # (B, F, frames) each
        level = self.around @ ((image - 1) / 2) * self.nepers  # from -nepers to 0
        magnitude = (level + learned).clamp(max=math.log(10.0)).exp()
        return torch.polar(magnitude, phase + self.middle)
