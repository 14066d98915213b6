"""Where curves go: TensorBoard and a CSV table, both of which go on where a resumed run takes up."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from condgen.audio import to_wav
from condgen.errors import CondgenError
from condgen.files import replacing


class RunLogger(Logger):
    """A logger that knows of resumed runs and of pictures. Others, such as Weights & Biases', are told figures alone."""

    def resume(self, step: int) -> None:
        """Forget what a killed run wrote after update ``step``."""

    def log_picture(self, name: str, picture: Tensor, step: int) -> None:
        """Show a uint8 picture (3, H, W), where pictures can be shown."""

    def log_sound(self, name: str, sound: Tensor, rate: int, step: int) -> None:
        """Play a waveform (T,) in [-1, 1], where sounds can be played."""


class TensorBoard(RunLogger, TensorBoardLogger):
    """TensorBoard events in ``directory/tensorboard``.

    Args:
        directory: the run directory.
    """

    def __init__(self, directory: str):
        super().__init__(save_dir=directory, name="", version="tensorboard", default_hp_metric=False)

    def resume(self, step: int) -> None:
        """Let the events that a killed run wrote after ``step`` be ignored."""
        self._kwargs["purge_step"] = step + 1

    @rank_zero_only
    def log_picture(self, name: str, picture: Tensor, step: int) -> None:
        """Show a uint8 picture (3, H, W)."""
        self.experiment.add_image(name, picture, step)

    @rank_zero_only
    def log_sound(self, name: str, sound: Tensor, rate: int, step: int) -> None:
        """Play a waveform (T,) in [-1, 1]."""
        audio = Summary.Audio(
            sample_rate=float(rate),
            num_channels=1,
            length_frames=len(sound),
            encoded_audio_string=to_wav(sound, rate),
            content_type="audio/wav",
        )
        summary = Summary(value=[Summary.Value(tag=name, audio=audio)])
        self.experiment._get_file_writer().add_summary(summary, step)

    @rank_zero_only
    def save(self) -> None:
        """Write what is pending; the configuration lies in config.yaml, no hparams.yaml is needed."""
        self.experiment.flush()


def show(loggers: Iterable[Logger], name: str, picture: Tensor, step: int) -> None:
    """Hand a uint8 picture (3, H, W) to those of ``loggers`` that may show pictures."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.log_picture(name, picture, step)


def play(loggers: Iterable[Logger], name: str, sound: Tensor, rate: int, step: int) -> None:
    """Hand a waveform (T,) in [-1, 1] to those of ``loggers`` that may play sounds."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.log_sound(name, sound, rate, step)


def write_hparams(directory: Path, settings: Mapping[str, str], values: Mapping[str, float]) -> None:
    """Let TensorBoard's HPARAMS tab compare a finished run: its settings, and ``best/...``, its metrics at the best checkpoint.

    Args:
        directory: the run's; nothing is written where that was done before.
        settings: what was varied, as on the command line; numbers are written as numbers.
        values: metrics by name.
    """
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    folder, ending = directory / "tensorboard", ".hparams"
    if any(folder.glob(f"*{ending}")):
        return
    best = {f"best/{name}": value for name, value in values.items()}
    with SummaryWriter(str(folder), filename_suffix=ending) as writer:
        for summary in hparams({key: plain_value(text) for key, text in settings.items()}, best):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary)
        for name, value in best.items():
            writer.add_scalar(name, value)


def plain_value(text: str) -> float | bool | str:
    """Read a number or a truth value where ``text`` is one."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text


class CSV(RunLogger):
    """``directory/metrics.csv``: each row a step and what was measured there, a column for each metric.

    Args:
        directory: the run directory.
    """

    def __init__(self, directory: str):
        super().__init__()
        self.path = Path(directory) / "metrics.csv"
        self._columns: list[str] = []
        self._newest: list[dict[str, str]] = []  # rows of the newest step, as they stand in the file

    @property
    def name(self) -> str:
        """The logger's name."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one table for a run directory."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration lies in config.yaml."""

    def resume(self, step: int) -> None:
        """Drop the rows that a killed run wrote after ``step``, and one that the kill cut short."""
        if rows := self._read():
            self._columns = list(rows[0])
            whole = rows if self.path.read_bytes().endswith(b"\n") else rows[:-1]
            kept = [row for row in whole if (row["step"] or "").isdecimal() and int(row["step"]) <= step]
            newest = [row for row in kept if row["step"] == kept[-1]["step"]]
            self._newest = [{name: value for name, value in row.items() if value} for row in newest]
            self._write(kept)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row, under a longer header if it brings a new metric."""
        row: dict[str, Any] = {"step": step, **metrics}
        told = {name: str(value) for name, value in row.items()}
        if told in self._newest:  # the last evaluation again, of the end or of a run that was killed in it
            return
        self._newest = [*(one for one in self._newest if one["step"] == told["step"]), told]
        if not self._columns or not row.keys() <= set(self._columns):
            rows = self._read()
            self._columns = list(dict.fromkeys([*self._columns, *(rows[0] if rows else []), *row]))
            self._write([*rows, row])
        else:
            try:
                with self.path.open("a", newline="") as file:
                    csv.DictWriter(file, self._columns).writerow(row)
            except OSError as error:
                raise CondgenError(f"{self.path} could not be written ({error.strerror}).") from error

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
