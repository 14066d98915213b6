"""The packed cache: used again, made anew when its source changes, shared, and never half written."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pictures import noise

from condgen.data import cache
from condgen.data import decode as decoding_module
from condgen.data.prepare import pool
from condgen.data.sources import ImageArchive
from condgen.data.tables import Decoding, Table
from condgen.errors import CondgenError


@pytest.fixture
def decoded(monkeypatch):
    """Count decoded pictures."""
    names, true_decode = [], decoding_module.decode

    def counted(picture, *how):
        names.append(picture.name)
        return true_decode(picture, *how)

    monkeypatch.setattr(decoding_module, "decode", counted)
    return names


def test_second_load_decodes_nothing_but_the_probe(make_zip, decoded):
    path = make_zip("a.zip", [noise(i, 4, 4) for i in range(5)], [0] * 5)
    first = ImageArchive(path).load()
    assert len(decoded) == 6
    again = ImageArchive(path).load()
    assert len(decoded) == 7 and torch.equal(first.train.images, again.train.images)
    ImageArchive(path).load(Decoding(image_size=8))
    assert len(decoded) == 13  # another size is another set of pixels


def test_changed_source_is_packed_anew(make_zip):
    path = make_zip("a.zip", [noise(0, 4, 4)], [0])
    ImageArchive(path).load()
    before = path.stat()
    make_zip("a.zip", [noise(1, 4, 4)], [0])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert np.array_equal(ImageArchive(path).load().train.images[0, 0].numpy(), noise(1, 4, 4))


def test_a_set_beyond_the_share_stays_mapped_and_writes_never_reach_the_file(make_zip, cache_folder):
    path = make_zip("a.zip", [noise(i, 4, 4) for i in range(3)], [0] * 3)
    images = ImageArchive(path).load(Decoding(memory_share=0)).train.images
    if Path("/proc/self/maps").exists():
        assert str(cache_folder) in Path("/proc/self/maps").read_text()
    expected = images.clone()
    images.fill_(7)
    assert torch.equal(ImageArchive(path).load(Decoding(memory_share=0)).train.images, expected)


def test_nothing_is_left_of_a_failed_pack(cache_folder):
    def fill(pixels):
        raise CondgenError("broken")

    with pytest.raises(CondgenError, match="broken"):
        cache.keep("x", (2, 1, 3, 3), fill, 0.25, costly=True)
    assert [file.suffix for file in cache_folder.iterdir()] == [".lock"]


def test_unusable_cache_falls_back_to_memory_if_the_set_fits(tmp_path, monkeypatch, caplog, make_zip):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CONDGEN_CACHE", str(tmp_path / "file" / "cache"))
    path = make_zip("a.zip", [noise(i, 4, 4) for i in range(3)], [0] * 3)
    assert len(ImageArchive(path).load().train) == 3
    assert "cannot be used" in caplog.text
    with pytest.raises(CondgenError, match=r"CONDGEN_CACHE .*room"):
        ImageArchive(path).load(Decoding(memory_share=0))


def test_a_full_disk_is_noticed_before_writing(monkeypatch, caplog):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    images = cache.keep("x", (2, 1, 3, 3), lambda pixels: pixels.fill(5), 0.25, costly=True)
    assert images.unique().tolist() == [5] and "GB free" in caplog.text


@pytest.mark.slow
def test_two_processes_that_start_together_pack_once(tmp_path, cache_folder):
    script = f"""
import time
from pathlib import Path
from types import SimpleNamespace
from condgen.data import cache
def fill(pixels):
    with Path({str(tmp_path / "fills")!r}).open("a") as file:
        file.write("x")
    time.sleep(0.5)
    pixels[:] = 9
images = cache.keep("shared", (50, 1, 8, 8), fill, 0.25, costly=True)
assert images.shape == (50, 1, 8, 8) and (images == 9).all()
"""
    runs = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [run.wait(180) for run in runs] == [0, 0]
    assert (tmp_path / "fills").read_text() == "x"


def test_pooling_beyond_memory_equals_pooling_in_memory(cache_folder):
    tables = [Table(torch.from_numpy(noise(i, 20, 1, 6, 6)), torch.arange(20) % 3) for i in range(2)]
    relabel = torch.tensor([1, -1, 0])
    small = pool(tables, relabel, Decoding(image_size=9, channels=3))
    assert not cache_folder.exists()
    large = pool(tables, relabel, Decoding(image_size=9, channels=3, memory_share=0))
    assert torch.equal(small.images, large.images) and torch.equal(small.labels, large.labels)
    assert len(list(cache_folder.glob("*.npy"))) == 1
    tables[0].images[0] += 1
    assert not torch.equal(pool(tables, relabel, Decoding(image_size=9, channels=3, memory_share=0)).images, large.images)
