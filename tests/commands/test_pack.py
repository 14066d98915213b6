"""``condgen pack``: every source, the same bytes whoever writes them and however often it is stopped, and what it refuses."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command import TINY, condgen
from data.pictures import noise
from same_run import assert_same, outcome

from condgen import pack as module
from condgen.data.shards import writing
from condgen.data.sources import ImageArchive, ImageFolder, Shards
from condgen.errors import CondgenError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of JPEGs in two classes, and nothing else."""
    from PIL import Image

    for i in range(20):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(i, 9, 8, 3)).save(path)
    return tmp_path / "photos"


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_folder_keeps_its_files_bytes_and_any_number_of_workers_writes_the_same(photos, tmp_path):
    for out, workers in (("one", 0), ("two", 2)):
        result = condgen("pack", photos, "--out", out, "--shard-images", 6, "--workers", workers, cwd=tmp_path)
        assert result.code == 0, result
        assert "20 images in 4 shards" in result.out and f"data.source.path={tmp_path / out}" in result.out
    assert content(tmp_path / "one") == content(tmp_path / "two")
    ours, theirs = Shards(tmp_path / "one").load(), ImageFolder(photos).load()
    assert torch.equal(ours.train.images[:], theirs.train.images) and ours.classes == theirs.classes == ["a", "b"]
    assert ours.train.images.file(0) == (photos / "a" / "0.jpg").read_bytes()


def test_every_kind_of_source(photos, tmp_path):
    from config.tiny_data import write_idx, write_table, write_zip

    write_zip(tmp_path / "set.zip", 6, 3, 2, 5)
    np.savez(tmp_path / "samples.npz", images=noise(0, 9, 5, 5, 1), labels=np.arange(9) % 3)
    np.savez(tmp_path / "free.npz", images=noise(0, 9, 5, 5, 3))
    sources = {
        "zip": [tmp_path / "set.zip"],
        "npz": [tmp_path / "samples.npz"],
        "free": [tmp_path / "free.npz"],
        "table": [write_table(tmp_path / "table")],
        "idx": ["fashion_mnist", f"data.source.root={write_idx(tmp_path / 'idx')}"],
        "small": [photos, "data.image_size=4", "data.channels=1"],
    }
    for name, words in sources.items():
        result = condgen("pack", *words, "--out", f"out-{name}", "--workers", 0, cwd=tmp_path)
        assert result.code == 0, result
    loaded = {name: Shards(tmp_path / f"out-{name}").load() for name in sources}
    assert torch.equal(loaded["zip"].train.images[:], ImageArchive(tmp_path / "set.zip").load().train.images)
    assert loaded["npz"].classes == ["0", "1", "2"] and loaded["free"].classes == []
    assert loaded["npz"].train.images[4].numpy().tolist() == noise(0, 9, 5, 5, 1)[4].transpose(2, 0, 1).tolist()
    assert [field.name for field in loaded["table"].fields] == ["smile", "age"]
    assert len(loaded["idx"].train) == len(loaded["idx"].test) == 80
    assert loaded["small"].train.images.shape == (20, 1, 4, 4)
    again = condgen("pack", "shards", "data.source.path=out-small", "--out", "again", "--workers", 0, cwd=tmp_path)
    assert again.code == 0, again
    assert content(tmp_path / "again").keys() == content(tmp_path / "out-small").keys()
    assert torch.equal(Shards(tmp_path / "again").load().train.images[:], loaded["small"].train.images[:])


def test_training_from_shards_ends_with_the_weights_of_training_from_the_folder(photos, tmp_path):
    assert condgen("pack", photos, "--out", "shards", "--shard-images", 6, "--workers", 0, cwd=tmp_path).code == 0
    words = ["experiment=none", "model=cgan_mlp", "data.image_size=8", "model.options.expects=null", "extractor=none", *TINY]
    words += ["trainer.max_epochs=2", "trainer.precision=32-true", "data.split=[0.6,0.2,0.2]"]
    for data, place in (("shards", "shards"), ("folder", "photos")):
        result = condgen(
            "train", f"data={data}", f"data.source.path={place}", *words, f"hydra.run.dir=run-{data}", cwd=tmp_path
        )
        assert result.code == 0, result
    assert_same(outcome(tmp_path / "run-shards"), outcome(tmp_path / "run-folder"))


