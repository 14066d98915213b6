"""Figures of samples that start from an image: how near each is to the real one whose condition it was asked for.

Images are compared at the samples' own size, in [0, 1]; waveforms in their spectra, and by their images. The figures mean
little alone: a blurred guess may be nearer than a sharp one, and where most pixels are given any answer is near. So trivial
answers are measured the same way, the baselines.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from condgen.conditions import ImageCondition
from condgen.data.pixels import chunks
from condgen.data.tables import Part
from condgen.data.viewed import as_kept, images_of
from condgen.metrics.manifold import nearest
from condgen.metrics.spectral import SpectralDistance
from condgen.metrics.states import Summed
from condgen.spaces import Space, floating
from condgen.waveforms import Waveforms

BLOCK = 500
"""Images that are compared at a time."""
SMALLEST = 11
"""Side of SSIM's window, and so of the images that have an SSIM."""


class Paired(Summed):
    """Those of "l1" and "ssim" that are among ``metrics``, of samples and the real images that they were asked to be.

    L1 is the mean absolute difference. SSIM has the usual window, Gaussian of deviation 1.5 (Wang et al. 2004, section III-C),
    and mirrors images at their edges, as torchmetrics does.

    Args:
        metrics: names of metrics; others are passed over.
        space: what a sample is.
        shape: (C, H, W) of the images; smaller ones than the window have no SSIM.
        options: of `torchmetrics.Metric`.
    """

    count: Tensor
    l1: Tensor
    ssim: Tensor

    def __init__(self, metrics: Sequence[str], space: Space, shape: Sequence[int], **options: Any):
        super().__init__(**options)
        self.space = space
        self.names = [n for n in ("l1", "ssim") if n in metrics and (n == "l1" or min(shape[1:]) >= SMALLEST)]
        for name in ("count", *self.names):
            self.add_sum(name)

    def update(self, samples: Tensor, real: Tensor) -> None:
        """Take in samples and real ones, uint8 (B, C, H, W) or what these images are of, row by row."""
        images, real = images_of(samples, self.space), images_of(real, self.space)
        self.count += len(images)
        for some, others in zip(torch.split(images, BLOCK), torch.split(real, BLOCK), strict=True):
            a, b = some.float() / 255, others.float() / 255
            if "l1" in self.names:
                self.l1 += (a - b).abs().mean((1, 2, 3)).double().sum()
            if "ssim" in self.names:
                found: Any = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
                self.ssim += found.double().sum()

    def compute(self) -> dict[str, float]:
        """Return the means, by name."""
        return {name: float(getattr(self, name) / self.count) for name in self.names}


def paired_with(metrics: Sequence[str], space: Space, shape: Sequence[int]) -> list[Summed]:
    """Return what compares samples of ``space``, whose images have a ``shape`` (C, H, W), with the real ones."""
    found: list[Summed] = [Paired(metrics, space, shape, sync_on_compute=False)]
    if isinstance(space, Waveforms):
        found.append(SpectralDistance(metrics, space.view.fft, sync_on_compute=False))
    return found


@torch.no_grad()
def baselines(condition: ImageCondition, encoded: Tensor, train: Part) -> dict[str, Tensor]:
    """Return trivial answers by name, what a model has to beat: images, uint8 (N, C, H, W), or waveforms, float (N, length).

    Args:
        condition: what the answers are to.
        encoded: conditions (N, *map_shape).
        train: the training part, as models see it.
    """
    total = torch.zeros(train.table.images.shape[1:], dtype=torch.float64)
    for rows in chunks(train.rows, train.table.images):
        total += floating(train.table.images[rows]).sum(0, dtype=torch.float64)
    answers = condition.guesses(encoded)
    answers["training mean"] = (total / len(train)).float().expand(len(encoded), *total.shape)
    if condition.comparable:
        answers["nearest training image"] = floating(train.table.images[nearest_rows(condition, encoded, train)])
    return {name: as_kept(condition.finish(answer, encoded)) for name, answer in answers.items()}


def nearest_rows(condition: ImageCondition, encoded: Tensor, train: Part) -> Tensor:
    """Return the rows (N,) of the training images whose conditions are nearest to those that are ``encoded``, by L2."""
    best, found = torch.full((len(encoded),), float("inf")), torch.zeros(len(encoded), dtype=torch.int64)
    for rows in chunks(train.rows, train.table.images):
        x = floating(train.table.images[rows])
        shown = condition.make(x, torch.zeros(len(rows), condition.draws)).flatten(1)
        distance, place = nearest(encoded.flatten(1), shown)
        closer = distance < best
        best, found = torch.where(closer, distance, best), torch.where(closer, rows[place], found)
    return found
