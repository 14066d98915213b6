"""Distances between two sets of features as wholes: FID, KID, and the inception score of one set.

FID (arXiv:1706.08500) is the Fréchet distance of two Gaussians,

    |m - m'|² + tr S + tr S' - 2 tr (S S')^½.

With roots R, R' of the covariances, RᵀR = S and R'ᵀR' = S', the last trace is the sum of the singular values of R R'ᵀ. So no
covariance is ever formed, squared or inverted: the result has the precision of the features also where covariances are
singular (dead units, fewer samples than features), and the reference's half can be kept. torchmetrics'
FrechetInceptionDistance takes the eigenvalues of S S', which loses half of the digits and several times the time; it serves
the tests as a reference. KID and the inception score are torchmetrics' own.
"""

import logging
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from condgen.errors import CondgenError
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


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Return the Fréchet distance of two Gaussians, >= 0 up to rounding."""
    common = torch.linalg.svdvals(a.root @ b.root.T).sum()
    return float((a.mean - b.mean).square().sum() + a.root.square().sum() + b.root.square().sum() - 2 * common)


def fid(real: Tensor, generated: Tensor) -> float:
    """Return the Fréchet inception distance of features (N, D) and (M, D)."""
    warn_of_few("FID", len(real), len(generated), real.shape[1])
    return frechet(gaussian(real), gaussian(generated))


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
    metric = alone(KernelInceptionDistance, real.shape[1], subsets=subsets, subset_size=size)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return drawn(metric, mix(seed, "kid"))


def inception_score(logits: Tensor, splits: int = 10, seed: int = 0) -> tuple[float, float]:
    """Return the inception score (arXiv:1606.03498, section 4) of ``logits`` (N, L): 1..L, mean and deviation over splits."""
    splits = min(splits, len(logits))
    metric = alone(InceptionScore, logits.shape[1], splits=splits)
    metric.update(logits.double())  # in float32 a sure classifier's zeros become 0 · log 0
    mean, deviation = drawn(metric, mix(seed, "inception score"))
    return mean, 0.0 if splits == 1 else deviation


def alone(kind: type[Any], width: int, **arguments: Any) -> Any:
    """Make a torchmetrics metric that is given features of ``width`` numbers and asks no other process for more."""
    extractor = nn.Identity()
    extractor.num_features = width  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that features are kept in memory: they are there already
        return kind(extractor, sync_on_compute=False, **arguments)


def drawn(metric: Any, seed: int) -> tuple[float, float]:
    """Compute ``metric``, which draws from the global random state, with that state at ``seed`` and put back."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which seeds GPUs as well
        warnings.filterwarnings("ignore", message="std")  # the deviation of a single split
        mean, deviation = metric.compute()
    return float(mean), float(deviation)
