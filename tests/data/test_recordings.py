"""Sources of recordings."""

import json

import pytest
import torch
from data.recordings import SPEAKERS, tone, wav, write_recordings

from condgen.audio import Mel
from condgen.data.sources import Audio, SpokenDigits
from condgen.data.tables import Decoding
from condgen.errors import CondgenError

SPACE = Mel(8000, 0.256, bands=32, fft=256, hop=64)


def test_spoken_digits_have_digit_and_speaker_and_hold_takes_out(tmp_path):
    tables = SpokenDigits(write_recordings(tmp_path / "r.zip", 3, 2, 11), SPACE, test_takes=2).load()
    assert tables.test is not None and (len(tables.train), len(tables.test)) == (3 * 2 * 9, 3 * 2 * 2)
    assert tables.classes == ["0", "1", "2"] and [field.name for field in tables.fields] == ["digit", "speaker"]
    assert tables.fields[1].config() == list(SPEAKERS[:2])
    assert torch.equal(tables.train.labels, tables.train.values[:, 0].long())
    assert tables.train.images.shape[1:] == SPACE.shape and tables.train.images.dtype == torch.uint8
    space = tables.train.space(torch.arange(10))
    assert isinstance(space, Mel) and -1 < space.mean[0] < 1 and space.deviation[0] > 0


def test_recordings_in_class_folders_of_any_rate_and_channels(tmp_path):
    for name, pitch in (("low", 200.0), ("high", 900.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").write_bytes(wav(tone(pitch, 0.3, 8000)))
        (tmp_path / name / "b.wav").write_bytes(wav(tone(pitch, 0.3, 44100)[:, None].repeat(2, 1), 44100, 3))
    tables = Audio(tmp_path, SPACE).load()
    assert tables.classes == ["high", "low"] and tables.train.images.shape == (4, 1, 32, 32)
    first, second = tables.train.images[:2].int()
    assert (first - second)[..., 2:-2].abs().float().mean() < 8  # the same tone, of 256 levels


def test_a_table_names_recordings_and_what_they_are(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.wav").write_bytes(wav(tone(300.0 + i, 0.2, 8000)))
    rows = [{"file": f"{i}.wav", "speed": i / 2, "voice": "ab"[i % 2]} for i in range(3)]
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    tables = Audio(tmp_path, SPACE, file="labels.json").load()
    assert [field.name for field in tables.fields] == ["speed", "voice"] and tables.train.values.shape == (3, 2)
    assert isinstance(tables.train.space(torch.arange(3)), Mel)


def test_mistakes_end_in_one_sentence(tmp_path):
    with pytest.raises(CondgenError, match="does not exist"):
        SpokenDigits(tmp_path / "none.zip", SPACE).load()
    (tmp_path / "no.zip").write_bytes(b"PK nonsense")
    with pytest.raises(CondgenError, match="not a readable zip"):
        SpokenDigits(tmp_path / "no.zip", SPACE).load()
    zip_ = write_recordings(tmp_path / "r.zip", 2, 1, 2)
    with pytest.raises(CondgenError, match="test_takes lower"):
        SpokenDigits(zip_, SPACE).load()
    with pytest.raises(CondgenError, match=r"data\.image_size"):
        SpokenDigits(zip_, SPACE, test_takes=1).load(Decoding(image_size=32))
    (tmp_path / "s" / "a").mkdir(parents=True)
    with pytest.raises(CondgenError, match="holds no recordings"):
        Audio(tmp_path / "s", SPACE).load()
    (tmp_path / "s" / "a" / "x.wav").write_bytes(b"RIFF")
    with pytest.raises(CondgenError, match=r"x\.wav .*sound"):
        Audio(tmp_path / "s", SPACE).load()
