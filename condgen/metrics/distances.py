"""Distances between two sets of features as wholes: FID, KID, and the inception score of one set.

FID (arXiv:1706.08500) is the Fréchet distance of two Gaussians,

    |m - m'|² + tr S + tr S' - 2 tr (S S')^½.

The reference (m, S) is known before; its root R, RᵀR = S, has the precision of the features also where S is singular. Of the
samples x only sums are kept, in float64, around the reference's mean: of y = x - m, of |y|² and of y yᵀ. From these follow m',
S' and its root R', and the last trace is the sum of the singular values of R' Rᵀ, which loses no digits by squaring S S'. Where
the reference has fewer images than features, as a class may, R is short, and the outer products kept are the few of R y: the
last trace is the sum of the roots of the eigenvalues of R S' Rᵀ.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from condgen.errors import CondgenError
from condgen.metrics.states import Reservoir, Summed, require_classes
from condgen.randomness import mix

log = logging.getLogger("condgen")


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The Gaussian that fits a set of features.

    Attributes:
        mean: float64 (D,).
        root: float64 (R, D), R <= D, with ``root.T @ root`` the unbiased covariance.
    """

    mean: Tensor
    root: Tensor

    def to(self, device: torch.device) -> "Gaussian":
        """Return it on ``device``."""
        return Gaussian(self.mean.to(device), self.root.to(device))

    @property
    def is_short(self) -> bool:
        """Whether it is of fewer images than features."""
        return len(self.root) < len(self.mean)

    def short(self, x: Tensor) -> Tensor:
        """Return the products (N, R) of ``x`` (N, D) with a root that is short; else ``x`` itself."""
        return x @ self.root.T if self.is_short else x

    def common(self, covariance: Tensor) -> Tensor:
        """Return tr (S S')^½ of this covariance and that of `short` vectors, (R, R)."""
        if self.is_short:
            return positive(torch.linalg.eigvalsh(covariance)).sqrt().sum()
        values, vectors = torch.linalg.eigh(covariance)
        both: Tensor = torch.linalg.svdvals(positive(values).sqrt()[:, None] * vectors.T @ self.root.T)
        return both.sum()


def positive(values: Tensor) -> Tensor:
    """Return rising eigenvalues (R,), with zeros for those that are nothing but rounding."""
    return values.where(values > len(values) * torch.finfo(values.dtype).eps * values[-1], 0)


def gaussian(features: Tensor) -> Gaussian:
    """Fit a Gaussian to ``features`` (N, D), N >= 2."""
    if len(features) < 2:
        raise CondgenError(f"FID needs at least 2 images on each side, not {len(features)}.")
    x = features.double()
    mean = x.mean(0)
    root = (x - mean) / (len(x) - 1) ** 0.5  # (N, D): already a root, but a long one where N > D
    if len(x) > x.shape[1]:
        root = torch.linalg.qr(root, mode="r").R.contiguous()
    return Gaussian(mean, root)


def by_class(features: Tensor, labels: Tensor) -> list[Gaussian | None]:
    """Fit a Gaussian to each of the classes 0..K-1 of ``labels`` (N,); None for one with fewer than 2 images."""
    parts = [features[labels == k] for k in range(int(labels.max()) + 1)]
    return [gaussian(part) if len(part) > 1 else None for part in parts]


class FrechetDistance(Summed):
    """FID between real features and those that `update` is given; with ``labels`` the mean of those within the classes.

    Args:
        real: features (N, D) of the reference, N >= 2; or a Gaussian for each class, None for one without.
        labels: int64 (N,), the classes 0..K-1 of the reference; None: one class.
        options: of `torchmetrics.Metric`.
    """

    count: Tensor
    shift: Tensor
    square: Tensor
    outer: Tensor

    def __init__(self, real: Tensor | Sequence[Gaussian | None], labels: Tensor | None = None, **options: Any):
        super().__init__(**options)
        if isinstance(real, Tensor):
            real = [gaussian(real)] if labels is None else by_class(real, labels)
        self.real = list(real)
        self.widths = [0 if one is None else len(one.root) for one in self.real]
        self.add_sum("count", len(self.real))
        self.add_sum("shift", len(self.real), max((len(one.mean) for one in self.real if one), default=0))
        self.add_sum("square", len(self.real))
        self.add_sum("outer", sum(width**2 for width in self.widths))  # of all classes, one after the other

    def products(self) -> list[Tensor]:
        """Return the sums of outer products (R, R) of each class, as parts of the state."""
        parts = torch.split(self.outer, [width**2 for width in self.widths])
        return [part.view(width, width) for part, width in zip(parts, self.widths, strict=True)]

    def update(self, features: Tensor, labels: Tensor | None = None) -> None:
        """Take in features (B, D), and the classes that they were asked for, int64 (B,), where the reference has classes."""
        if labels is not None:
            require_classes(labels, len(self.real))
        for k in [0] if labels is None else torch.unique(labels).tolist():
            self.count[k] += len(part := features if labels is None else features[labels == k])
            if (real := self.real[k]) is not None:
                self.real[k] = real = real.to(features.device)
                x = part.detach().double() - real.mean
                y = real.short(x)
                self.shift[k] += x.sum(0)
                self.square[k] += x.square().sum()
                self.products()[k].addmm_(y.T, y)

    def distances(self) -> Tensor:
        """Return the distance of each class, float64 (K,), >= 0 up to rounding; NaN where a side has fewer than 2 images."""
        found = torch.full_like(self.count, torch.nan)
        for k, (real, n, products) in enumerate(zip(self.real, self.count.tolist(), self.products(), strict=True)):
            if real is None or n < 2:
                continue
            real, shift = real.to(self.count.device), self.shift[k] / n
            y = real.short(shift)
            common = real.common((products - n * torch.outer(y, y)) / (n - 1))
            spread = (self.square[k] - n * shift.square().sum()) / (n - 1)
            found[k] = shift.square().sum() + real.root.square().sum() + spread - 2 * common
        return found

    def compute(self) -> Tensor:
        """Return the distance, or the mean of those of the classes; raises CondgenError for fewer than 2 images."""
        found = self.distances()
        if found.isnan().all():
            raise CondgenError(f"FID needs at least 2 images on each side, not {int(self.count.max())}.")
        return found.nanmean()