def test_a_packing_that_was_stopped_goes_on_to_the_same_bytes(photos, tmp_path, monkeypatch):
    words = ("pack", photos, "--out", "shards", "--shard-images", 4, "--workers", 0)
    assert condgen(*words[:3], "whole", *words[4:], cwd=tmp_path).code == 0
    write, written = writing.write_shard, []

    def failing(folder, job, tables):
        if len(written) == 2:
            (folder / f".{job.file}.half.condgen-tmp").write_bytes(b"half")
            raise CondgenError("No space left.")
        written.append(job.file)
        write(folder, job, tables)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_shard", failing)
        stopped = condgen(*words, cwd=tmp_path)
        assert "2 of 5 shards are finished, the same command goes on" in stopped.sentence()
        assert not (tmp_path / "shards" / "index.json").exists()
    with pytest.raises(CondgenError, match="packing was not finished, go on with the same condgen pack"):
        Shards(tmp_path / "shards").load()
    for other in ((*words[:5], 5, *words[6:]), (*words[:1], photos / "..", *words[2:])):
        assert condgen(*other, cwd=tmp_path).code == 1
    (tmp_path / "shards" / written[0]).write_bytes(b"half a shard")
    again = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_shard", lambda *arguments: (again.append(arguments[1].file), write(*arguments)))
        assert condgen(*words, cwd=tmp_path).code == 0
    assert set(again) == {written[0], "train-000002.tar", "train-000003.tar", "train-000004.tar"}
    assert content(tmp_path / "shards") == content(tmp_path / "whole")


def test_what_cannot_be_packed_is_told_in_a_sentence(photos, tmp_path):
    def told(*words: object) -> str:
        return condgen("pack", *words, cwd=tmp_path).sentence()

    out = ("--out", "shards", "--workers", 0)
    assert "data=mnits does not exist" in told("mnits", *out) and "did you mean mnist" in told("mnits", *out)
    assert "data.source.path has no value" in told("folder", *out)
    assert "not a folder" in told(tmp_path / "none", *out)
    assert "does not exist" in told("none.zip", *out)
    assert "points" in told("ring", *out)
    assert "data.batch_size=3 is not about how images are read" in told(photos, "data.batch_size=3", *out)
    assert "data.channels" in told(photos, "data.channels=2", *out)
    assert "data.image_size" in told(photos, "data.image_size=0", *out)
    assert "data.source.pth" in told("folder", "data.source.pth=x", *out)
    assert not (tmp_path / "shards").exists()
    assert "is a file" in told(photos, "--out", photos / "a" / "0.jpg")
    assert "is not empty" in told(photos, "--out", photos)
    (tmp_path / "shards").mkdir()
    (photos / "a" / "4.jpg").write_bytes((photos / "a" / "4.jpg").read_bytes()[:200])
    assert "4.jpg" in told(photos, *out) and "corrupt or truncated" in told(photos, *out)
    shutil.rmtree(tmp_path / "shards")
    (photos / "a" / "4.jpg").unlink()
    assert condgen("pack", photos, *out, cwd=tmp_path).code == 0
    assert "holds a finished set" in told(photos, *out)
    assert "shard-images" in condgen("pack", photos, "--out", "x", "--shard-images", 0, cwd=tmp_path).err


PACK = [sys.executable, "-m", "condgen", "pack", "samples.npz", "--shard-images", "50", "--workers", "2", "--out"]


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Images for sixty shards that take a moment each."""
    np.savez(tmp_path / "samples.npz", images=noise(0, 3000, 64, 64, 3), labels=np.arange(3000) % 10)
    return tmp_path


@pytest.mark.slow
def test_a_packing_that_is_killed_again_and_again_ends_with_the_same_bytes(samples):
    subprocess.run([*PACK, "whole"], cwd=samples, check=True, capture_output=True)
    for wanted in (5, 20, 40):
        process = subprocess.Popen([*PACK, "shards"], cwd=samples, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((samples / "shards").glob("*.npz"))) < wanted and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run([*PACK, "shards"], cwd=samples, check=True, capture_output=True)
    assert content(samples / "shards") == content(samples / "whole")


@pytest.mark.slow
def test_ctrl_c_says_what_is_finished(samples):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*PACK, "shards"], cwd=samples, process_group=0, **pipes)
    while len(list((samples / "shards").glob("*.npz"))) < 3:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "of 60 shards are finished, the same command goes on.\n" in err
    assert "Traceback" not in err
