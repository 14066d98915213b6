"""Which images train, which validate, which test: a function of the labels and a seed, and of nothing else."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from condgen.data.prepare import pool
from condgen.data.tables import Decoding, Part, Tables
from condgen.errors import CondgenError
from condgen.randomness import generator
from condgen.types import BelowOne, PositiveInt, Says

Fraction = Annotated[float, Gt(0), Lt(1)]
Split = Annotated[
    PositiveInt | tuple[Fraction, Fraction, BelowOne],
    Says("a whole number of at least 1, of validation images, or the fractions [train, val, test] of sum 1"),
]


def parts(
    tables: Tables, relabel: Tensor, split: Sequence[float] | int, decoding: Decoding, seed: int
) -> tuple[Part, Part, Part | None]:
    """Cut what a source has into images to train on, to validate by and to test with; the last may be None.

    Args:
        tables: of the source; its own test part stays one where ``split`` is a number.
        relabel: int64 (K,), the new label of each class, -1 for one that is left out.
        split: number of validation images, or the fractions of the three parts among all images.
        decoding: size and colour.
        seed: decides which images.

    Raises:
        CondgenError: there is no test part, or nothing would be left to train on.
    """
    test: Part | None
    if isinstance(split, int):
        if tables.test is None:
            raise CondgenError(f"data.split={split} needs a set with a test part: use fractions, [0.7,0.15,0.15].")
        whole, own_test = (pool([part], relabel, decoding) for part in (tables.train, tables.test))
        rest, test, size = torch.arange(len(whole)), Part(own_test, torch.arange(len(own_test))), split
    else:
        whole = pool([part for part in (tables.train, tables.test) if part is not None], relabel, decoding)
        size, test_size = (round(fraction * len(whole)) for fraction in split[1:])
        rest, rows = cut(whole.labels, test_size, (seed, "test"))
        test = Part(whole, rows) if test_size else None
    if size >= len(rest):
        raise CondgenError(f"data.split={split}: {size} validation images leave none of {len(rest)} to train on.")
    keep, rows = cut(whole.labels[rest], size, (seed, "val"))
    return Part(whole, rest[keep]), Part(whole, rest[rows]), test


def cut(labels: Tensor, count: int, key: Sequence[int | str]) -> tuple[Tensor, Tensor]:
    """Cut a stratified part of ``count`` samples out of ``labels`` (N,).

    Each class gives its proportional share, rounded by largest remainder so that the shares sum to ``count`` exactly.

    Args:
        labels: int64 (N,).
        count: size of the part, at most N.
        key: decides, by `randomness.generator`, which samples of a class are chosen.

    Returns:
        Ascending row numbers, int64: of the rest (N - count,) and of the part (count,).
    """
    quotas = apportion(torch.bincount(labels), count)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label, quota in enumerate(quotas):
        chosen[_some(labels, label, quota, key)] = True
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]


def thin(labels: Tensor, kept: Mapping[int, int], key: Sequence[int | str]) -> Tensor:
    """Keep of each class in ``kept`` so many samples, and of the others all.

    Returns:
        Ascending row numbers, int64.
    """
    keep = torch.ones(len(labels), dtype=torch.bool)
    for label, count in kept.items():
        keep[labels == label] = False
        keep[_some(labels, label, count, key)] = True
    return keep.nonzero()[:, 0]


def require_every_class(labels: Tensor, classes: Sequence[str], part: str) -> None:
    """Raise CondgenError if ``labels`` lacks one of ``classes``; ``part`` says where, e.g. "the validation part"."""
    counts = torch.bincount(labels, minlength=max(1, len(classes)))
    if len(labels) == 0 or int(counts.min()) == 0:
        lacking = f" of class {classes[int(counts.argmin())]}" if classes else ""
        raise CondgenError(f"data.split leaves {part} without an image{lacking}: every part needs at least one of each class.")


def apportion(sizes: Tensor, count: int) -> list[int]:
    """Share ``count`` among classes in proportion to ``sizes`` (K,), by largest remainder: the shares sum to ``count``."""
    exact = sizes.double() * count / sizes.double().sum().clamp(min=1)
    quotas = exact.floor().long()
    left = count - int(quotas.sum())
    quotas[(exact - quotas).argsort(descending=True, stable=True)[:left]] += 1
    return [int(quota) for quota in quotas]


def _some(labels: Tensor, label: int, count: int, key: Sequence[int | str]) -> Tensor:
    rows = (labels == label).nonzero()[:, 0]
    return rows[torch.randperm(len(rows), generator=generator(*key, label))[:count]]
