"""A vocoder by the real commands: trained, resumed to the bit, asked by a recording, measured, and heard for another model."""

import base64
import json
import shutil

import pytest
import torch
from command import TINY, condgen, only_run
from data.recordings import tone, wav, write_recordings
from serving.api import asked, running

from condgen.audio import read_sound
from condgen.run.checkpoint import load, read
from condgen.serving.models import load_models

WAVEFORMS = "data.source.space._target_=condgen.waveforms.Waveforms"
SMALL = ("model.generator.network.width=16", "model.generator.network.blocks=1", "loss.windows=[64,256]")


def arguments(root, *more):
    """What trains on recordings of three digits by two speakers."""
    path = root / "recordings.zip"
    data = ("data=spoken_digits", f"data.source.path={path}", "data.split=6", "data.source.test_takes=1")
    return ("train", "experiment=none", *data, "trainer.precision=32-true", *TINY, *more)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two tiny runs: a vocoder of four updates, and a VAE of the log-mel images that it knows."""
    root = tmp_path_factory.mktemp("vocoder")
    write_recordings(root / "recordings.zip", 3, 2, 6)
    runs = {
        "vocoder": ("model=vocoder", WAVEFORMS, *SMALL, "trainer.max_epochs=2"),
        "vae": ("model=cvae_mlp", "model.options.expects=null", "trainer.max_epochs=1"),
    }
    for name, more in runs.items():
        result = condgen("train", *arguments(root, *more)[1:], f"run.name={name}", cwd=root)
        assert result.code == 0, result
        max((root / "outputs" / name).glob("*")).rename(root / name)
    (root / "a.wav").write_bytes(wav(tone(440.0, 0.2, 16000), 16000))
    return root


def test_a_run_is_seen_and_heard(root):
    (sound,) = (root / "vocoder").glob("samples/*4.wav")
    assert len(read_sound("a.wav", sound.read_bytes())[0]) == 6 * (8192 + 2000)  # the validation part
    assert (root / "vocoder" / "samples" / f"{sound.stem}.png").exists()


def test_it_is_resumed_to_the_bit(root, tmp_path):
    more = ("model=vocoder", WAVEFORMS, *SMALL, "trainer.max_epochs=1")
    assert condgen(*arguments(root, *more), cwd=tmp_path).code == 0
    run = only_run(tmp_path)
    assert condgen("resume", run, "trainer.max_epochs=2", cwd=tmp_path).code == 0
    whole, halves = (read(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (root / "vocoder", run))
    assert whole.keys() == halves.keys() and all(torch.equal(whole[name], halves[name]) for name in whole)


def test_a_recording_is_made_again(root, tmp_path):
    said = ("--image", root / "a.wav", "--count", 1)
    for out in ("x.wav", "x.png", "x.npz", "x"):
        assert condgen("sample", root / "vocoder", *said, "--out", out, cwd=tmp_path).code == 0
    for out in ("x.wav", "x.png", "x.npz", "x/000000.wav"):
        result = condgen("inspect", out, "--model", root / "vocoder", "--image", root / "a.wav", cwd=tmp_path)
        assert result.code == 0 and " the same " in result.out, result
    model = load(root / "vocoder")
    asked_for = model.condition.ask(None, model.space.read("a.wav", (root / "a.wav").read_bytes()))
    heard, _ = read_sound("x.wav", (tmp_path / "x.wav").read_bytes())
    assert float((model.sample(asked_for)[0] - heard).abs().max()) < 1e-4


def test_another_model_is_heard_by_it(root, tmp_path):
    said = ("sample", root / "vae", "--condition", "1", "--count", 1, "--out")
    assert condgen(*said, "plain.wav", cwd=tmp_path).code == 0
    assert condgen(*said, "x.wav", "--vocoder", root / "vocoder", cwd=tmp_path).code == 0
    heard, _ = read_sound("x.wav", (tmp_path / "x.wav").read_bytes())
    wanted = load(root / "vocoder").sound(load(root / "vae").sample("1"))
    assert float((wanted[0] - heard).abs().max()) < 1e-4
    again = ("inspect", "x.wav", "--model", root / "vae")
    result = condgen(*again, "--vocoder", root / "vocoder", cwd=tmp_path)
    assert result.code == 0 and "makes the same waveforms again" in result.out and "heard by" in result.out
    assert "give --vocoder RUN" in condgen(*again, cwd=tmp_path).err
    shutil.move(tmp_path / "plain.wav", tmp_path / "x.wav")
    assert "leave --vocoder out" in condgen(*again, "--vocoder", root / "vocoder", cwd=tmp_path).err


@pytest.mark.slow
def test_it_is_measured_beside_griffin_lim(root, tmp_path):
    write_recordings(tmp_path / "recordings.zip", 3, 2, 20)
    few = (f"data.source.path={tmp_path / 'recordings.zip'}", "data.source.test_takes=17", "suite=[fid,l1,lsd,lsd_long]")
    result = condgen("evaluate", root / "vocoder", "extractor=spoken-digits", *few, cwd=tmp_path)
    assert result.code == 0 and "Griffin-Lim" in result.out, result
    (record,) = json.loads(next((root / "vocoder").glob("evaluation/*/metrics.json")).read_text()).values()
    known = record if "baselines" in record else record[0]
    assert {"fid", "l1", "lsd", "lsd_long"} == set(known["baselines"]["Griffin-Lim"]) == set(known["figures"])
    ours, theirs = known["figures"]["lsd"], known["baselines"]["Griffin-Lim"]["lsd"]
    assert 0 < theirs < 20 and 0 < ours < 20 and ours != theirs  # dB


def test_a_server_takes_recordings(root):
    with running(load_models([f"vocoder={root / 'vocoder'}"])) as (_, ask):
        sent = base64.b64encode((root / "a.wav").read_bytes()).decode()
        answer = asked(ask, {"model": "vocoder", "image": f"data:audio/wav;base64,{sent}", "format": "pngs"}).json()
        assert len(answer["images"]) == len(answer["sounds"]) == 1
        refused = asked(ask, {"model": "vocoder", "image": base64.b64encode(b"nothing").decode()})
        assert refused.status_code == 422 and "not a readable sound file" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("model=vocoder",), "choose data of sounds with data.source.space._target_=condgen.waveforms.Waveforms"),
        (("model=cvae_mlp", "condition=mel"), "choose data of sounds"),
        (("model=vocoder", WAVEFORMS, "loss=hinge"), "choose loss=spectra"),
        (("model=vocoder", WAVEFORMS, "condition=attributes"), "choose condition=mel"),
        (("model=vocoder", WAVEFORMS, "data.image_size=32"), "data.image_size and data.channels change images"),
        (("model=cgan_conv", WAVEFORMS), "waveforms"),
    ],
)
def test_what_does_not_fit_is_refused(more, said, root, tmp_path):
    assert said in condgen(*arguments(root, *more), cwd=tmp_path).sentence()


def test_a_vocoder_for_other_images_is_refused(root, tmp_path):
    other = arguments(
        root, "model=cvae_mlp", "model.options.expects=null", "data.source.space.floor=-60", "trainer.max_epochs=1"
    )
    assert condgen(*other, cwd=tmp_path).code == 0
    said = ("--condition", "1", "--count", 1, "--out")
    for model, vocoder, out, sentence in (
        (only_run(tmp_path), "vocoder", "x.wav", "of floor -80 and this model makes them of floor -60"),
        (root / "vae", "vae", "x.wav", "is no vocoder"),
        (root / "vae", "vocoder", "x.png", "holds none"),
    ):
        assert sentence in condgen("sample", model, *said, out, "--vocoder", root / vocoder, cwd=tmp_path).sentence()
    for arguments_, sentence in ((("--image", "a.txt"), "not a readable sound file"), ((), "give --image FILE")):
        (tmp_path / "a.txt").write_text("no sound")
        told = condgen("sample", root / "vocoder", *arguments_, "--count", 1, "--out", "y.wav", cwd=tmp_path)
        assert sentence in told.sentence()
