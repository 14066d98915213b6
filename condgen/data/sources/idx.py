"""MNIST and its relatives: four gzipped IDX files (http://yann.lecun.com/exdb/mnist/)."""

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condgen.data import cache
from condgen.data.about import About
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.errors import CondgenError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SHIPPED = Path(__file__).parents[1] / "files" / "mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


class IDX:
    """Any set in MNIST's format.

    Args:
        root: folder of the four files ``{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz``.
        classes: names in the order of the labels.
        md5: MD5 of the uncompressed files by name (without .gz); files that are not listed are not checked.
    """

    def __init__(self, root: str | Path, classes: Sequence[str], md5: Mapping[str, str] | None = None):
        self.root = Path(root)
        self.classes = list(classes)
        self.md5 = dict(md5 or {})

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load both parts, images (N, 1, H, W); raises CondgenError naming the file that is missing or broken."""
        return Tables(self._table(*FILES[:2]), self._table(*FILES[2:]), self.classes)

    def _table(self, images_name: str, labels_name: str) -> Table:
        images = self._read(images_name, dimensions=3)[:, None]
        labels = self._read(labels_name, dimensions=1).long()
        if len(images) != len(labels):
            raise CondgenError(f"{self._file(labels_name)} has {len(labels)} labels for {len(images)} images.")
        if len(labels) == 0:
            raise CondgenError(f"{self._file(images_name)} holds no images.")
        if int(labels.max()) >= len(self.classes):
            raise CondgenError(
                f"{self._file(labels_name)} holds the label {int(labels.max())}, out of the range 0..{len(self.classes) - 1}."
            )
        return Table(images, labels)

    def _file(self, name: str) -> Path:
        return self.root / f"{name}.gz"

    def _read(self, name: str, dimensions: int) -> Tensor:
        file = self._file(name)
        try:
            data = gzip.decompress(file.read_bytes())
        except FileNotFoundError:
            raise CondgenError(f"{file} is missing: the folder must hold {', '.join(f'{f}.gz' for f in FILES)}.") from None
        except (OSError, EOFError, zlib.error) as error:
            raise CondgenError(f"{file} cannot be read, it is corrupt or truncated ({error}): take a whole copy.") from None
        if name in self.md5 and (found := hashlib.md5(data, usedforsecurity=False).hexdigest()) != self.md5[name]:
            raise CondgenError(f"{file} is not the published file: its content has the MD5 {found}, not {self.md5[name]}.")
        header = 4 + 4 * dimensions
        shape = tuple(np.frombuffer(data[4:header], ">u4").tolist()) if len(data) >= header else ()
        if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) != header + math.prod(shape):
            raise CondgenError(f"{file} is not an IDX file of {dimensions} dimensions of bytes, or it is truncated.")
        return torch.from_numpy(np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy())


class MNIST(IDX):
    """The MNIST digits, 60,000 + 10,000 images (1, 28, 28); they ship with condgen (licence: files/mnist/NOTICE)."""

    about = About(
        "MNIST",
        "http://yann.lecun.com/exdb/mnist/",
        "cc-by-sa-3.0",
        "By Yann LeCun, Corinna Cortes and Christopher J. C. Burges, under Creative Commons Attribution-ShareAlike 3.0.",
        "ylecun/mnist",
    )

    def __init__(self) -> None:
        sums = (
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        )
        super().__init__(SHIPPED, [str(digit) for digit in range(10)], dict(zip(FILES, sums, strict=True)))


class FashionMNIST(IDX):
    """Fashion-MNIST, 60,000 + 10,000 images (1, 28, 28) (https://github.com/zalandoresearch/fashion-mnist).

    Args:
        root: folder of the four .gz files. None: where Debian's package puts them, else the cache folder, into which
            torchvision downloads them when they are not there yet.
    """

    about = About(
        "Fashion-MNIST",
        "https://github.com/zalandoresearch/fashion-mnist",
        "mit",
        "By Han Xiao, Kashif Rasul and Roland Vollgraf; copyright 2017 Zalando SE, under the MIT licence.",
        "zalando-datasets/fashion_mnist",
    )

    def __init__(self, root: str | Path | None = None):
        names = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
        downloaded = cache.folder() / "FashionMNIST" / "raw"
        super().__init__(root or next((place for place in (DEBIAN, downloaded) if _complete(place)), downloaded), names)
        self.download = root is None

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load both parts; raises CondgenError when the files are neither there nor to be had."""
        if self.download and not _complete(self.root):
            self._download()
        return super().load(decoding)

    def _download(self) -> None:
        from torchvision.datasets import FashionMNIST as Published

        try:
            with cache.locked(cache.folder() / "FashionMNIST"):
                Published(cache.folder(), download=True)
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise CondgenError(
                f"Fashion-MNIST is neither in {DEBIAN} nor in {self.root}, and its download failed ({reason}): "
                "install Debian's package dataset-fashion-mnist, or name a folder of the four .gz files with "
                "data.source.root=FOLDER."
            ) from None


def _complete(root: Path) -> bool:
    return all((root / f"{name}.gz").is_file() for name in FILES)
