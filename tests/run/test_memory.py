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
def test_three_hundred_updates_take_no_more_memory_than_one_hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc, which this system does not have")
    after_batch, memory = Progress.on_train_batch_end, {}

    def note(self: Progress, trainer: Any, *arguments: Any) -> None:
        memory[trainer.global_step] = resident()
        after_batch(self, trainer, *arguments)

    monkeypatch.setattr(Progress, "on_train_batch_end", note)
    overrides = ["trainer=cpu", "trainer.max_epochs=-1", "trainer.max_steps=300", "callbacks.evaluation.every_steps=25"]
    overrides += ["callbacks.samples.every_steps=25", "callbacks.checkpoint.every_steps=25", "data.batch_size=16"]
    overrides += ["callbacks.evaluation.samples=200", "callbacks.evaluation.final=null"]
    periods = ["callbacks.evaluation.every_epochs=null", "callbacks.samples.every_epochs=null"]
    result = condgen("train", "experiment=mnist_acgan", *overrides, *periods, cwd=tmp_path)
    assert result.code == 0, result
    (run,) = tmp_path.glob("outputs/*/*")
    assert json.loads((run / "metrics.json").read_text())["last"]["step"] == 300
    assert memory[300] <= 1.03 * memory[100], memory
