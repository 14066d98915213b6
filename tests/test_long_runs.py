"""Long runs do not die: their memory does not grow."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import condgen

from condgen.callbacks.progress import Progress


def resident() -> int:
    """Return this process's memory in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


@pytest.mark.slow
def test_two_thousand_updates_take_no_more_memory_than_two_hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc, which this system does not have")
    after_batch, memory = Progress.on_train_batch_end, {}

    def note(self: Progress, trainer: Any, *arguments: Any) -> None:
        memory[trainer.global_step] = resident()
        after_batch(self, trainer, *arguments)

    monkeypatch.setattr(Progress, "on_train_batch_end", note)
    overrides = ["trainer=cpu", "trainer.max_epochs=-1", "trainer.max_steps=2000", "callbacks.evaluation.every_steps=100"]
    overrides += ["callbacks.samples.every_steps=100", "callbacks.checkpoint.every_steps=100"]
    periods = ["callbacks.evaluation.every_epochs=null", "callbacks.samples.every_epochs=null"]
    result = condgen("train", "experiment=mnist_acgan", *overrides, *periods, cwd=tmp_path)
    assert result.code == 0, result
    (run,) = tmp_path.glob("outputs/*/*")
    assert json.loads((run / "metrics.json").read_text())["last"]["step"] == 2000
    assert memory[2000] <= 1.05 * memory[200], memory