@cache  # once for equal counts: validation comes every epoch, and intra-class FID and floors are many FIDs
def warn_of_few(metric: str, real: int, generated: int, dimensions: int) -> None:
    """Say once that ``metric`` stands on fewer samples than features."""
    if min(real, generated) < dimensions:
        log.warning(
            "%s compares %d real with %d generated images in %d features: with fewer images than features it comes out too "
            "high and can only be compared at equal counts.",
            metric,
            real,
            generated,
            dimensions,
        )


def kid(real: Tensor, generated: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the kernel inception distance (arXiv:1801.01401, section 4) of features (N, D) and (M, D), not multiplied.

    Args:
        real: float (N, D), N >= 2.
        generated: float (M, D), M >= 2.
        subsets: how many random subsets are compared.
        subset_size: images of a subset; capped at N and M.
        seed: decides the subsets.

    Returns:
        Mean and standard deviation over the subsets; the mean is unbiased and may be slightly negative.
    """
    size = min(subset_size, len(real), len(generated))
    if size < 2:
        raise CondgenError(f"KID needs at least 2 images on each side, not {size}.")
    if size == len(real) == len(generated):
        subsets = 1  # every subset would be all images
    stream = torch.Generator().manual_seed(mix(seed, "kid"))

    def some(side: Tensor) -> Tensor:
        return side[torch.randperm(len(side), generator=stream)[:size]]

    scores = torch.stack([poly_mmd(some(real), some(generated)) for _ in range(subsets)])
    return float(scores.mean()), float(scores.std(correction=0))


class KernelDistance(Reservoir):
    """KID between real features (N, D) and those that `update` is given, as `kid` measures it.

    Args:
        real: features (N, D) of the reference.
        subsets: see `kid`.
        subset_size: see `kid`.
        seed: decides the subsets, and what is kept.
        options: see `Reservoir`.
    """

    real: Tensor

    def __init__(self, real: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0, **options: Any):
        super().__init__({"features": real[:0]}, seed=seed, **options)
        self.register_buffer("real", real, persistent=False)
        self.choice = subsets, subset_size, seed

    def compute(self) -> Tensor:
        """Return the distance."""
        return torch.tensor(kid(self.real, super().compute()["features"], *self.choice)[0])


class InceptionScore(Summed):
    """The inception score (arXiv:1606.03498, section 4), 1..L, of the logits that `update` is given.

    Args:
        classes: L, the number of logits.
        splits: the score is the mean of the scores of so many parts.
        options: of `torchmetrics.Metric`.
    """

    count: Tensor
    probability: Tensor
    certainty: Tensor

    def __init__(self, classes: int, splits: int = 10, **options: Any):
        super().__init__(**options)
        self.add_sum("count", splits)
        self.add_sum("probability", splits, classes)
        self.add_sum("certainty", splits)  # of p log p

    def update(self, logits: Tensor, parts: Tensor | None = None) -> None:
        """Take in logits (B, L), and the part of each, int64 (B,); by default they go round."""
        if parts is None:
            parts = (torch.arange(len(logits), device=logits.device) + int(self.count.sum())) % len(self.count)
        logs = logits.detach().double().log_softmax(1)  # in float32 a sure classifier's zeros become 0 · log 0
        self.count.index_add_(0, parts, logs.new_ones(len(logs)))
        self.probability.index_add_(0, parts, logs.exp())
        self.certainty.index_add_(0, parts, (logs.exp() * logs).sum(1))

    def scores(self) -> Tensor:
        """Return the scores of the parts that are not empty, float64 (S,)."""
        there = self.count > 0
        mean = self.probability[there] / self.count[there, None]
        return (self.certainty[there] / self.count[there] - torch.xlogy(mean, mean).sum(1)).exp()

    def compute(self) -> Tensor:
        """Return the mean of the scores of the parts."""
        return self.scores().mean()


def parts_of(count: int, splits: int, seed: int) -> Tensor:
    """Share ``count`` samples out at random among ``splits`` parts for `InceptionScore`: the part of each, int64 (N,)."""
    parts = torch.empty(count, dtype=torch.int64)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(mix(seed, "inception score")))
    parts[order] = torch.arange(count) // -(-count // splits)
    return parts
