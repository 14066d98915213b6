"""From a source's tables to those that were asked for: fewer classes, another size or colour, parts put together."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from condgen.data import cache
from condgen.data.pixels import chunks
from condgen.data.tables import Chosen, Decoding, Table
from condgen.data.undecoded import Undecoded
from condgen.errors import CondgenError
from condgen.images import recolour, resize

Value = TypeVar("Value")


def class_labels(classes: Sequence[str], chosen: Iterable[tuple[str | int, Value]], key: str) -> dict[int, Value]:
    """Replace names and indices of classes by labels; a name wins over an index.

    Args:
        classes: the K names.
        chosen: pairs of a class and whatever belongs to it.
        key: the config key that ``chosen`` came from, for the message.

    Raises:
        CondgenError: there is no such class, or it is named twice.
    """
    labels: dict[int, Value] = {}
    for name, value in chosen:
        text = str(name)
        label = classes.index(text) if text in classes else int(text) if text.isdecimal() else len(classes)
        if label >= len(classes):
            known = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
            has = f"it has 0-{len(classes) - 1} and the names {known}" if classes else "it has no classes"
            raise CondgenError(f"{key}: this data set has no class {text!r}: {has}.")
        if label in labels:
            raise CondgenError(f"{key} names the class {classes[label]} twice.")
        labels[label] = value
    return labels


def choose(classes: Sequence[str], chosen: Sequence[str | int] | None) -> tuple[list[str], Tensor]:
    """Choose some of K classes, in the order given; None chooses all.

    Returns:
        Their names, and the new label of each old one, int64 (K,), -1 for a class that was not chosen.
    """
    if chosen is None:
        return list(classes), torch.arange(max(1, len(classes)))
    if not chosen:
        raise CondgenError("data.classes is empty: name at least one class, or null for all.")
    old = list(class_labels(classes, ((name, None) for name in chosen), "data.classes"))
    relabel = torch.full((len(classes),), -1)
    relabel[old] = torch.arange(len(old))
    return [classes[label] for label in old], relabel


def pool(tables: Sequence[Table], relabel: Tensor, decoding: Decoding) -> Table:
    """Put tables together: relabelled, without the images whose new label is -1, resized and recoloured.

    A single table that needs none of this is returned as it is. A result that outgrows memory is packed into the cache.
    """
    labels = [relabel[table.labels] for table in tables]
    rows = [(some >= 0).nonzero()[:, 0] for some in labels]
    kept = torch.cat([some[some >= 0] for some in labels])
    known = [table.values[mine] for table, mine in zip(tables, rows, strict=True) if table.values is not None]
    values = torch.cat(known) if known else None
    captions = Chosen.of([table.captions for table in tables], rows)
    if undecoded := [table.images for table in tables if isinstance(table.images, Undecoded)]:
        return Table(undecoded[0].pooled(undecoded, rows), kept, values, captions)
    first, made = tables[0].images, tables[0].made
    assert isinstance(first, Tensor)
    if made is not None and decoding != Decoding(memory_share=decoding.memory_share):
        raise CondgenError("data.image_size and data.channels change images, and these samples are none: leave both at null.")
    if first.dtype != torch.uint8:  # points and texts: few bytes, and nothing to convert
        whole = torch.cat([table.images[mine] for table, mine in zip(tables, rows, strict=True)])
        return Table(whole, kept, values, captions, made)
    shape = (len(kept), *_convert(first[:1], decoding).shape[1:])
    if len(tables) == 1 and shape == first.shape:
        return Table(first, kept, values, captions, made)

    def fill(pixels: cache.Pixels) -> None:
        start = 0
        for table, mine in zip(tables, rows, strict=True):
            for some in chunks(mine, table.images):
                pixels[start : start + len(some)] = _convert(table.images[some], decoding).numpy()
                start += len(some)

    small = cache.fits(math.prod(shape), decoding.memory_share)
    identity = "" if small else [_digest(table) for table in tables]
    key = cache.name("pool", identity, relabel.tolist(), shape)
    return Table(cache.keep(key, shape, fill, decoding.memory_share, costly=False), kept, values, captions, made)


def _convert(images: Tensor, decoding: Decoding) -> Tensor:
    return resize(recolour(images, decoding.channels), decoding.image_size)


def _digest(table: Table) -> str:
    """Hash the content, since a table does not say where it came from; only sets beyond memory pay for it."""
    content = hashlib.blake2b(repr(tuple(table.images.shape)).encode())
    content.update(table.labels.numpy().tobytes())
    for rows in chunks(torch.arange(len(table)), table.images):
        content.update(table.images[rows].numpy().tobytes())
    return content.hexdigest()
