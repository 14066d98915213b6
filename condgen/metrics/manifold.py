"""Figures of single samples and their neighbours: precision, recall, density, coverage, diversity, the nearest real image.

Distances are Euclidean, between features, kept squared as long as possible and in blocks of rows: no N x M matrix exists.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from condgen.errors import CondgenError
from condgen.metrics.states import Reservoir

PRECISION_NEIGHBOUR = 3
"""Radius of precision and recall (arXiv:1904.06991, section 3.1: k = 3)."""
DENSITY_NEIGHBOUR = 5
"""Radius of density and coverage (arXiv:2002.09797, section 3.3: k = 5)."""
BLOCK_ELEMENTS = 2**23
"""Distances in memory at once: 32 MiB, about what caches hold."""


class Manifold(NamedTuple):
    """How two sets of samples cover each other.

    Attributes:
        precision: share of generated samples within reach of a real one, 0..1.
        recall: share of real samples within reach of a generated one, 0..1.
        density: mean number of real balls that a generated sample lies in, over k; 1 for equal distributions, can exceed it.
        coverage: share of real samples whose ball holds a generated one, 0..1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of ``a`` (N, D) and their squared distances (rows, M) to all of ``b`` (M, D), >= 0.

    The product form |a|² + |b|² - 2ab cancels where distances are small beside norms, so features are centred first.
    """
    centre = b.mean(0)
    a, b = a - centre, b - centre
    a_norm, b_norm = a.square().sum(1, keepdim=True), b.square().sum(1)
    size = max(1, BLOCK_ELEMENTS // len(b))
    for start in range(0, len(a), size):
        rows = slice(start, min(start + size, len(a)))
        yield rows, torch.addmm(b_norm, a[rows], b.T, alpha=-2).add_(a_norm[rows]).clamp_min_(0)


def others(features: Tensor, itself: float) -> Iterator[Tensor]:
    """Yield squared distances (rows, N) within ``features`` (N, D), with ``itself`` for each sample's distance to itself."""
    for rows, distances in blocks(features, features):
        distances[:, rows].fill_diagonal_(itself)
        yield distances


def radii(features: Tensor) -> Tensor:
    """Return (N, 2), the squared distances from each of ``features`` (N, D) to its 3rd and 5th nearest other; N > 5."""
    nearest = [d.topk(DENSITY_NEIGHBOUR, largest=False).values for d in others(features, float("inf"))]
    return torch.cat(nearest)[:, [PRECISION_NEIGHBOUR - 1, DENSITY_NEIGHBOUR - 1]]


def manifold(real: Tensor, generated: Tensor, real_radii: Tensor | None = None) -> Manifold:
    """Return precision, recall, density and coverage from one pass over the distances of each pair of sets.

    Balls are closed, as in Kynkäänniemi et al., equation 1.

    Args:
        real: float32 (N, D), N > 5.
        generated: float32 (M, D), M > 5.
        real_radii: (N, 2) from `radii` of ``real``, if known.
    """
    if (fewest := min(len(real), len(generated))) <= DENSITY_NEIGHBOUR:
        raise CondgenError(f"Precision, recall, density and coverage need at least 6 images on each side, not {fewest}.")
    near, wide = (radii(real) if real_radii is None else real_radii).T.contiguous()  # (N,) each
    reach = radii(generated)[:, :1]  # (M, 1)
    precise, dense = 0, 0
    closest = torch.full_like(near, float("inf"))  # (N,): to any generated sample
    margin = torch.full_like(near, float("inf"))  # (N,): to the rim of any generated ball, <= 0 inside
    for rows, distances in blocks(generated, real):
        precise += int(((distances - near).amin(1) <= 0).sum())  # amin and count_nonzero are far faster than any and sum
        dense += int(torch.count_nonzero(distances <= wide))
        closest = torch.minimum(closest, distances.amin(0))
        margin = torch.minimum(margin, distances.sub_(reach[rows]).amin(0))
    return Manifold(
        precision=precise / len(generated),
        recall=int((margin <= 0).sum()) / len(real),
        density=dense / (DENSITY_NEIGHBOUR * len(generated)),
        coverage=int((closest <= wide).sum()) / len(real),
    )


class PrecisionRecall(Reservoir):
    """Precision, recall, density and coverage of the features that `update` is given.

    Args:
        real: float32 (N, D), those of real images, N > 5.
        options: see `Reservoir`.
    """

    real: Tensor
    radii: Tensor

    def __init__(self, real: Tensor, **options: Any):
        super().__init__({"features": real[:0]}, **options)
        self.register_buffer("real", real, persistent=False)
        self.register_buffer("radii", radii(real), persistent=False)

    def compute(self) -> dict[str, float]:
        """Return the four by their names."""
        return manifold(self.real, super().compute()["features"], self.radii)._asdict()


class Diversity(Reservoir):
    """How far samples of a class lie apart, over how far real images do; the mean over the classes.

    Args:
        real: float32 (N, D), features of real images.
        labels: int64 (N,), their classes 0..K-1.
        options: see `Reservoir`.
    """

    real: Tensor

    def __init__(self, real: Tensor, labels: Tensor, **options: Any):
        super().__init__({"features": real[:0], "labels": labels[:0]}, **options)
        self.register_buffer("real", spreads(real, labels, int(labels.max()) + 1), persistent=False)

    def compute(self) -> Tensor:
        """Return the mean over the classes that have two samples."""
        kept = super().compute()
        return (spreads(kept["features"], kept["labels"], len(self.real)) / self.real).nanmean()


def spreads(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return (K,), the mean distance of two different samples of each class, over all pairs; NaN for fewer than 2 samples.

    Args:
        features: float32 (N, D).
        labels: int64 (N,) in 0..K-1.
        classes: K.
    """
    return torch.stack([spread(features[labels == label]) for label in range(classes)])


def spread(features: Tensor) -> Tensor:
    """Return the mean distance, float64 (), over all pairs of ``features`` (N, D); NaN for N < 2."""
    total = torch.zeros((), dtype=torch.float64, device=features.device)
    if len(features):
        for distances in others(features, 0.0):
            total += distances.sqrt_().sum(dtype=torch.float64)
    return total / (len(features) * (len(features) - 1))


def nearest(samples: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Return distance (N,) and row (N,) of the nearest of ``train`` (M, D) for each of ``samples`` (N, D); a copy's is 0."""
    rows = torch.cat([distances.argmin(1) for _, distances in blocks(samples, train)])
    return (samples - train[rows]).norm(dim=1), rows
