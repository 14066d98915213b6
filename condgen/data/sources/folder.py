"""Any folder of class sub-folders."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from condgen.data import cache
from condgen.data.decode import SUFFIXES, decode_all
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.data.undecoded import Undecoded
from condgen.errors import CondgenError
from condgen.images import Picture
from condgen.spaces import Space


class ImageFolder:
    """Images in ``path/CLASS/*.png`` (jpg, jpeg, bmp, webp too; deeper sub-folders count), classes in sorted order.

    A folder with nothing but ``train`` and ``test``, each with class sub-folders, brings its own split.

    Args:
        path: the folder.
    """

    suffixes: tuple[str, ...] = SUFFIXES
    what = "images"
    made: Space | None = None
    """See `Table`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def decode(self, stem: str, identity: object, pictures: Sequence[Picture], decoding: Decoding) -> Tensor | Undecoded:
        """Return all files as samples; see `decode_all`."""
        return decode_all(stem, identity, pictures, decoding)

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load all images; raises CondgenError naming the folder or the file that is wrong."""
        if not self.path.is_dir():
            raise CondgenError(f"{self.path} is not a folder: name one that has a sub-folder of {self.what} for each class.")
        names = _subfolders(self.path)
        if "train" not in names or not set(names) <= {"train", "test"}:
            return Tables(self._table(self.path, names, decoding), None, names)
        classes = _subfolders(self.path / "train")
        train = self._table(self.path / "train", classes, decoding)
        if "test" not in names:
            return Tables(train, None, classes)
        if differing := set(classes) ^ set(_subfolders(self.path / "test")):
            raise CondgenError(f"{self.path}: train and test must have the same classes, but {min(differing)} is in one only.")
        test = self._table(self.path / "test", classes, decoding)
        if not decoding.later and test.images.shape[1:] != train.images.shape[1:]:
            raise CondgenError(
                f"{self.path}: the images in test and train differ, {tuple(test.images.shape[1:])} and "
                f"{tuple(train.images.shape[1:])}: set data.image_size and data.channels to make them alike."
            )
        return Tables(train, test, classes)

    def _table(self, path: Path, classes: list[str], decoding: Decoding) -> Table:
        if not classes:
            raise CondgenError(
                f"{path} holds no {self.what} in class sub-folders: it needs FOLDER/CLASS/NAME{self.suffixes[0]}."
            )
        files, labels = [], []
        for label, name in enumerate(classes):
            found = sorted(file for file in (path / name).rglob("*") if file.suffix.lower() in self.suffixes and file.is_file())
            if not found:
                raise CondgenError(f"The class folder {path / name} holds no {self.what} ({', '.join(self.suffixes)}).")
            files += found
            labels += [label] * len(found)
        identity = [cache.stamp(file) for file in files]
        pictures = [Picture(str(file), file.read_bytes) for file in files]
        return Table(self.decode(path.resolve().name, identity, pictures, decoding), torch.tensor(labels), made=self.made)


def _subfolders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
