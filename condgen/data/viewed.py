"""A data set as what extractors look at: images as they are, waveforms as their log-mel images."""

from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from condgen.data.module import DataModule
from condgen.data.pixels import chunks
from condgen.data.tables import Part, Table
from condgen.spaces import Images, Space, Viewed, to_uint8


def viewed(data: DataModule) -> DataModule:
    """Return ``data``, split and conditioned alike, with the images of its samples in their place."""
    space = data.space
    if isinstance(space, Images) or not isinstance(space, Viewed):
        return data
    tables: dict[Table, Table] = {}

    def seen(part: Part | None) -> Part | None:
        if part is None:
            return None
        if part.table not in tables:
            whole, rows = part.table.images, torch.arange(len(part.table))
            blocks = [images_of(whole[some], space) for some in chunks(rows, whole)]
            tables[part.table] = replace(part.table, images=torch.cat(blocks), made=space.view)
        return Part(tables[part.table], part.rows)

    other, known = copy(data), data._prepared
    train, val = seen(known.train), seen(known.val)
    assert train is not None and val is not None
    fitted = train.table.space(train.rows)
    prepared = replace(known, space=fitted, train=train, val=val, test=seen(known.test), canaries=None)
    other.__dict__ |= {"_prepared": prepared, "_placed": {}, "_loaders": []}
    return other


def as_kept(samples: Tensor) -> Tensor:
    """Return samples as a data set keeps them: images (N, C, H, W) as uint8, all else as it is."""
    return to_uint8(samples) if samples.dim() == 4 else samples


def images_of(samples: Tensor, space: Space) -> Tensor:
    """Return the images, uint8 (N, C, H, W), of samples (N, *shape); what is uint8 is images already."""
    assert isinstance(space, Viewed)
    return samples if samples.dtype == torch.uint8 else to_uint8(space.viewed(samples))
