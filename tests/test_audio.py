"""Spaces of sound, and sound files."""

import struct

import numpy as np
import pytest
import torch
from data.recordings import tone, wav

from condgen.audio import Mel, Sound, comment_of, fitted_to, read_sound, to_wav
from condgen.config.build import build
from condgen.errors import CondgenError
from condgen.spaces import Images, pictures, to_float

SPACE = Mel(8000, 0.512, bands=48, fft=256, hop=64)


def voice() -> torch.Tensor:
    """A tone with harmonics that falls silent, (1, length)."""
    found = sum(tone(150.0 * k, 0.512, 8000, 0.3 / k) for k in range(1, 8))
    return torch.from_numpy(found * np.linspace(1, 0, len(found)) ** 2).float()[None, : SPACE.length]


def test_a_log_mel_image_is_an_image_that_is_heard():
    assert SPACE.shape == (1, 48, 64) and isinstance(SPACE, Images) and isinstance(SPACE, Sound)
    assert not pictures(SPACE) and pictures(Images((1, 8, 8))) and str(SPACE) == "1x48x64 log-mel, 0.512 s at 8,000 Hz"
    again = build("space", SPACE.fitted([0.1], [0.4]).config())
    assert again.config() == SPACE.fitted([0.1], [0.4]).config() and again.length == 4096


def test_there_and_back_keeps_the_spectrogram():
    image = to_float(SPACE.stored(voice()))
    assert image.min() == -1 and image.max() < 1
    heard = SPACE.waves(image)
    assert heard.shape == (1, 4096)
    assert float((SPACE.encode(heard) - image).abs().mean()) * 40 < 1.5  # dB; a random phase is 3 off
    alone = SPACE.waves(torch.cat([image, 0.9 * image]))[1:]
    assert torch.equal(alone, SPACE.waves(0.9 * image))  # whatever it is together with


def test_silence_stays_silent():
    assert bool((SPACE.waves(SPACE.encode(torch.zeros(1, 4096))) == 0).all())


def test_spectrograms_have_high_tones_above_and_loud_ones_bright():
    high = SPACE.encode(torch.from_numpy(tone(3500.0, 0.512, 8000)).float()[None])
    picture = SPACE.pixels(high)[0].float().mean((0, 2))  # of each row
    assert picture[:10].max() > 150 and picture[24:].max() < 20
    assert SPACE.grid(high, 1).shape == (3, 52, 68)


def test_samples_are_written_as_sounds():
    samples = SPACE.encode(voice().repeat(2, 1))
    sound, rate = read_sound("0.wav", SPACE.file(samples[:1]))
    assert rate == 8000 and len(sound) == 4096 and float(sound.abs().max()) > 0.1
    assert len(read_sound("both.wav", SPACE.file(samples))[0]) == 2 * (4096 + 2000)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_pcm_of_every_width_is_read(width):
    sound = tone(440.0, 0.1, 16000)
    found, rate = read_sound("a.wav", wav(sound, 16000, width))
    assert rate == 16000 and np.abs(found.numpy() - sound).max() < 2.0 ** (1 - min(8 * width, 16)) * 1.1


def test_channels_are_averaged():
    left = tone(440.0, 0.1, 8000)
    found, _ = read_sound("a.wav", wav(np.stack([left, np.zeros_like(left)], 1)))
    assert np.abs(found.numpy() - left / 2).max() < 1e-4


def test_flac_is_read_where_soundfile_is(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.flac", tone(440.0, 0.1, 22050), 22050)
    found, rate = read_sound("a.flac", (tmp_path / "a.flac").read_bytes())
    assert rate == 22050 and np.abs(found.numpy() - tone(440.0, 0.1, 22050)).max() < 1e-4


def test_a_comment_goes_into_the_file_and_back():
    content = to_wav(voice()[0], 8000, '{"made": "ü"}')
    assert comment_of(content) == '{"made": "ü"}' and comment_of(to_wav(voice()[0], 8000)) is None
    assert struct.unpack("<I", content[4:8])[0] == len(content) - 8
    assert len(read_sound("a.wav", content)[0]) == 4096


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "sound"),
        (b"RIFFnonsense", "sound"),
        (wav(tone(440.0, 0.1, 8000))[:-7], "sound"),
        (wav(np.zeros(0)), "holds no sound"),
        (b"\x89PNG\r\n", "sound"),
    ],
)
def test_what_is_no_sound_is_refused_in_a_sentence(content, said):
    with pytest.raises(CondgenError, match=f"^a.wav .*{said}.*[.]$"):
        read_sound("a.wav", content)


def test_levels_and_lengths_are_as_configured():
    sound = torch.from_numpy(tone(440.0, 0.1, 8000, level=0.02)).float()
    assert float(fitted_to(sound, 8000, 8000, 1000, "peak").abs().max()) == pytest.approx(0.95, abs=1e-3)
    assert float(fitted_to(sound, 8000, 8000, 800, "rms").square().mean().sqrt()) == pytest.approx(0.1, abs=1e-3)
    assert torch.equal(fitted_to(sound, 8000, 8000, 500, "none"), sound[:500])
    assert bool((fitted_to(sound, 8000, 8000, 1000, "none")[800:] == 0).all())
    assert len(fitted_to(sound, 8000, 16000, 5000, "peak")) == 5000


@pytest.mark.parametrize("wrong", [{"hop": 200}, {"seconds": 0.001}, {"floor": 0.0}, {"bands": 200}])
def test_a_space_that_cannot_be_is_refused(wrong):
    with pytest.raises(CondgenError):
        Mel(**({"rate": 8000, "seconds": 0.512, "bands": 48, "fft": 256, "hop": 64} | wrong))
