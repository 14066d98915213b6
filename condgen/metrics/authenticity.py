"""Authenticity: the share of samples that are no copies of training images (Alaa et al. 2022, arXiv:2102.08921).

A sample counts as a copy if it lies nearer to its nearest training image than any other training image does:

    authentic(x) = d(x, t) > min over t' != t of d(t, t'),    t the training image nearest to x.

Real images that nobody trained on fall short of 1 too, since some of them lie near a training image by chance. So the figure
is read beside theirs, its floor: a generator below it draws what it has seen, and a share p of copies lowers it by p times
the floor, whatever the number of samples.
"""

from typing import Any

import torch
from torch import Tensor

from condgen.metrics.manifold import blocks, nearest
from condgen.metrics.states import Reservoir


class Authenticity(Reservoir):
    """The authenticity of (at most 2,000 of) the features that `update` is given.

    Args:
        train: features of the training images, float32 (M, D), M > 1.
        capacity: how many samples look for their nearest training image.
        options: see `Reservoir`.
    """

    known: Tensor

    def __init__(self, train: Tensor, capacity: int = 2000, **options: Any):
        super().__init__({"features": train[:0]}, capacity, **options)
        self.register_buffer("known", train, persistent=False)

    def compute(self) -> Tensor:
        """Return the share that is authentic, in 0..1."""
        return torch.tensor(authenticity(super().compute()["features"], self.known))


def authenticity(samples: Tensor, train: Tensor, known: tuple[Tensor, Tensor] | None = None) -> float:
    """Return the share of ``samples`` that are authentic, in 0..1.

    Args:
        samples: features, float32 (N, D).
        train: those of the training images, float32 (M, D), M > 1.
        known: `condgen.metrics.manifold.nearest` of both, if it was computed before.
    """
    distances, rows = nearest(samples, train) if known is None else known  # (N,) both
    return float((distances > nearest_other(train, rows)).double().mean())


def nearest_other(train: Tensor, rows: Tensor) -> Tensor:
    """Return the distance (R,) from each of ``rows`` (R,) of ``train`` (M, D) to the nearest other row."""
    found = []
    for part, distances in blocks(train[rows], train):
        distances[torch.arange(len(distances)), rows[part]] = float("inf")
        found.append(distances.argmin(1))
    apart: Tensor = (train[rows] - train[torch.cat(found)]).norm(dim=1)  # exact for equal images, unlike those of blocks
    return apart
