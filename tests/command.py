"""Runs ``condgen`` the way a shell does, but in this process: importing torch for each command would take most of the time."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from condgen.cli import main

TINY = (
    "data.batch_size=4",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "callbacks.evaluation=null",
)
"""A run of two steps for each epoch."""
FEWER = f"data.imbalance={{{','.join(f'{digit}: 0.1' for digit in range(10))}}}"
"""A tenth of MNIST's training images, of every class alike: floors and nearest neighbours look at all of them."""


@dataclass
class Result:
    """What a command left behind in its terminal."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"

    def sentence(self) -> str:
        """Return the one sentence on stderr with which a mistake of the user's has to end."""
        assert self.code == 1, self
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("condgen: ") and lines[0].endswith("."), self
        assert self.out == "" and "Traceback" not in self.err, self
        return lines[0].removeprefix("condgen: ")


def condgen(*arguments: object, cwd: Path) -> Result:
    """Run ``condgen ARGUMENTS`` in the folder ``cwd``; an exception other than its exit is a defect and escapes."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None  # as a fresh process finds it
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        patch.object(sys, "argv", ["condgen", *map(str, arguments)]),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Result(code, out.getvalue(), err.getvalue())


def only_run(root: Path) -> Path:
    """Return the one run directory under ``root``/outputs."""
    (found,) = (root / "outputs").glob("*/*")
    return found
