"""A data set of images that is written piece by piece: killed, it goes on, and nothing half stands where it is wanted."""

import contextlib
import csv
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

from condgen.errors import CondgenError
from condgen.files import hold, replacing, write_json, write_text

COLUMNS = ("file", "label", "part", "source", "model", "weights", "seed", "index", "confidence", "nearest")
"""Of ``table.csv``: ``source`` is real or generated; the rest say of a generated image what made it, and "-" of a real one."""
Row = dict[str, str]


def require_same(kept: Path, asked: dict[str, Any], refusal: str) -> None:
    """Note in the file ``kept`` what is asked for, so that it can go on; raises CondgenError where something else was begun."""
    plain = json.loads(json.dumps(asked, default=str))
    if kept.is_file() and json.loads(kept.read_text(encoding="utf-8")) != plain:
        raise CondgenError(refusal)
    write_json(kept, plain)


class Made(NamedTuple):
    """An image to be written: its row, the file among it, and the bytes of a PNG."""

    row: Row
    png: bytes


class Stage:
    """The folder in which a data set grows, beside the one that is asked for.

    Args:
        out: the folder or zip that is asked for, which must not exist.
        asked: what is written, plain values; what was begun for something else is refused.

    Raises:
        CondgenError: there is something at ``out`` already, something else was begun, or another process writes it.
    """

    def __init__(self, out: Path, asked: dict[str, Any]):
        self.out, self.folder = out, out.parent / f".{out.name}.unfinished"
        if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
            raise CondgenError(f"--out {out} exists already: choose another, nothing was overwritten.")
        refusal = f"{self.folder} was begun for something else: remove it, or choose another --out."
        require_same(self.folder / "asked.json", asked, refusal)
        self.held = hold(self.folder, f"--out {out} is being written by another condgen augment: wait for it.")
        (self.folder / "pieces").mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        """Return the stage, which no other process writes to meanwhile."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Let other processes go on with it."""
        os.close(self.held)

    def piece(self, name: str, images: Iterable[Made]) -> list[Row]:
        """Write the images of a piece, unless that was done before, and return their rows; ``images`` are made only then."""
        done = self.folder / "pieces" / f"{name}.json"
        if done.is_file():
            found: list[Row] = json.loads(done.read_text(encoding="utf-8"))
            return found
        rows = []
        for row, png in images:
            file = self.folder / "files" / row["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png)  # the piece counts only once its rows are there
            rows.append(row)
        write_json(done, rows)
        return rows

    def finish(self, rows: list[Row], classes: list[str]) -> list[Path]:
        """Put the whole in its place: a folder, or a zip for each part; return what was written."""
        if self.out.suffix == ".zip":
            parts = list(dict.fromkeys(row["part"] for row in rows))
            places = [self.out if part == "train" else self.out.with_name(f"{self.out.stem}-{part}.zip") for part in parts]
            for part, place in zip(parts, places, strict=True):
                self.pack(place, [row for row in rows if row["part"] == part], classes)
        else:
            places = [self.out]
            write_text(self.folder / "files" / "table.csv", table(rows))
            with contextlib.suppress(FileNotFoundError):
                self.out.rmdir()  # an empty one
            (self.folder / "files").replace(self.out)
        shutil.rmtree(self.folder)
        return places

    def pack(self, place: Path, rows: list[Row], classes: list[str]) -> None:
        """Write a zip in the layout of StyleGAN's and EDM's dataset tools, with the table beside its ``dataset.json``."""
        labels = [[row["file"], classes.index(row["label"])] for row in rows]
        with replacing(place) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for row in rows:
                archive.write(self.folder / "files" / row["file"], row["file"])
            archive.writestr("dataset.json", json.dumps({"labels": labels, "classes": classes}))
            archive.writestr("table.csv", table(rows))


def table(rows: list[Row]) -> str:
    """Return rows as CSV; what is not known is "-"."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="-", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
