"""condgen in Python: what the commands do, by the same code, in a script or a notebook.

Each function may be called as often as one likes: signals, logging, random numbers and Hydra's state are left as they were.
A mistake raises `condgen.errors.CondgenError` with the sentence that the command would print.
"""

import base64
import html
import io
import json
import logging
import re
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from condgen.errors import CondgenError
from condgen.run.status import Status, read_status

if TYPE_CHECKING:
    from PIL.Image import Image

    from condgen.generators.base import Generator
    from condgen.metrics.record import Record

log = logging.getLogger("condgen")


class Run:
    """A run in its directory: where it stands, its figures, its pictures, and the generator that it trained.

    Nothing is read before it is asked for. In a notebook a run shows its status, its metrics and its newest samples.

    Args:
        directory: what `train` or ``condgen train`` has made.

    Raises:
        CondgenError: no run lies there.

    Example:
        ``Run("outputs/mnist_quick/2026-01-31_12-00-00-000000").model.sample("3", count=8)``
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        if not (self.directory / "config.yaml").is_file():
            raise CondgenError(f"{self.directory} is not a run directory: it has no config.yaml.")

    @cached_property
    def model(self) -> "Generator":
        """The trained generator: of the best checkpoint, where a metric decides which that is, else of the last."""
        from condgen.run.checkpoint import load

        return load(self.directory)

    @property
    def status(self) -> Status:
        """Where the run stands: its state, its update of how many, its best value."""
        return read_status(self.directory) or Status(self.directory, "failed", error="it left no status")

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the best checkpoint, where a metric decides which that is, else the last ones, and their ``step``."""
        try:
            found = json.loads((self.directory / "metrics.json").read_text(encoding="utf-8"))
            return dict(found["best"] or found["last"])
        except (OSError, ValueError, KeyError, TypeError):  # none yet
            return {}

    @property
    def samples(self) -> "Image | None":
        """The newest picture of samples that the training drew; None where it drew none."""
        from PIL import Image

        pictures = sorted((self.directory / "samples").glob("*.png"))
        if not pictures:
            return None
        with Image.open(pictures[-1]) as picture:
            picture.load()
            return picture

    def evaluate(self, *overrides: str, out: str | Path | None = None, device: str = "cpu", trust: bool = False) -> "Record":
        """Measure the run against real images; see `evaluate`."""
        return evaluate(self, *overrides, out=out, device=device, trust=trust)

    def resume(self, *overrides: str, source: str = "last", trust: bool = False) -> "Run":
        """Go on with the run; see `resume`."""
        return resume(self, *overrides, source=source, trust=trust)

    def __repr__(self) -> str:
        """Say where the run lies and how far it is."""
        return f"Run({str(self.directory)!r}: {self._said()})"

    def _said(self) -> str:
        """Say how far the run is."""
        status = self.status
        total = f" of {status.total:,}" if status.total else ""
        at = "" if status.step is None else f", update {status.step:,}{total}"
        return f"{status.state}{at}" + (f", {status.error}" if status.error else "")

    def _repr_html_(self) -> str:
        """Show the run in a notebook."""
        said = html.escape(f"{self.directory.name}: {self._said()}")
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{value:.5g}</td></tr>"
            for name, value in self.metrics.items()
            if isinstance(value, (int, float))
        )
        shown = ""
        if picture := self.samples:
            file = io.BytesIO()
            picture.save(file, format="PNG")
            content = base64.b64encode(file.getvalue()).decode()
            shown = f'<img alt="newest samples" src="data:image/png;base64,{content}">'
        return f"<p><b>{said}</b></p><table>{rows}</table>{shown}"


def train(*overrides: str, directory: str | Path | None = None) -> Run:
    """Train a run as ``condgen train`` does, in this process, and return it.

    Args:
        *overrides: the name of a recipe in ``conf/experiment`` first, where one is wanted; then choices and values as on the
            command line, such as ``"data=cifar10"`` and ``"trainer.max_epochs=1"``.
        directory: where to write; None: a new folder below ``outputs``.

    Raises:
        CondgenError: something cannot work as asked, told before the training starts; losses that stopped being finite; or an
            interruption, after which `resume` goes on.

    Example:
        ``run = condgen.train("mnist_quick", "trainer.max_epochs=1")``
    """
    started = time.monotonic()
    chosen = list(overrides)
    if chosen and not re.match("[-+~]|.*=", chosen[0]):
        chosen[0] = f"experiment={chosen[0]}"
    place = [] if directory is None else [f"hydra.run.dir={quoted(str(directory))}"]
    from condgen.jobs import composed, start
    from condgen.run.messages import undisturbed

    with undisturbed():
        config, folder, said = composed([*chosen, *place])
        if not config["run"]["files"]:
            raise CondgenError("run.files=false leaves no files, which a Run is made of: give run.files=true.")
        start(config, folder, said, started)
    return Run(folder)


def quoted(text: str) -> str:
    """Return ``text`` as Hydra reads it, whatever it holds."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def resume(run: Run | str | Path, *overrides: str, source: str = "last", trust: bool = False) -> Run:
    """Go on with a run that was interrupted, killed or is to be longer, as ``condgen resume`` does, and return it.

    Args:
        run: a run or its directory.
        *overrides: changes such as ``"trainer.max_epochs=40"``.
        source: the checkpoint to go on from, "last" or "best".
        trust: accept foreign classes in the stored configuration.

    Raises:
        CondgenError: no run, a damaged one, or a change that does not fit.

    Example:
        ``condgen.resume(run, "trainer.max_epochs=2")``
    """
    directory = (run.directory if isinstance(run, Run) else Path(run)).resolve()
    from condgen.resume import resume as go_on
    from condgen.run.messages import logging_to, undisturbed

    with undisturbed():
        logging_to(None)
        if message := go_on(directory, list(overrides), trust, source):
            log.info("%s", message)
    if isinstance(run, Run):
        run.__dict__.pop("model", None)  # there may be a better one
    return Run(directory)


def evaluate(
    target: Run | str | Path,
    *overrides: str,
    out: str | Path | None = None,
    device: str = "cpu",
    trust: bool = False,
) -> "Record":
    """Measure a trained model, or anybody's images, against real ones, as ``condgen evaluate`` does.

    Args:
        target: a run, its directory, a checkpoint, an .npz or a folder of class sub-folders of images.
        *overrides: choices and keys of ``conf/evaluate.yaml``, such as ``"split=val"`` or ``"suite=[fid,label_accuracy]"``.
        out: folder to write to; None: beside the run's checkpoints, or below ``outputs/evaluation``.
        device: where to compute.
        trust: accept foreign classes in the stored configuration.

    Returns:
        Every figure with its protocol, beside what real images get.

    Raises:
        CondgenError: something does not fit together; nothing is written.

    Example:
        ``condgen.evaluate(run, "samples=1000").figures["fid"]``
    """
    path = target.directory if isinstance(target, Run) else Path(target)
    from condgen.evaluate import evaluate as measure
    from condgen.run.messages import undisturbed

    with undisturbed():
        record, _ = measure(path, list(overrides), None if out is None else Path(out), device, trust)
    return record
