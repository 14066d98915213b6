"""Checkpoints are written by a thread, as they were when they were asked for, whole or not at all."""

import errno
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from command import TINY, condgen, only_run

from condgen.errors import CondgenError
from condgen.run.status import read_status
from condgen.run.writing import CheckpointWriter, copied

SAVE = torch.save


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def test_what_changes_while_a_checkpoint_is_written_does_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, go_on = tmp_path / "last.ckpt", threading.Event()
    monkeypatch.setattr(torch, "save", lambda *arguments: (go_on.wait(30), SAVE(*arguments)))
    SAVE({"before": True}, path)
    weights, curve = torch.arange(3.0), [1.0]
    writer = CheckpointWriter()
    writer.save_checkpoint({"weights": weights, "curve": curve}, path)
    weights.zero_()
    curve.append(2.0)
    writer.check()
    assert read(path) == {"before": True}
    go_on.set()
    writer.wait()
    found = read(path)
    assert found["weights"].tolist() == [0, 1, 2] and found["curve"] == [1.0]
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]
    writer.teardown()


def test_a_copy_shares_what_its_original_shares_and_keeps_what_a_state_dict_carries() -> None:
    whole = torch.arange(6.0)
    state = OrderedDict(a=whole, again=whole, half=whole[:3], turned=whole.view(2, 3).T)
    state._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    twin = copied({"state": state, "pair": (whole, None)}, {})
    assert twin["state"]._metadata == state._metadata and type(twin["pair"]) is tuple
    assert twin["state"]["a"] is twin["state"]["again"] is twin["pair"][0] and twin["pair"][0] is not whole
    assert torch.equal(twin["state"]["half"], whole[:3]) and torch.equal(twin["state"]["turned"], whole.view(2, 3).T)


def test_a_failure_is_told_once_and_nothing_that_depends_on_it_is_done(tmp_path: Path) -> None:
    writer, done = CheckpointWriter(), []
    (tmp_path / "file").touch()
    writer.save_checkpoint({}, tmp_path / "file" / "last.ckpt")
    writer.then(lambda: done.append("link"))
    with pytest.raises(CondgenError, match=r"last.ckpt could not be written"):
        writer.wait()
    writer.check()
    writer.save_checkpoint({}, tmp_path / "last.ckpt")
    writer.then(lambda: done.append("link"))
    writer.wait()
    assert done == ["link"] and read(tmp_path / "last.ckpt") == {}
    writer.teardown()


def test_a_disk_that_is_full_in_mid_run_ends_it_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = []

    def full(content: Any, path: Any) -> None:
        saves.append(path)
        if len(saves) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        SAVE(content, path)

    monkeypatch.setattr(torch, "save", full)
    arguments = ("model=cgan_mlp", "trainer.max_epochs=9", "callbacks.samples=null")
    result = condgen("train", *TINY, *arguments, cwd=tmp_path)
    assert result.code == 1 and "last.ckpt could not be written (No space left on device)" in result.err.splitlines()[-1], (
        result
    )
    run, status = only_run(tmp_path), read_status(only_run(tmp_path))
    assert status is not None and status.state == "failed" and "could not be written" in str(status.error)
    assert read(run / "checkpoints/last.ckpt")["global_step"] == 2, "the one before is whole"
    assert len(saves) < 9
