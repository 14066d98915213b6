"""Any folder of recordings, with class sub-folders or a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from condgen.audio import Normalize
from condgen.data.sounds import SUFFIXES, Recordings, Sounds
from condgen.data.sources.folder import ImageFolder
from condgen.data.sources.table import ImageTable, Kind
from condgen.data.tables import AS_IS, Decoding, Tables
from condgen.images import Picture
from condgen.types import Name


class AudioFolder(ImageFolder):
    """Recordings in ``path/CLASS/*.wav`` (flac and ogg too), laid out as `ImageFolder` has images.

    Args:
        path: the folder.
        space: what a sample is.
        normalize: see `condgen.audio.fitted_to`.
    """

    suffixes, what = SUFFIXES, "recordings"

    def __init__(self, path: str | Path, space: Sounds, normalize: Normalize = "peak"):
        super().__init__(path)
        self.recordings = Recordings(space, normalize)
        self.made = space

    def decode(self, stem: str, identity: object, pictures: Sequence[Picture], decoding: Decoding) -> Tensor:
        """Return all recordings, see `Recordings.read_all`."""
        return self.recordings.read_all(stem, identity, pictures, decoding)


class AudioTable(ImageTable):
    """Recordings in a folder, with attributes from the columns of a table; see `ImageTable`.

    Args:
        path: the folder.
        space: what a sample is.
        normalize: see `condgen.audio.fitted_to`.
        file: see `ImageTable`.
        columns: see `ImageTable`.
        name: the column of file names.
        label: see `ImageTable`.
    """

    what = "recording"

    def __init__(
        self,
        path: str | Path,
        space: Sounds,
        normalize: Normalize = "peak",
        file: str | Path = "labels.csv",
        columns: Sequence[Name] | Mapping[Name, Kind | None] | None = None,
        name: str = "file",
        label: str = "class",
    ):
        super().__init__(path, file, columns, name, label)
        self.recordings = Recordings(space, normalize)
        self.made = space

    def decode(self, stem: str, identity: object, pictures: Sequence[Picture], decoding: Decoding) -> Tensor:
        """Return all recordings, see `Recordings.read_all`."""
        return self.recordings.read_all(stem, identity, pictures, decoding)


class Audio:
    """Recordings in class sub-folders, or with a table of attributes.

    Args:
        path: the folder.
        space: what a sample is.
        normalize: see `condgen.audio.fitted_to`.
        file: the table, see `ImageTable`; None: the sub-folders are the classes.
        columns: see `ImageTable`.
        name: the column of file names.
        label: the column that is also the class, if there is one.
    """

    def __init__(
        self,
        path: str | Path,
        space: Sounds,
        normalize: Normalize = "peak",
        file: str | Path | None = None,
        columns: Sequence[Name] | Mapping[Name, Kind | None] | None = None,
        name: str = "file",
        label: str = "class",
    ):
        self.source: AudioFolder | AudioTable = (
            AudioFolder(path, space, normalize)
            if file is None
            else AudioTable(path, space, normalize, file, columns, name, label)
        )

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load all recordings; raises CondgenError naming the folder, the file or the row that is wrong."""
        return self.source.load(decoding)
