"""A run directory belongs to one run; what the machine takes away ends in one sentence and spoils no checkpoint."""

import contextlib
import hashlib
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import TINY, condgen
from PIL import Image

from condgen.errors import CondgenError
from condgen.run import directory as rundir
from condgen.run.status import read_status

ONE = ("experiment=none", "model=cvae_mlp", *TINY, "trainer.max_epochs=1")


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse to write files beyond ``size`` bytes, as a full disk refuses (root is not exempt from this)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def digest(path: Path) -> str:
    """A file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_directory_that_holds_a_run_is_refused(vae_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(vae_run, tmp_path / "run"))
    before = {path: digest(path) for path in run.rglob("*") if path.is_file()}
    sentence = condgen("train", *ONE, "hydra.run.dir=run", cwd=tmp_path).sentence()
    assert f"{run} holds a run already" in sentence and f"condgen resume {run}" in sentence
    assert {path: digest(path) for path in run.rglob("*") if path.is_file()} == before


def test_a_directory_in_which_a_run_trains_is_refused(vae_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(vae_run, tmp_path / "run"))
    with rundir.locked(run):
        assert "is in use" in condgen("resume", run, "trainer.max_epochs=3", cwd=tmp_path).sentence()
        with pytest.raises(CondgenError, match="in use"), rundir.locked(run):
            pass
    assert len(rundir.read_sessions(run)) == 1
    assert condgen("resume", run, "trainer.max_epochs=3", cwd=tmp_path).code == 0


def test_a_full_disk_keeps_the_last_checkpoint(vae_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(vae_run, tmp_path / "run"))
    last = run / "checkpoints" / "last.ckpt"
    before = digest(last)
    with largest_file(last.stat().st_size // 2):
        result = condgen("resume", run, "trainer.max_epochs=3", cwd=tmp_path)
    assert result.code == 1 and "Traceback" not in result.err, result
    assert result.err.splitlines()[-1].startswith("condgen: ") and "last.ckpt could not be written" in result.err, result
    assert digest(last) == before and not list(run.rglob("*.tmp"))
    found = read_status(run)
    assert found and found.state == "failed" and "could not be written" in str(found.error)
    assert condgen("resume", run, "trainer.max_epochs=3", cwd=tmp_path).code == 0
    assert torch.load(last, weights_only=True)["global_step"] == 6


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "hydra.run.dir=FOLDER" in condgen("train", *ONE, "hydra.run.dir=file/run", cwd=tmp_path).sentence()


def test_data_that_vanished_are_told_before_anything_is_written(tmp_path: Path) -> None:
    for place in range(40):
        path = tmp_path / "pets" / ("cat", "dog")[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), 6 * place).save(path)
    data = ("data=folder", "data.source.path=pets", "condition=class")
    assert condgen("train", *ONE, *data, "hydra.run.dir=run", cwd=tmp_path).code == 0
    shutil.rmtree(tmp_path / "pets")
    before = {path: digest(path) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert "pets" in condgen("resume", "run", "trainer.max_epochs=2", cwd=tmp_path).sentence()
    assert {path: digest(path) for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(vae_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(vae_run, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.json").unlink()  # written beside the first checkpoint
    assert condgen("resume", run, cwd=tmp_path).code == 0
    one, other = (torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for path in (vae_run, run))
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    rows = [(path / "metrics.csv").read_text().splitlines() for path in (vae_run, run)]
    assert len(rows[0]) == len(rows[1])
