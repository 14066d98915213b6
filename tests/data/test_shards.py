"""Sets in tar files: the same batches as from memory, in any number of processes; what is damaged is named."""

import hashlib
import json
import logging
import multiprocessing
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from shards import COUNT, EACH, module, pack_pets, write_pets

from condgen.conditions import Attributes
from condgen.data.loader import BatchLoader
from condgen.data.sources import ImageTable, Shards
from condgen.data.tables import Decoding
from condgen.errors import CondgenError
from condgen.metrics.kept import fingerprint
from condgen.randomness import generator


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pets(tmp_path_factory.mktemp("pets") / "pets")


@pytest.fixture(scope="module")
def whole(pets: Path) -> Path:
    return pack_pets(pets, pets.parent / "shards")


@pytest.fixture
def packed(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "shards"))


def refused(source: Shards, *words: object) -> None:
    with pytest.raises(CondgenError) as caught:
        module(source).train.table.images[:]  # all of them
    for word in words:
        assert str(word) in str(caught.value)
    assert "\n" not in str(caught.value)


def same(one, other) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


# ---- what comes out is what went in


def test_everything_travels(pets, whole):
    ours, theirs = Shards(whole).load(), ImageTable(pets, caption="text").load()
    assert torch.equal(ours.train.images[:], theirs.train.images) and ours.train.images[3].shape == (3, 10, 12)
    assert torch.equal(ours.train.labels, theirs.train.labels) and torch.equal(ours.train.values, theirs.train.values)
    assert (ours.classes, ours.fields, ours.test) == (theirs.classes, theirs.fields, None)
    assert list(ours.train.captions) == theirs.train.captions and ours.train.captions[7] == "pet number 7"


def test_the_tar_files_are_webdatasets(whole):
    with tarfile.open(whole / "train-000002.tar") as tar:
        names = tar.getnames()
        key = names[0].partition(".")[0]
        assert names[:4] == [f"{key}.{ending}" for ending in ("png", "cls", "json", "txt")]
        row = int(key)
        assert tar.extractfile(f"{key}.txt").read() == f"pet number {row}".encode()
        attributes = json.load(tar.extractfile(f"{key}.json"))
        assert attributes == {"class": "cat" if row < 30 else "dog", "smile": "yes" if row % 3 else "no", "age": row / 2}
        assert tar.extractfile(f"{key}.cls").read() == str(int(row >= 30)).encode()
    index = json.loads((whole / "index.json").read_text())
    assert index["train"] == {"images": COUNT, "counts": [30, 30]}
    for shard in index["shards"]:
        assert hashlib.sha256((whole / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]


def test_each_shard_is_like_the_whole_set(whole):
    for number in range(7):
        with tarfile.open(whole / f"train-{number:06d}.tar") as tar:
            assert {name for name in tar.getnames() if name.endswith(".cls")} and len(tar.getnames()) == 4 * EACH
            labels = {tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".cls")}
        assert labels == {b"0", b"1"}


def test_statistics_come_from_the_index(pets, whole, monkeypatch):
    memory, shards = module(ImageTable(pets, caption="text")), module(Shards(whole))
    monkeypatch.setattr("condgen.data.shards.images.decode", None)  # nobody looks at a pixel
    assert shards.space.config() == memory.space.config()
    assert len(fingerprint(shards.train)) == 24 and fingerprint(shards.train) != fingerprint(shards.val)


def test_statistics_of_resized_images_are_those_of_a_sample(pets, whole):
    options = {"image_size": 8, "channels": 1}
    memory, shards = module(ImageTable(pets, caption="text"), **options), module(Shards(whole), **options)
    assert shards.space.config() == memory.space.config()  # fewer than a sample
    assert same(list(shards.train_dataloader()), list(memory.train_dataloader()))


