"""Figures of texture: sFID by an early layer of the extractor, and sliced Wasserstein distances by no network.

Both look at images instead of their last features, so they see damage that a classifier has learned to overlook. What they
need of the reference is kept in the cache folder. sFID is the FID of spatial features, and so are its floors.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from condgen.data import cache
from condgen.data.pixels import chunks
from condgen.data.tables import Part
from condgen.metrics.catalogue import SWD, TEXTURE
from condgen.metrics.distances import FrechetDistance, Gaussian, gaussian
from condgen.metrics.extractors import Extractor
from condgen.metrics.features import Features
from condgen.metrics.floors import floors
from condgen.metrics.kept import cached, fingerprint
from condgen.metrics.patches import PATCHES, Patches, descriptors, levels, patch_distances, projections
from condgen.metrics.spatial import has_spatial


class Texture:
    """Measures the texture of images against one split of the data.

    Args:
        extractor: whose early layer sFID takes; one without gives no sFID.
        fitting: the reference at the extractor's size.
        part: the same at the samples' size.
        seed: decides patches and directions.
    """

    def __init__(self, extractor: Extractor, fitting: Part, part: Part, seed: int):
        self.extractor, self.fitting, self.part, self.seed = extractor, fitting, part, seed

    def parts(self, metrics: Sequence[str], shape: Sequence[int], count: int) -> dict[str, Any]:
        """Return, by name, what takes in ``count`` samples of ``shape`` (C, H, W) for those of ``metrics`` that apply."""
        found: dict[str, Any] = {}
        if "sfid" in metrics and has_spatial(self.extractor.network):
            found["sfid"] = FrechetDistance([self._gaussian], sync_on_compute=False)
        if {*SWD} & {*metrics} and self._comparable(shape):  # patches of other places than those of the reference
            found["swd"] = Patches(count, shape, self.seed + 1, sync_on_compute=False)
        return found

    def update(self, parts: dict[str, Any], images: Tensor, place: Tensor) -> None:
        """Let ``parts`` take in uint8 ``images`` (B, C, H, W) with their places, int64 (B,), rising, among all."""
        if "sfid" in parts:
            parts["sfid"].update(self.extractor.spatial(images))
        if "swd" in parts:
            parts["swd"].update(images, place)

    def figures(self, metrics: Sequence[str], parts: dict[str, Any]) -> dict[str, float]:
        """Return those of ``metrics`` that ``parts`` were filled for."""
        found: dict[str, float] = {}
        if "sfid" in parts:
            found["sfid"] = float(parts["sfid"].compute())
        if "swd" in parts:
            found |= swd_figures(patch_distances(parts["swd"].compute(), self._projections, self.seed))
        return {name: found[name] for name in metrics if name in found}

    def floors(self, metrics: Sequence[str], fitting: Part | None, part: Part | None, count: int) -> dict[str, float]:
        """Return those of ``metrics`` that ``count`` unseen real images have; distances of patches depend on no ``count``.

        Args:
            metrics: names of `TEXTURE`, others are passed over.
            fitting: real images beside the reference, at the extractor's size; None: halves of the reference.
            part: the same at the samples' size.
            count: number of samples that they stand beside.
        """

        def compute() -> dict[str, Tensor]:
            found = self._patch_floors([name for name in metrics if name in SWD], part)
            if "sfid" in metrics and has_spatial(self.extractor.network):
                unseen = None if fitting is None else self._spatial(fitting)
                known = floors(unseen, self._spatial(self.fitting), count, metrics=["fid"], seed=self.seed)
                found |= {"sfid": known["fid"]} if known else {}
            return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}

        wanted = [name for name in metrics if name in TEXTURE]
        identity = fingerprint(self.part), part and fingerprint(part), self.extractor.sha256, self.seed, count, *wanted
        found = cached(cache.name(f"texture-floors-{self.extractor.name}", *identity), compute) if wanted else {}
        return {name: float(found[name]) for name in wanted if name in found}

    def _patch_floors(self, metrics: Sequence[str], unseen: Part | None) -> dict[str, float]:
        images, rows = self.part.table.images, self.part.rows
        if not (metrics and self._comparable(images.shape[1:])):
            return {}
        if unseen is not None:
            known, images, rows = self._projections, unseen.table.images, unseen.rows
        else:
            known = [projections(patches, self.seed) for patches in descriptors(images, self.seed, rows[::2])]
            rows = rows[1::2]
        found = swd_figures(patch_distances(descriptors(images, self.seed + 1, rows[:PATCHES]), known, self.seed))
        return {name: found[name] for name in metrics}

    def _spatial(self, part: Part) -> Features:
        """Return the spatial features of real images in the place of features: a FID of them is a sFID."""
        name = cache.name(f"spatial-{self.extractor.name}", self.extractor.sha256, fingerprint(part))
        spatial = cached(name, lambda: {"spatial": self._seen(part)})["spatial"]
        return Features(spatial, torch.zeros(len(part), 1), part.labels)

    def _seen(self, part: Part) -> Tensor:
        blocks = [self.extractor.spatial(part.table.images[rows]) for rows in chunks(part.rows, part.table.images)]
        return torch.cat([block for block in blocks if block is not None])

    @cached_property
    def _gaussian(self) -> Gaussian:
        return gaussian(self._spatial(self.fitting).features)

    @cached_property
    def _projections(self) -> list[Tensor]:
        def compute() -> dict[str, Tensor]:
            patches = descriptors(self.part.table.images, self.seed, self.part.rows)
            return {str(level): projections(some, self.seed) for level, some in enumerate(patches)}

        found = cached(cache.name("patches", fingerprint(self.part), self.seed), compute)
        return [found[str(i)] for i in range(len(found))]

    def _comparable(self, shape: Sequence[int]) -> bool:
        """Whether images of ``shape`` (C, H, W) have patches, and are like those of the reference."""
        return shape[1] == shape[2] and bool(levels(shape[2])) and tuple(shape) == tuple(self.part.table.images.shape[1:])


def swd_figures(distances: Sequence[float]) -> dict[str, float]:
    """Return the figures of the distances of the levels, finest first."""
    return {"swd": sum(distances) / len(distances), "swd_fine": distances[0], "swd_coarse": distances[-1]}
