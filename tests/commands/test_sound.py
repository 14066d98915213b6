"""A run that makes sounds: its samples are written, played, served and made again by the commands that know images."""

import base64
import csv
import shutil

import pytest
import torch
from command import TINY, condgen, only_run
from data.recordings import write_recordings
from serving.api import asked, running
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from condgen.audio import read_sound
from condgen.run.checkpoint import load
from condgen.serving.models import load_models

SPACE = (
    "data.source.space.seconds=0.256",
    "data.source.space.bands=32",
    "data.source.space.fft=256",
    "data.source.space.hop=64",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run on recordings of three digits by two speakers."""
    root = tmp_path_factory.mktemp("sound")
    path = write_recordings(root / "recordings.zip", 3, 2, 6)
    data = ("data=spoken_digits", f"data.source.path={path}", "data.split=6", "data.source.test_takes=1", *SPACE)
    small = (
        "model.generator.encoder.hidden=[32]",
        "model.generator.decoder.hidden=[32]",
        "trainer.max_epochs=1",
        "model.options.expects=null",
        *TINY,
    )
    result = condgen("train", "experiment=none", "model=cvae_mlp", "trainer.precision=32-true", *data, *small, cwd=root)
    assert result.code == 0, result
    return only_run(root)


def test_a_run_is_seen_and_heard(run, tmp_path):
    (picture,), (sound,) = run.glob("samples/*.png"), run.glob("samples/*.wav")
    assert picture.stem == sound.stem
    heard, rate = read_sound(sound.name, sound.read_bytes())
    assert rate == 8000 and len(heard) == 3 * (2048 + 2000)  # each digit once
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert events.Tags()["audio"] == ["samples"] and events.Audio("samples")[0].encoded_audio_string == sound.read_bytes()
    assert condgen("report", run, cwd=tmp_path).code == 0
    assert '<audio controls src="data:audio/wav;base64,' in (run / "report.html").read_text()


def test_samples_are_written_as_sounds_and_as_spectrograms(run, tmp_path):
    asked_for = ("--condition", "digit=1,speaker=george|jackson", "--count", 2, "--seed", 3)
    for out in ("all.wav", "each", "all.png", "all.npz"):
        assert condgen("sample", run, *asked_for, "--out", out, cwd=tmp_path).code == 0
    rows = list(csv.DictReader((tmp_path / "each" / "labels.csv").open()))
    assert [row["label"].split()[1] for row in rows] == ["speaker=george"] * 2 + ["speaker=jackson"] * 2
    assert rows[0]["file"] == "000000.wav"
    whole, _ = read_sound("all.wav", (tmp_path / "all.wav").read_bytes())
    pieces = [read_sound(row["file"], (tmp_path / "each" / row["file"]).read_bytes())[0] for row in rows]
    assert torch.equal(whole.view(4, -1)[:, :2048], torch.stack(pieces))
    for file in ("all.wav", "each/000002.wav", "all.png", "all.npz"):
        result = condgen("inspect", file, "--model", run, cwd=tmp_path)
        assert result.code == 0 and "digit=1,speaker=george|jackson" in result.out and " the same " in result.out, result


def test_a_sound_that_was_changed_is_found_out(run, tmp_path):
    assert condgen("sample", run, "--condition", "1", "--count", 1, "--out", "a.wav", cwd=tmp_path).code == 0
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[1000] ^= 64
    (tmp_path / "a.wav").write_bytes(bytes(content))
    result = condgen("inspect", "a.wav", "--model", run, cwd=tmp_path)
    assert result.code == 1 and "makes other waveforms: 1 of 2,048 differ" in result.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sample", "--out", "a.txt"), "are not written as .txt"),
        (("sample", "--out", "a.wav", "--watermark", "a secret of mine"), "A watermark is for images"),
        (("study", "--out", "s"), "People can judge images"),
    ],
)
def test_what_is_for_pictures_is_refused(arguments, said, run, tmp_path):
    verb, *rest = arguments
    assert said in condgen(verb, run, *rest, cwd=tmp_path).sentence()


def test_a_run_goes_on_with_the_same_sounds_alone(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    result = condgen("resume", "copy", "trainer.max_epochs=2", cwd=tmp_path)
    assert result.code == 0, result
    louder = condgen("resume", "copy", "trainer.max_epochs=3", "data.source.space.floor=-60", cwd=tmp_path)
    assert louder.code == 1 and "was trained on samples of another floor than the data now give" in louder.err


def test_images_are_no_sounds(gan_run, tmp_path):
    assert "are not written as .wav" in condgen("sample", gan_run, "--out", "a.wav", cwd=tmp_path).sentence()


def test_a_server_answers_with_sounds(run, gan_run):
    with running(load_models([f"voices={run}", f"digits={gan_run}"])) as (_, ask):
        wish = {"model": "voices", "condition": {"digit": "2", "speaker": "jackson"}, "count": 2}
        each = asked(ask, wish | {"format": "pngs"}).json()
        assert len(each["images"]) == len(each["sounds"]) == 2
        sounds = [read_sound("a.wav", base64.b64decode(sound))[0] for sound in each["sounds"]]
        answer = asked(ask, wish | {"format": "wav"})
        assert answer.headers["content-type"] == "audio/wav"
        assert torch.equal(read_sound("a.wav", answer.content)[0].view(2, -1)[:, :2048], torch.stack(sounds))
        refused = asked(ask, {"model": "digits", "condition": "3", "format": "wav"})
        assert refused.status_code == 422 and "ask for png, npz, pngs or json" in refused.json()["error"]["message"]
        assert "sounds" not in asked(ask, {"model": "digits", "condition": "3", "format": "pngs"}).json()
    assert load(run).space.waves(load(run).sample("1")).shape == (1, 2048)