# ---- the batches of a set in memory


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_memory(pets, whole, workers):
    options = {"condition": partial(Attributes)} if workers else {}
    memory = module(ImageTable(pets, caption="text"), seed=3)
    shards = module(Shards(whole), seed=3, workers=workers)
    for data in (memory, shards):
        data.make_condition = options.get("condition", data.make_condition)
    for one, other in zip((memory.train, memory.val, memory.test), (shards.train, shards.val, shards.test), strict=True):
        assert torch.equal(one.rows, other.rows)
    before = torch.get_rng_state()
    loader = shards.train_dataloader()
    for epoch in range(3):
        loader.position = lambda epoch=epoch: (epoch, 1)
        expected = memory.train_dataloader()
        expected.position = loader.position
        assert same(list(loader), list(expected))
    assert same(list(shards.val_dataloader()), list(memory.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_epoch_that_is_left_does_not_disturb_the_next(whole):
    before = set(multiprocessing.active_children())
    data = module(Shards(whole), workers=1)
    loader = data.train_dataloader()
    expected = list(loader)
    for _ in range(2):
        next(iter(loader))
    workers = set(multiprocessing.active_children()) - before
    assert same(list(loader), expected) and len(workers) == 1
    data.teardown()
    assert not any(worker.is_alive() for worker in workers)
    assert same(list(loader), expected)  # and they start again
    loader.close()


def test_workers_leave_it_to_training_what_a_signal_to_all_means(whole):
    before = set(multiprocessing.active_children())
    data = module(Shards(whole), workers=1)
    loader = data.train_dataloader()
    expected = list(loader)
    (worker,) = set(multiprocessing.active_children()) - before
    subprocess.run(["sh", "-c", f"kill -TERM {worker.pid}; kill -INT {worker.pid}; kill -USR1 {worker.pid}"], check=True)
    assert same(list(loader), expected) and worker.is_alive()
    worker.terminate()
    worker.join(10)
    assert not worker.is_alive()


@pytest.mark.parametrize("buffer", [None, 16])
def test_processes_share_batches(whole, buffer):
    data = module(Shards(whole, buffer=buffer))
    table = data.train.table

    def batches(rank: int, world: int):
        options = {"rows": data.train.rows, "shuffle": True, "drop_last": True, "rank": rank, "world": world}
        return list(BatchLoader(table.images, table.labels, 6, **options))

    shares = [batches(rank, 3) for rank in range(3)]
    joined = [tuple(torch.cat(rows) for rows in zip(*batch, strict=True)) for batch in zip(*shares, strict=True)]
    assert same(joined, batches(0, 1))


def test_a_buffer_keeps_batches_to_few_shards(whole):
    images = Shards(whole, buffer=16).load().train.images
    rows = torch.arange(2, COUNT)
    first, again, other = (images.order(rows, generator(0, "order", epoch)) for epoch in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first.sort().values, rows) and torch.equal(other.sort().values, rows)
    shards = torch.from_numpy(images.whole.places.shard[images.members[first.numpy()]].astype(np.int64))
    assert all(len(some.unique()) <= 3 for some in shards.split(16))
    assert not torch.equal(first[:16], first[:16].sort().values)


def test_classes_can_be_chosen_and_thinned(pets, whole):
    options = {"classes": ["dog"], "imbalance": {"dog": 0.5}, "image_size": 10}
    memory, shards = module(ImageTable(pets, caption="text"), **options), module(Shards(whole), **options)
    assert torch.equal(shards.train.images, memory.train.images) and len(shards.train) == 9


# ---- what is damaged


def corrupt(file: Path, at: int = 560) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 255
    file.write_bytes(content)


def test_damage_is_refused(packed, tmp_path):
    refused(Shards(tmp_path / "none"), tmp_path / "none", "holds no index.json", "condgen pack writes one")
    corrupt(packed / "train-000001.tar")
    refused(Shards(packed), packed / "train-000001.tar", "image ", "corrupt", "data.source.corrupt=skip")
    (packed / "train-000002.tar").write_bytes((packed / "train-000002.tar").read_bytes()[:5000])
    refused(Shards(packed), packed / "train-000002.tar", "has 5,000 bytes and should have")
    (packed / "train-000002.tar").unlink()
    refused(Shards(packed), packed / "train-000002.tar", "is missing")
    corrupt(packed / "members.npy", 300)
    refused(Shards(packed), packed / "members.npy", "sha256", "copy it again")
    (packed / "members.npy").unlink()
    refused(Shards(packed), packed / "members.npy", "is missing")


@pytest.mark.parametrize(
    "change, words",
    [
        ("{", ["index.json is not an index of shards", "condgen pack"]),
        ({"format": "condgen-shards-9"}, ["format"]),
        ({"shards": []}, ["other 60 images"]),
        ({"train": {"images": -1, "counts": []}}, ["train.images"]),
        ({"more": 1}, ["more"]),
        ({"classes": ["cat"]}, ["contradicts"]),
        ({"attributes": {}}, ["does not belong"]),
    ],
)
def test_a_wrong_index_is_refused(packed, change, words):
    index = json.loads((packed / "index.json").read_text())
    (packed / "index.json").write_text(change if isinstance(change, str) else json.dumps(index | change))
    refused(Shards(packed), packed, *words)


def test_an_index_names_no_file_elsewhere(packed):
    index = json.loads((packed / "index.json").read_text())
    index["shards"][0]["file"] = "../secret.tar"
    (packed / "index.json").write_text(json.dumps(index))
    refused(Shards(packed), "shards.0.file")


def test_what_is_lost_is_named_and_left_out(whole, packed, caplog):
    sound = module(Shards(whole))
    corrupt(packed / "train-000001.tar")
    with tarfile.open(packed / "train-000001.tar") as tar:
        lost = int(tar.getnames()[0].partition(".")[0])
    (packed / "train-000003.tar").unlink()
    (packed / "train-000004.tar").write_bytes((packed / "train-000004.tar").read_bytes()[:9000])
    for _ in range(2):  # found, and known
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            data = module(Shards(packed, corrupt="skip"))
            data.prepare()
        assert f"train-000001.tar: 1 of its 8 images are corrupt and left out: {lost}." in caplog.text
        assert "train-000003.tar is missing or corrupt: its 8 images are left out" in caplog.text
        assert "train-000004.tar: " in caplog.text
    left = [torch.isin(part.rows, old.rows).all() for part, old in ((data.train, sound.train), (data.val, sound.val))]
    assert all(left) and lost not in torch.cat([data.train.rows, data.val.rows, data.test.rows])
    assert sum(map(len, (data.train, data.val, data.test))) in range(COUNT - 8 - 1 - EACH, COUNT - 8 - 1)
    assert len(list(data.train_dataloader())) == len(data.train) // 6


def test_images_of_different_sizes_need_a_size(make_folder, tmp_path):
    from condgen.pack import pack

    grey = np.zeros((8, 8), np.uint8)
    root = make_folder({f"a/{i}.png": grey[: 8 - i % 2] for i in range(6)})
    pack(str(root), [], tmp_path / "shards", workers=0)
    with pytest.raises(CondgenError, match=r"differ in size or colour: data.image_size and data.channels"):
        Shards(tmp_path / "shards").load()
    tables = Shards(tmp_path / "shards").load(Decoding(image_size=4, channels=1))
    assert tables.train.images[:].shape == (6, 1, 4, 4)


# ---- from an address


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, ranges too, and can break down."""

    asked: list[str] = []  # noqa: RUF012  # of all requests together
    down = False
    ranges = True

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer with a file or a range of it."""
        file = Path(self.translate_path(self.path))
        Handler.asked.append(f"{file.name} {self.headers.get('Range', '')}".strip())
        if Handler.down or not file.is_file():
            return self.send_error(503 if Handler.down else 404)
        content = file.read_bytes()
        asked = self.headers.get("Range")
        if asked and Handler.ranges:
            first, last = (int(end) for end in asked.removeprefix("bytes=").split("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None


@pytest.fixture
def address(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("condgen.data.shards.store.PAUSE", 0.01)
    Handler.asked, Handler.down, Handler.ranges = [], False, True
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=packed.parent))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/shards"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_an_address_are_those_of_the_folder(whole, address, workers):
    near, far = (module(Shards(path, buffer=16), workers=workers) for path in (whole, address))
    assert same(list(far.val_dataloader()), list(near.val_dataloader()))
    assert same(list(far.train_dataloader()), list(near.train_dataloader()))
    fetched = [name for name in Handler.asked if name.endswith(".tar")]
    assert len(fetched) == len(set(fetched)) == 8  # each once, whoever needs it
    assert same(list(module(Shards(address, buffer=16)).train_dataloader()), list(near.train_dataloader()))
    assert [name for name in Handler.asked if name.endswith(".tar")] == fetched


@pytest.mark.parametrize("ranges", [True, False])
def test_a_few_images_are_fetched_by_their_bytes(whole, address, ranges):
    Handler.ranges = ranges
    tables = Shards(address).load()
    assert torch.equal(tables.train.images[torch.tensor([5, 50])], Shards(whole).load().train.images[torch.tensor([5, 50])])
    assert sum("bytes=" in name for name in Handler.asked) == 2
    assert tables.train.captions[9] == "pet number 9"


def test_the_cache_stays_small(address, cache_folder):
    total = sum(shard.bytes for shard in Shards(address).load().train.images.whole.index.shards)
    images = Shards(address, buffer=8, cache_gb=0.9 * total / 1e9).load().train.images
    for rows in torch.arange(COUNT).split(6):
        assert len(images.batch(rows)) == 6
        assert sum(file.stat().st_size for file in cache_folder.rglob("*.tar")) <= 0.9 * total
    refused(Shards(address, cache_gb=0.8 * total / 1e9), "data.source.buffer=null", "data.source.cache_gb")
    refused(Shards(address, buffer=40, cache_gb=0.8 * total / 1e9), "data.source.buffer=40", "data.source.cache_gb")


def test_an_address_that_is_down_or_wrong_is_told(packed, address):
    far = module(Shards(address))
    far.prepare()
    corrupt(packed / "train-000001.tar")
    with pytest.raises(CondgenError, match=r"train-000001.tar is corrupt, its sha256 is not that of the index"):
        list(far.train_dataloader())
    (packed / "train-000001.tar").unlink()
    with pytest.raises(CondgenError, match=r"train-000001.tar is missing"):
        list(far.train_dataloader())
    skipping = module(Shards(address, corrupt="skip"))
    assert sum(map(len, (skipping.train, skipping.val, skipping.test))) == COUNT - 8
    Handler.down = True
    refused(Shards(address), address, "cannot be reached", "503", "goes on when it can")
    refused(Shards("http://127.0.0.1:9/none"), "http://127.0.0.1:9/none", "cannot be reached")
    refused(Shards("nowhere://a/b"), "nowhere://a/b", "cannot be opened", "condgen[shards]")


@pytest.mark.slow
def test_batches_from_s3_are_those_of_the_folder(whole, monkeypatch):
    pytest.importorskip("s3fs", reason="no s3fs: pip install 'condgen[shards]'")
    moto = pytest.importorskip("moto.server", reason="no moto to stand for S3: pip install 'moto[server]'")
    import s3fs

    server = moto.ThreadedMotoServer(port=0)
    server.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:{1}".format(*server.get_host_and_port()))
    files = s3fs.S3FileSystem()
    files.mkdir("bucket")
    files.put(str(whole), "bucket/set", recursive=True)
    near, far = (module(Shards(path, buffer=16), workers=2) for path in (whole, "s3://bucket/set"))
    assert same(list(far.train_dataloader()), list(near.train_dataloader()))
    assert same(list(far.val_dataloader()), list(near.val_dataloader()))
    refused(Shards("s3://bucket/none"), "s3://bucket/none", "holds no index.json")
    server.stop()


def test_unused_places_stay_none(whole):
    images = Shards(whole).load().train.images
    assert torch.equal(images.usable(torch.arange(5)), torch.arange(5)) and images.whole.places.lost is None
    lost = replace(images.whole.places, lost=np.arange(COUNT) == 3)
    images.whole = replace(images.whole, places=lost)
    assert images.usable(torch.arange(5)).tolist() == [0, 1, 2, 4]
