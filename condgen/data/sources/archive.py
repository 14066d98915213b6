"""Zips of images in the layout of StyleGAN's and EDM's dataset tools (https://github.com/NVlabs/edm, dataset_tool.py)."""

import json
import os
import zipfile
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condgen.data import cache
from condgen.data.decode import SUFFIXES, decode_all
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.errors import CondgenError
from condgen.images import BROKEN, Picture


class ImageArchive:
    """Images in a zip such as ``00000/img00000000.png``, with labels in its ``dataset.json``.

    ``dataset.json`` holds ``{"labels": [["00000/img00000000.png", 3], ...], "classes": ["airplane", ...]}``;
    ``"labels": null`` is a set without classes, and without ``classes`` they are called "0", "1", ...

    Args:
        path: the zip with the training images.
        test: a second zip with the test images, if there is one.
        classes: names to use where the zip has none.
    """

    def __init__(self, path: str | Path, test: str | Path | None = None, classes: Sequence[str] = ()):
        self.path = Path(path)
        self.test = Path(test) if test else None
        self.classes = list(classes)

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load both zips; raises CondgenError naming the zip, and the image in it, that is broken."""
        train, classes = _load(self.path, self.classes, decoding)
        test = _load(self.test, classes, decoding)[0] if self.test else None
        if test is not None and not decoding.later and test.images.shape[1:] != train.images.shape[1:]:
            raise CondgenError(
                f"{self.test} holds images of shape {tuple(test.images.shape[1:])} where {self.path} has "
                f"{tuple(train.images.shape[1:])}: set data.image_size and data.channels to make them alike."
            )
        return Tables(train, test, classes)


def _load(path: Path, classes: list[str], decoding: Decoding) -> tuple[Table, list[str]]:
    if not path.is_file():
        raise CondgenError(f"{path} does not exist: name a zip in the layout of EDM's dataset tool.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.lower().endswith(SUFFIXES))
            if not names:
                raise CondgenError(f"{path} holds no images ({', '.join(SUFFIXES)}).")
            labels, classes = _labels(path, _index(path, archive), names, classes)
            if decoding.later:  # read when this archive is closed, maybe in another process
                pictures = [Picture(f"{path}/{name}", partial(_read, path, name)) for name in names]
            else:
                pictures = [Picture(f"{path}/{name}", partial(archive.read, name)) for name in names]
            return Table(decode_all(path.stem, cache.stamp(path), pictures, decoding), labels), classes
    except (OSError, zipfile.BadZipFile) as error:
        raise CondgenError(f"{path} is not a readable zip, it is corrupt or truncated ({error}): take a whole copy.") from None


def _read(path: Path, name: str) -> bytes:
    return _opened(path, os.getpid()).read(name)


@lru_cache(2)
def _opened(path: Path, process: int) -> zipfile.ZipFile:
    """Open a zip once for each process: those that were forked would move each other's place in the file."""
    return zipfile.ZipFile(path)


def _index(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        index = json.loads(archive.read("dataset.json"))
    except KeyError:
        raise CondgenError(f'{path} has no dataset.json: it must hold {{"labels": [[image, class], ...]}}, or null.') from None
    except (*BROKEN, RuntimeError) as error:  # the last: encrypted, or compressed in a way that zipfile does not know
        raise CondgenError(
            f"{path}/dataset.json cannot be read ({error}): pack the archive anew, without a password."
        ) from None
    if not isinstance(index, dict) or not isinstance(index.get("labels"), list | None):
        raise CondgenError(f'{path}/dataset.json must hold {{"labels": [[image, class], ...]}}, or null.')
    return index


def _labels(path: Path, index: dict[str, Any], names: list[str], classes: list[str]) -> tuple[Tensor, list[str]]:
    """Return labels (N,) in the order of ``names``, and the class names."""
    if not index.get("labels"):
        return torch.zeros(len(names), dtype=torch.int64), []
    try:
        labels = {str(name): label for name, label in index["labels"]}
    except (TypeError, ValueError):
        raise CondgenError(f"{path}/dataset.json: every entry of labels must be a pair [image, class].") from None
    if missing := labels.keys() - set(names):
        raise CondgenError(f"{path}/dataset.json labels the image {min(missing)}, which is not in the zip.")
    if bare := set(names) - labels.keys():
        raise CondgenError(f"{path}/dataset.json has no label for the image {min(bare)}.")
    if not isinstance(index.get("classes"), list | None):
        raise CondgenError(f"{path}/dataset.json: classes must be a list of names, or left out.")
    classes = [str(name) for name in index.get("classes") or ()] or classes
    if len(set(classes)) < len(classes):
        raise CondgenError(f"{path}/dataset.json names a class twice.")
    for name, label in labels.items():
        if type(label) is not int or label < 0 or (classes and label >= len(classes)):
            raise CondgenError(
                f"{path}/dataset.json gives the image {name} the label {label!r}: "
                f"it must be a whole number in 0..{len(classes) - 1 if classes else 'K-1'}."
            )
    used = set(labels.values())
    count = len(classes) or max(used) + 1
    if len(used) < count:
        empty = next(label for label in range(count) if label not in used)
        named = f" ({classes[empty]})" if classes else f", and labels up to {count - 1}"
        raise CondgenError(f"{path} has no image of class {empty}{named}: every class needs one.")
    classes = classes or [str(label) for label in range(count)]
    return torch.tensor([labels[name] for name in names]), classes
