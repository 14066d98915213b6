"""Sliced Wasserstein distances of the patches of Laplacian pyramids: figures of texture that need no network.

T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive Growing of GANs", arXiv:1710.10196, section 5. Every level of the
pyramid gives patches of 7x7 pixels from random places, normalized to mean 0 and deviation 1 in each channel over all patches
of a set. Two sets are projected on random directions; on a line, the Wasserstein-1 distance is the mean difference of the
sorted values. The authors take 2²¹ patches of 16,384 images; here 2¹⁴ are drawn whatever the number of images, so that figures
of different numbers can be compared.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.data.undecoded import Undecoded
from condgen.metrics.states import Summed
from condgen.randomness import generator

SIDE = 7
"""Of a patch, in pixels."""
SMALLEST = 14
"""Side of the coarsest level, in pixels, unless the images are smaller."""
PATCHES = 2**14
"""Drawn from each level of each set."""
REPEATS, DIRECTIONS = 4, 128
"""512 directions, drawn in four repeats as the authors do."""
SCALE = 1000.0
"""Distances are given in thousandths, as in the paper."""
BLOCK = 500
KERNEL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
"""Of Burt & Adelson 1983: the rows and columns of the low pass between two levels."""


def levels(side: int) -> list[int]:
    """Return the sides of the pyramid of images of ``side`` pixels, finest first; none where not even one patch fits."""
    sides = [side] if side >= SIDE else []
    while sides and sides[-1] % 2 == 0 and sides[-1] // 2 >= SMALLEST:
        sides.append(sides[-1] // 2)
    return sides


def pyramid(x: Tensor) -> list[Tensor]:
    """Split images (B, C, H, H) into what each level adds to the next coarser one; the coarsest is a small image itself."""
    found = []
    for _ in levels(x.shape[-1])[1:]:
        coarse = low_pass(x)[:, :, ::2, ::2]
        found.append(x - enlarge(coarse))
        x = coarse
    return [*found, x]


def low_pass(x: Tensor, gain: float = 1.0) -> Tensor:
    """Blur images (B, C, H, W) with `KERNEL` in both directions, mirrored at the edges."""
    channels = x.shape[1]
    kernel = (gain * torch.outer(KERNEL, KERNEL)).to(x).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), kernel, groups=channels)


def enlarge(x: Tensor) -> Tensor:
    """Double the sides of images (B, C, H, W): zeros between the pixels, then a low pass of four times the gain."""
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[:, :, ::2, ::2] = x
    return low_pass(wide, 4.0)


class Patches(Summed):
    """Patches of a known number of images, each cut by the process that has the image.

    Args:
        count: N; each image gives as many patches as the others, up to one.
        shape: (C, H, H) of the images.
        seed: decides where patches are.
        options: of `torchmetrics.Metric`.
    """

    def __init__(self, count: int, shape: Sequence[int], seed: int, **options: Any):
        super().__init__(**options)
        self.channels, sides = shape[0], levels(shape[-1])
        self.owner = torch.arange(PATCHES) * count // PATCHES  # the image of each patch, rising
        if count > PATCHES:
            self.owner = torch.randperm(count, generator=generator(seed, "patched images"))[:PATCHES].sort().values
        draw = partial(torch.randint, size=(PATCHES, 2))
        self.corners = [draw(side - SIDE + 1, generator=generator(seed, "patches", side)) for side in sides]
        for level in range(len(sides)):  # the others' patches are zeros here: sums put all together
            self.add_sum(f"level{level}", PATCHES, self.channels, SIDE**2, dtype=torch.float32)

    def update(self, images: Tensor, place: Tensor) -> None:
        """Take in uint8 images (B, C, H, H) and their places, int64 (B,), rising, among all."""
        row = torch.searchsorted(place, self.owner).clamp_max(len(place) - 1)
        own = place[row] == self.owner
        for level, image in enumerate(pyramid(images.float() / 127.5 - 1)):
            getattr(self, f"level{level}")[own] = cut_out(image, row[own], self.corners[level][own])

    def compute(self) -> list[Tensor]:
        """Return the normalized patches (P, C * 49) of each level."""
        return [normalize(getattr(self, f"level{level}")) for level in range(len(self.corners))]


def descriptors(images: Tensor | Undecoded, seed: int, rows: Tensor | None = None) -> list[Tensor]:
    """Return the normalized patches (P, C * 49) of each level of uint8 ``images`` (N, C, H, H).

    Args:
        images: each gives as many patches as the others, up to one.
        seed: decides their places.
        rows: (M,), those of ``images`` that are meant; None: all. They are read a few at a time.
    """
    rows = torch.arange(len(images)) if rows is None else rows
    found = Patches(len(rows), images.shape[1:], seed, sync_on_compute=False)
    for place in torch.split(torch.arange(len(rows)), BLOCK):
        found.update(images[rows[place]], place)
    return found.compute()


def cut_out(images: Tensor, owner: Tensor, corners: Tensor) -> Tensor:
    """Return the patches (P, C, 49) of ``images`` (B, C, H, H) of ``owner`` (P,), from their ``corners`` (P, 2) on."""
    span = torch.arange(SIDE)
    rows, columns = corners[:, 0, None] + span, corners[:, 1, None] + span  # (P, 7) each
    patches = images.permute(0, 2, 3, 1)[owner[:, None, None], rows[:, :, None], columns[:, None, :]]  # (P, 7, 7, C)
    return patches.flatten(1, 2).transpose(1, 2)


def normalize(patches: Tensor) -> Tensor:
    """Bring each channel of ``patches`` (P, C, 49) to mean 0 and deviation 1 over the set; flat (P, C * 49)."""
    mean, deviation = patches.mean((0, 2), keepdim=True), patches.std((0, 2), keepdim=True, correction=0)
    return ((patches - mean) / deviation.clamp_min(1e-8)).reshape(len(patches), -1)


def directions(width: int, seed: int) -> Tensor:
    """Return `REPEATS` * `DIRECTIONS` random unit vectors, the columns of (width, 512)."""
    draws = [torch.randn(width, DIRECTIONS, generator=generator(seed, "directions", repeat)) for repeat in range(REPEATS)]
    return F.normalize(torch.cat(draws, 1), dim=0)


def projections(patches: Tensor, seed: int) -> Tensor:
    """Return ``patches`` (P, D) on each direction, sorted: (512, P)."""
    return (patches @ directions(patches.shape[1], seed)).T.contiguous().sort(dim=1).values


def sliced_wasserstein(a: Tensor, b: Tensor) -> float:
    """Return the mean Wasserstein-1 distance of two sets of sorted `projections` (512, P), in thousandths."""
    return SCALE * float((a - b).abs().mean(dtype=torch.float64))


def patch_distances(patches: Sequence[Tensor], reference: Sequence[Tensor], seed: int) -> list[float]:
    """Return the distance of each level, finest first, of normalized ``patches`` (P, D) from the `projections` of others."""
    return [sliced_wasserstein(projections(some, seed), known) for some, known in zip(patches, reference, strict=True)]
