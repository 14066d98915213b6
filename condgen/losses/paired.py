"""Distances between a generated sample and the real one of the same condition, which G lowers beside its adversarial loss.

loss of G + weight * distance(G(z, c), x)        (Isola et al. 2017, equation 4)
"""

from torch import Tensor

from condgen.losses.regularizers import GeneratorRegularizer
from condgen.types import NonNegative


class L1(GeneratorRegularizer):
    """Mean absolute difference (Isola et al. 2017, equation 3): it gets the coarse right, and blurs less than squares do."""

    def __init__(self, weight: NonNegative = 100.0):
        super().__init__(weight)

    def distance(self, fake: Tensor, real: Tensor) -> Tensor:
        return (fake - real).abs().mean()
