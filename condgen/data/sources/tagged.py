"""Sets of tags to be generated, and features of the images that they were given to."""

import zipfile
from pathlib import Path

import numpy as np
import torch

from condgen.conditions.fields import Field, Number
from condgen.data.tables import AS_IS, Decoding, Table, Tables
from condgen.errors import CondgenError
from condgen.spaces import TagSets


class TaggedFeatures:
    """Sets of tags as samples, features as their attributes: tags are drawn for images, as by Mirza & Osindero (2014, 4.2).

    An image may stand in several rows with different sets, as several people tag it.

    Args:
        file: an .npz with ``features``, float (N, D), ``tags``, 0 or 1 (N, T), and the ``names`` of the tags, (T,).
    """

    def __init__(self, file: str):
        self.file = Path(file)

    def load(self, decoding: Decoding = AS_IS) -> Tables:
        """Load everything; raises CondgenError naming what is wrong with the file."""
        if decoding.image_size is not None or decoding.channels is not None:
            raise CondgenError("data.image_size and data.channels change images, and these are tags: leave both at null.")
        right = "give an .npz with features, tags and names"
        try:
            with np.load(self.file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in ("features", "tags", "names") if key in archive}
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise CondgenError(f"data.source.file={self.file} cannot be read as arrays: {right}.") from error
        if missing := [key for key in ("features", "tags", "names") if key not in arrays]:
            raise CondgenError(f"data.source.file={self.file} has no {missing[0]}: {right}.")
        features, tags, names = arrays.values()
        if features.ndim != 2 or tags.shape != (len(features), len(names)) or len(features) == 0:
            raise CondgenError(
                f"{self.file}: features must be (N, D), tags (N, T) and names (T,), not {features.shape}, {tags.shape} and "
                f"{names.shape}."
            )
        values, there = torch.from_numpy(features).float(), torch.from_numpy(tags).float()
        if not bool(values.isfinite().all()) or not bool(((there == 0) | (there == 1)).all()):
            raise CondgenError(f"{self.file}: features must be finite numbers, and tags 0 or 1.")
        low, high = values.amin(0), values.amax(0)
        kept = (low < high).nonzero()[:, 0]  # one that is the same for all says nothing
        fields: list[Field] = [Number(f"feature{i}", float(low[i]), float(high[i])) for i in kept.tolist()]
        labels = torch.zeros(len(values), dtype=torch.int64)
        table = Table(2 * there - 1, labels, values[:, kept], made=TagSets([str(name) for name in names]))
        return Tables(table, None, [], fields)
