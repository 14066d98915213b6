"""Canaries: images of noise, each among the training images by the toss of a coin, so that an audit can guess which are.

What an auditor guesses right of many coins in one training bounds its epsilon from below (Steinke, Nasr & Jagielski 2023,
"Privacy Auditing with One (1) Training Run", arXiv:2305.08846). Noise resembles no real image: what a model knows of a canary,
it has from the canary itself.
"""

import torch
from torch import Tensor

from condgen.data.tables import Part, Table
from condgen.errors import CondgenError
from condgen.randomness import generator


def with_canaries(train: Part, count: int, classes: int, seed: int) -> tuple[Part, Part, Part]:
    """Return the training part with about half of ``count`` canaries, those that are in it, and those that are not.

    Args:
        train: images in memory.
        count: of canaries.
        classes: number of classes, of which each canary gets one at random.
        seed: decides the canaries and their coins.

    Raises:
        CondgenError: the samples are no images, or are not in memory.
    """
    table = train.table
    if not isinstance(table.images, Tensor) or table.images.dtype != torch.uint8:
        raise CondgenError(
            f"data.canaries={count} are images of noise among images in memory, and these data are none: set it to 0."
        )
    stream = generator(seed, "canaries")
    noise = torch.randint(256, (count, *table.images.shape[1:]), generator=stream, dtype=torch.uint8)
    labels = torch.randint(max(1, classes), (count,), generator=stream)
    heads = torch.rand(count, generator=stream) < 0.5
    like = train.rows[torch.randint(len(train), (count,), generator=stream)]  # whose attributes they get
    grown = Table(
        torch.cat([table.images, noise]),
        torch.cat([table.labels, labels.to(table.labels.dtype)]),
        None if table.values is None else torch.cat([table.values, table.values[like]]),
        None if table.captions is None else [*table.captions, *(table.captions[row] for row in like.tolist())],
        table.made,
    )
    places = torch.arange(len(table), len(grown))
    inside, outside = Part(grown, places[heads]), Part(grown, places[~heads])
    return Part(grown, torch.cat([train.rows, inside.rows])), inside, outside
