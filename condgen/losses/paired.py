"""What else G lowers, where a generated sample has a real one of the same condition: how far the two are apart.

loss of G + sum of weight * term(G(z, c), x)        (Isola et al. 2017, equation 4)
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from condgen.errors import CondgenError


class PairedLoss(nn.Module, ABC):
    """A distance between generated samples and the real ones whose conditions they were asked for.

    Args:
        weight: its factor in G's loss.
    """

    def __init__(self, weight: float):
        super().__init__()
        if weight < 0:
            raise CondgenError(f"model.terms: {type(self).__name__} needs a weight of at least 0, not {weight}.")
        self.weight = weight

    @abstractmethod
    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the distance between samples (B, *shape), without its weight: a scalar."""


class L1(PairedLoss):
    """Mean absolute difference (Isola et al. 2017, equation 3): it gets the coarse right, and blurs less than squares do."""

    def __init__(self, weight: float = 100.0):
        super().__init__(weight)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        return (fake - real).abs().mean()


class Terms(nn.ModuleDict):
    """Several of them, by the names under which they are recorded."""

    def __init__(self, terms: Mapping[str, PairedLoss]):
        super().__init__(terms)
        self._named = dict(terms)

    def forward(self, fake: Tensor, real: Tensor) -> tuple[dict[str, Tensor], Tensor | float]:
        """Return each distance, without its weight, and the sum that G's loss is charged."""
        values = {name: term(fake, real) for name, term in self._named.items()}
        charge: Tensor | float = 0.0
        for name, term in self._named.items():
            charge = charge + term.weight * values[name]
        return values, charge
