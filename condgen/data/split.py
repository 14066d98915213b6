"""Which images train, which validate, which test: a function of the labels and a seed, and of nothing else."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from condgen.errors import CondgenError
from condgen.randomness import generator


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
