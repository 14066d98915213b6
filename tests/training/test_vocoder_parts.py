"""The vocoder: its spectra, its loss, and what they are measured by, against independent references."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import stft as scipy_stft

from condgen.audio import Sound
from condgen.conditions import MelImage
from condgen.errors import CondgenError
from condgen.generators.vocoder import VocoderGenerator
from condgen.losses.spectra import Spectra
from condgen.metrics.spectral import SpectralDistance, log_spectral_distance
from condgen.nets.vocos import SpectrumHead, Vocos
from condgen.randomness import generator
from condgen.spaces import Images, Viewed, to_uint8
from condgen.waveforms import Waveforms

SPACE = Waveforms(8000, 0.256, bands=32, fft=256, hop=64)


def noise(count: int, level: float = 0.2) -> torch.Tensor:
    """White noise, (count, length)."""
    return level * torch.randn(count, SPACE.length, generator=generator("waves"))


def test_waveforms_are_heard_as_they_are_and_looked_at_as_their_images():
    assert isinstance(SPACE, Sound) and isinstance(SPACE, Viewed) and not isinstance(SPACE, Images)
    waves = noise(2)
    assert SPACE.shape == (2048,) and torch.equal(SPACE.waves(waves), waves.clamp(-1, 1))
    assert torch.equal(to_uint8(SPACE.viewed(waves)), SPACE.view.stored(waves)) and SPACE.view.shape == (1, 32, 32)
    assert torch.equal(SPACE.grid(waves, 2), SPACE.view.grid(SPACE.view.encode(waves), 2))
    assert float((SPACE.restored(SPACE.stored(waves)) - waves).abs().max()) <= 0.5 / 32767 + 1e-7


def test_the_head_inverts_spectra_as_torch_does():
    head = SpectrumHead(16, SPACE.view)
    h, image = torch.randn(2, 32, 16, generator=generator("frames")), SPACE.viewed(noise(2))[:, 0]
    waves = head(h, image)
    hann = torch.hann_window(256)
    wanted = torch.istft(head.spectrum(h, image) * hann.sum() / 2, 256, 64, window=hann)  # frames are centred on hops
    assert waves.shape == (2, 2048)
    torch.testing.assert_close(waves[:, 32:-32], wanted, rtol=1e-4, atol=1e-6)  # here in the middle of hops


def test_an_untrained_network_has_the_loudness_of_the_sound():
    vocoder = VocoderGenerator(SPACE, MelImage(SPACE), lambda **about: Vocos(**about, width=16, blocks=1), steps=0)
    waves = noise(3) * torch.tensor([0.3, 0.1, 0.03])[:, None]
    levels = [20 * sound.square().mean(1).sqrt().log10() for sound in (vocoder.sound(SPACE.viewed(waves)), waves)]
    gaps = levels[0] - levels[1]
    assert float(gaps.std()) < 1 and float(gaps.abs().max()) < 10  # the same for loud and soft ones
    longer = torch.cat([SPACE.viewed(waves)] * 2, dim=3)
    assert vocoder.sound(longer).shape == (3, 4096)


def test_levels_come_nearer_to_those_asked_for_and_silence_stays_silent():
    waves = noise(2) * torch.linspace(1, 0, 2048).square()
    wanted = SPACE.viewed(waves)
    gaps = [
        (SPACE.viewed(SPACE.view.levelled(0.3 * noise(4)[2:], wanted, steps)) - wanted).abs().mean() for steps in (0, 1, 32)
    ]
    assert gaps[0] > 0.2 and gaps[1] < 0.5 * gaps[0] and gaps[2] < 0.6 * gaps[1]
    soft = SPACE.view.levelled(1e-6 * noise(1), torch.full((1, 1, 32, 32), -1.0), 4)
    assert float(soft.abs().max()) < 1e-5


def test_spectra_hear_loudness_and_no_sign():
    loss, waves = Spectra([64, 128, 512], mel=2.0), noise(3)
    same = loss(-waves, waves, SPACE.view)
    assert all(float(term.abs().max()) < 1e-5 for term in same.values())
    halved = loss(waves / 2, waves, SPACE.view)
    torch.testing.assert_close(halved["level"], torch.full((3,), math.log(2)), rtol=1e-2, atol=0)
    torch.testing.assert_close(halved["convergence"], torch.full((3,), 0.5), rtol=1e-2, atol=0)
    torch.testing.assert_close(halved["mel"], torch.full((3,), math.log(2)), rtol=1e-2, atol=0)
    whole = halved["convergence"] + halved["level"] + 2 * halved["mel"]
    torch.testing.assert_close(halved["loss"], whole)


def test_log_spectral_distance_is_that_of_scipy():
    one, other = noise(2), noise(4)[2:] * 0.5
    found = log_spectral_distance(one, other, 128)
    for x, y, distance in zip(one.numpy(), other.numpy(), found.tolist(), strict=True):
        levels = []
        for wave in (x, y):
            padded = np.pad(wave, 48)  # the first frame is in the middle of the first hop
            _, _, spectrum = scipy_stft(padded, window="hann", nperseg=128, noverlap=96, boundary=None, padded=False)
            levels.append(20 * torch.from_numpy(abs(spectrum) * 2).clamp(min=1e-4).log10())  # there a sine of 1 is 0.5
        wanted = (levels[0] - levels[1]).square().mean(0).sqrt().mean()
        assert distance == pytest.approx(float(wanted), rel=1e-4)
    figures = SpectralDistance(["fid", "lsd", "lsd_long"], 256)
    figures.update(one / 10, one)
    assert figures.compute() == pytest.approx({"lsd": 20, "lsd_long": 20}, rel=0.02)


@pytest.mark.parametrize("make", [lambda: MelImage(None), lambda: MelImage(Images((1, 8, 8)))])
def test_a_mel_image_is_of_waveforms(make):
    with pytest.raises(CondgenError, match=r"choose data of sounds with data\.source\.space\._target_=condgen\.waveforms"):
        make()
