"""Spectra and resampling against SciPy's, and the ways back."""

import numpy as np
import pytest
import torch
from data.recordings import tone

from condgen import spectral


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_spectrum_is_scipys_and_its_inverse_is_exact():
    signal = pytest.importorskip("scipy.signal")
    x = noise(2, 2048)
    ours = spectral.stft(x, 256, 64)
    window = signal.windows.hann(256, sym=False)
    theirs = signal.ShortTimeFFT(window, 64, fs=1.0, mfft=256, fft_mode="onesided")
    padded = np.pad(x.numpy(), ((0, 0), (96, 96)))
    expected = theirs.stft(padded, p0=2, p1=2 + 32) * 2 / window.sum()  # slices that lie wholly inside
    assert ours.shape == (2, 129, 32)
    assert np.abs(np.abs(expected) - ours.abs().numpy()).max() < 1e-5
    assert torch.allclose(spectral.istft(ours, 256, 64), x, atol=1e-6)


def test_a_sine_of_amplitude_one_has_magnitude_one():
    x = torch.from_numpy(tone(1000.0, 0.512, 8000, level=1.0)).float()[None]
    assert spectral.stft(x, 512, 128).abs()[0, 64, 16] == pytest.approx(1.0, abs=1e-3)


def test_mel_filters_share_each_frequency_out():
    filters = spectral.mel_filters(8000, 512, 64)
    assert filters.shape == (64, 257) and bool((filters.sum(1) > 0).all())
    inside = filters.sum(0)[4:240]  # between the first and the last centre the triangles sum to one
    assert torch.allclose(inside, torch.ones_like(inside), atol=1e-5)


def test_bands_are_spread_over_frequencies_that_have_them():
    power = noise(1, 257, 5).square()
    filters = spectral.mel_filters(8000, 512, 64)
    found = spectral.spread_bands(filters @ power, filters)
    assert bool((found >= 0).all())
    assert float((filters @ found - filters @ power).norm() / (filters @ power).norm()) < 0.02


def test_griffin_lim_finds_phases_better_than_random_ones():
    wave = torch.from_numpy(tone(440.0, 0.512, 8000) + tone(1130.0, 0.512, 8000)).float()[None]
    magnitude = spectral.stft(wave, 512, 128).abs()

    def error(steps: int) -> float:
        found = spectral.stft(spectral.griffin_lim(magnitude, 512, 128, steps), 512, 128).abs()
        return float((found - magnitude).norm() / magnitude.norm())

    assert error(32) < 0.1 < error(0)


@pytest.mark.parametrize(("rate", "to"), [(44100, 8000), (16000, 8000), (8000, 22050)])
def test_resampling_is_scipys_within_its_filter(rate, to):
    signal = pytest.importorskip("scipy.signal")
    sound = tone(440.0, 0.5, rate) + tone(1500.0, 0.5, rate, level=0.2)
    ours = spectral.resample(torch.from_numpy(sound)[None], rate, to)[0].numpy()
    theirs = signal.resample_poly(sound, to, rate)
    assert len(ours) == len(theirs) == -(-len(sound) * to // rate)
    inside = slice(len(ours) // 8, -len(ours) // 8)
    exact = tone(440.0, 0.5, to) + tone(1500.0, 0.5, to, level=0.2)
    assert np.abs(ours[inside] - exact[: len(ours)][inside]).max() < 5e-3
    assert np.abs(ours[inside] - theirs[inside]).max() < 1e-2


def test_what_the_new_rate_cannot_hold_is_gone():
    above = torch.from_numpy(tone(7000.0, 0.25, 44100))[None]
    assert float(spectral.resample(above, 44100, 8000)[0, 200:-200].abs().max()) < 1e-3
