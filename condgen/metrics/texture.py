"""Figures of texture: sFID by an early layer of the extractor, and sliced Wasserstein distances by no network.

Both look at images instead of their last features, so they see damage that a classifier has learned to overlook. What they
need of the reference is kept in the cache folder. sFID is the FID of spatial features, and so are its floors.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from condgen.data import cache
from condgen.data.pixels import chunks
from condgen.data.tables import Part
from condgen.metrics.catalogue import SWD, TEXTURE
from condgen.metrics.distances import Gaussian, frechet, gaussian
from condgen.metrics.extractors import Extractor
from condgen.metrics.features import Features
from condgen.metrics.floors import floors
from condgen.metrics.kept import cached, fingerprint
from condgen.metrics.patches import PATCHES, descriptors, levels, patch_distances, projections
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

    def figures(self, metrics: Sequence[str], images: Tensor) -> dict[str, float]:
        """Return those of ``metrics`` that are of texture and apply to uint8 ``images`` (N, C, H, W)."""
        found: dict[str, float] = {}
        if "sfid" in metrics and (spatial := self.extractor.spatial(images)) is not None:
            found["sfid"] = frechet(self._gaussian, gaussian(spatial))
        if {*SWD} & {*metrics} and self._comparable(images):
            found |= swd_figures(patch_distances(images, self._projections, self.seed))
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
        if unseen is not None:
            return self.figures(metrics, unseen.images[:PATCHES])
        images, rows = self.part.table.images, self.part.rows
        if not metrics:
            return {}
        known = [projections(patches, self.seed) for patches in descriptors(images, self.seed, rows[::2])]
        found = swd_figures(patch_distances(images[rows[1::2][:PATCHES]], known, self.seed))
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

    def _comparable(self, images: Tensor) -> bool:
        """Whether ``images`` have patches, and the shape of the reference."""
        square = images.shape[2] == images.shape[3]
        return square and bool(levels(images.shape[3])) and images.shape[1:] == self.part.table.images.shape[1:]


def swd_figures(distances: Sequence[float]) -> dict[str, float]:
    """Return the figures of the distances of the levels, finest first."""
    return {"swd": sum(distances) / len(distances), "swd_fine": distances[0], "swd_coarse": distances[-1]}
