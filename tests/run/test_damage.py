"""What damage and refused commands do to a run: they are found, told in a sentence, and cost nothing."""

import json
import random
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from command import condgen

import condgen as package
from condgen.data import cache
from condgen.errors import CondgenError
from condgen.files import remove_leftovers, replacing
from condgen.metrics.kept import cached
from condgen.run.checkpoint import read

TINY = (
    "trainer=cpu",
    "run.threads=1",
    "model=cgan_mlp",
    "model.generator.network.hidden=[8,8,8,8]",
    "data.classes=[0,1]",
    "data.batch_size=8",
    "trainer.max_steps=4",
    "trainer.limit_val_batches=1",
    "callbacks.evaluation=null",
    "callbacks.samples=null",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    result = condgen("train", *TINY, f"hydra.run.dir={root / 'run'}", cwd=root)
    assert result.code == 0, result
    return root / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- a refused resume ---


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.generator.latent=8", "does not fit the model"),
        ("data.classes=[0,1,2]", "another condition"),
        ("data.image_size=14", "1x28x28"),
        ("loss=nothing", "loss"),
    ],
)
def test_a_refused_resume_changes_nothing(run: Path, override: str, words: str) -> None:
    before = content(run)
    sentence = condgen("resume", run, "trainer.max_steps=6", override, cwd=run.parent).sentence()
    assert words in sentence
    after = content(run)
    assert {name for name in after if after[name] != before.get(name)} <= {".lock"}
    assert condgen("resume", run, "trainer.max_steps=6", cwd=run.parent).code == 0


def test_the_checkpoint_of_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    overrides = [text for text in TINY if not text.startswith("model")]
    assert condgen("train", *overrides, "model=cvae_mlp", f"hydra.run.dir={other}", cwd=tmp_path).code == 0
    shutil.copyfile(other / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt")
    before = content(run)
    assert "holds a VAE" in condgen("resume", run, "trainer.max_steps=6", cwd=tmp_path).sentence()
    assert content(run) == before


def test_a_missing_checkpoint_costs_nothing_and_the_best_can_be_gone_on_from(run: Path) -> None:
    (run / "checkpoints" / "last.ckpt").unlink()
    before = content(run)
    sentence = condgen("resume", run, "trainer.max_steps=6", cwd=run.parent).sentence()
    assert "best.ckpt" in sentence and "--from best" in sentence
    assert content(run) == before
    assert condgen("resume", run, "trainer.max_steps=6", "--from", "best", cwd=run.parent).code == 0
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["counts"]["updates"] == 6


def test_a_run_killed_before_its_first_checkpoint_starts_again(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.json").unlink()
    assert condgen("resume", run, cwd=run.parent).code == 0
    assert (run / "checkpoints" / "last.ckpt").is_file()


# --- writing elsewhere ---


def test_a_stored_logger_may_not_write_outside_the_run(run: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "provenance.json"):
        text = (run / name).read_text()
        stored = yaml.safe_load(text)
        config = stored if name == "config.yaml" else stored["sessions"][-1]["config"]
        config["logger"]["csv"]["directory"] = str(tmp_path / "elsewhere")
        (run / name).write_text(yaml.safe_dump(stored) if name == "config.yaml" else json.dumps(stored))
    assert "outside the run" in condgen("resume", run, "trainer.max_steps=6", cwd=tmp_path).sentence()
    assert not (tmp_path / "elsewhere").exists()


def test_temporary_names_cannot_be_guessed_and_leftovers_go(tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        with replacing(tmp_path / "a.txt") as temporary:
            names.add(temporary.name)
            temporary.write_text("x")
    assert len(names) == 2 and [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    shutil.copyfile(tmp_path / "a.txt", tmp_path / next(iter(names)))
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_status_prints_no_control_characters(run: Path) -> None:
    status = json.loads((run / "status.json").read_text()) | {"state": "failed", "error": "a\x1b[2Jb"}
    (run / "status.json").write_text(json.dumps(status))
    out = condgen("status", run, cwd=run.parent).out
    assert "\x1b" not in out and "a?[2Jb" in out


# --- flipped bits ---


def test_every_flipped_bit_of_the_weights_is_found(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    intact, stream = path.read_bytes(), random.Random(0)
    expected = read(path)["state_dict"]
    for _ in range(20):
        damaged = bytearray(intact)
        damaged[stream.randrange(len(damaged))] ^= 1 << stream.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read(path)["state_dict"]
        except CondgenError:
            continue
        assert all(torch.equal(found[name], expected[name]) for name in expected)  # a byte between the records


def test_weights_that_are_no_numbers_are_refused(run: Path) -> None:
    path = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    name = next(name for name in checkpoint["state_dict"] if name.startswith("generator.network"))
    checkpoint["state_dict"][name].view(-1)[0] = torch.nan
    path.unlink()
    torch.save(checkpoint, path)
    with pytest.raises(CondgenError, match="NaN or infinite"):
        package.load(run)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "flipped"])
def test_a_damaged_cache_is_made_again(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDGEN_CACHE", str(tmp_path))
    values = {"a": torch.arange(100.0)}
    cached("some", lambda: values)
    images = torch.randint(256, (6, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def fill(pixels: cache.Pixels) -> None:
        pixels[:] = images.numpy()

    cache.keep("images", (6, 1, 4, 4), fill, 0.25, costly=True)
    for file in (tmp_path / "metrics" / "some.safetensors", tmp_path / "images.npy"):
        whole = file.read_bytes()
        flipped = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
        file.write_bytes({"cut": whole[:-9], "empty": b"", "garbage": b"x" * 300, "flipped": flipped}[damage])
    made = []
    found = cached("some", lambda: made.append(1) or values)
    assert made and torch.equal(found["a"], values["a"])
    assert torch.equal(cache.keep("images", (6, 1, 4, 4), fill, 0.25, costly=True), images)
    assert torch.equal(safetensors.torch.load_file(tmp_path / "metrics" / "some.safetensors")["a"], values["a"])
