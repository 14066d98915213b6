"""Whether a generator has learned the ring of Gaussians (`condgen.data.sources.Ring`), where the truth is known exactly.

Its points pass if at least `WITHIN` of them lie within `RADIUS` standard deviations of a mode of the class that they were
asked for and every mode is covered. A perfect generator reaches 1 - exp(-RADIUS^2 / 2) = 0.989, since so much of an isotropic
Gaussian in the plane lies within three sigma: 0.95 leaves four points in a hundred for bridges between modes. One that knows
the ring but not the classes reaches 0.989 / K of K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.conditions import Codes
from condgen.data.sources.ring import Ring
from condgen.generators.base import Generator

RADIUS = 3.0
"""Standard deviations within which a point belongs to a mode."""
WITHIN = 0.95
"""Share of the points that have to lie there."""
COVERED = 0.2
"""A mode is covered by this share of the points that would be its own if all modes got as many."""


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        within: share of the points within `RADIUS` sigma of a mode of the requested class.
        covered: number of modes with at least `COVERED` of their fair share of such points.
        modes: number of all modes.
        spread: standard deviation of these points around their modes, in units of the ring's (cut at `RADIUS`, where a
            perfect generator has 0.97); far below 1, modes are found and their width is not.
    """

    within: float
    covered: int
    modes: int
    spread: float

    @property
    def passed(self) -> bool:
        """Whether the generator has learned the ring."""
        return self.within >= WITHIN and self.covered == self.modes


def score(points: Tensor, requested: Tensor | None, ring: Ring) -> Verdict:
    """Score ``points`` (N, 2) by the classes ``requested``, int64 (N,); None: any mode will do."""
    distance = torch.cdist(points, ring.centres)  # (N, modes)
    near = distance < RADIUS * ring.sigma
    if requested is not None:
        near &= ring.owners == requested[:, None]
    fair = len(points) / ring.modes
    spread = (distance[near].square().mean() / 2).sqrt() / ring.sigma  # over both directions
    covered = int((near.sum(0) >= COVERED * fair).sum())
    return Verdict(near.any(1).float().mean().item(), covered, ring.modes, spread.item())


def named(points: Tensor, codes: Tensor, ring: Ring) -> Tensor:
    """Return which mode each point's code stands for, int64 (N,), by a one-to-one naming of codes (N,) by modes.

    The pair of code and nearest mode with most points is taken first, then the next: never better than the best matching. A
    code beyond the number of modes stands for none, -1.
    """
    count = torch.zeros(max(int(codes.max()) + 1, ring.modes), ring.modes)
    count.index_put_((codes, torch.cdist(points, ring.centres).argmin(1)), torch.ones(len(codes)), accumulate=True)
    name = torch.full((len(count),), -1)
    for _ in range(ring.modes):
        code, mode = divmod(int(count.argmax()), ring.modes)
        name[code] = mode
        count[code], count[:, mode] = -1, -1
    return name[codes]


def examine(model: Generator, ring: Ring, count: int = 8000, seed: int = 0) -> Verdict:
    """Score ``count`` points of ``model``, asked for random conditions; of codes the first category, as `named`.

    Codes stand for modes, so they need a ring with a mode for each class.
    """
    requested = model.condition.draw(count, torch.Generator().manual_seed(seed))
    points = model.sample(requested, seed=seed).cpu()
    if isinstance(model.condition, Codes):
        codes = model.condition.split(requested)[0].argmax(1)
        return score(points, named(points, codes, ring), ring)
    return score(points, requested if model.condition.classes else None, ring)
