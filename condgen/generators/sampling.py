"""Sampling options: which there are, narrower noise, batch norm's statistics measured anew."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from condgen.errors import CondgenError
from condgen.generators.ode import SOLVERS


@dataclass(frozen=True)
class Option:
    """A sampling option.

    Attributes:
        kind: of its values: float, int or str.
        description: what it does, in a sentence.
        useful: least and greatest value that are of use, for sliders and servers; a larger one is allowed.
        values: the names that it can be, where it is a name.
        neutral: the value that leaves samples as they are; None where there is no such value.
    """

    kind: type[float] | type[int] | type[str]
    description: str
    useful: tuple[float, float] = (0, 0)
    values: tuple[str, ...] = ()
    neutral: float | None = None

    def schema(self, default: object = None) -> dict[str, Any]:
        """Return the JSON schema of a value; a ``default`` of None means `neutral`, or that the option is off without it."""
        default = self.neutral if default is None else default
        text: dict[str, Any] = {"description": self.description} | ({} if default is None else {"default": default})
        if self.kind is str:
            return {"type": "string", "enum": list(self.values)} | text
        kind = "integer" if self.kind is int else "number"
        return {"type": kind, "minimum": self.useful[0], "maximum": self.useful[1]} | text


OPTIONS = {
    "truncation": Option(float, "Bound of the noise: smaller is better and less diverse.", (0.1, 4.0)),
    "temperature": Option(float, "Factor of the noise: smaller is better and less diverse.", (0.1, 2.0), neutral=1.0),
    "standing": Option(int, "Batches of 250 samples over which batch norm's statistics are measured anew.", (1, 64)),
    "guidance": Option(float, "Scale of guidance: larger is clearer and less diverse; 1 is none.", (0.1, 10.0), neutral=1.0),
    "steps": Option(int, "Steps of the solver: more follow the path more closely and take longer.", (1, 200)),
    "solver": Option(str, "The solver of the ODE that makes samples.", values=tuple(SOLVERS)),
    "top_k": Option(int, "Number of the likeliest characters among which the next one is drawn.", (1, 200)),
    "top_p": Option(float, "Probability that the characters have together among which it is drawn.", (0.1, 1.0), neutral=1.0),
}
"""Everything that some family can be sampled with, see `Generator.set_sampling`."""


def check_option(name: str, value: object) -> None:
    """Raise CondgenError if ``value`` is none for the option ``name``: names, and positive numbers, some of them whole."""
    kind = OPTIONS[name].kind
    if kind is str:
        if not isinstance(value, str):
            raise CondgenError(f"{name} must be a name, not {value}.")
    elif not isinstance(value, (int, float)) or not value > 0 or not isfinite(value):
        raise CondgenError(f"{name} must be a positive number, not {value}.")
    elif kind is int and not isinstance(value, int):
        raise CondgenError(f"{name} must be a whole number, not {value}.")


def truncated(z: Tensor, bound: float) -> Tensor:
    """Squeeze standard normal z into [-bound, bound], where it is distributed as z given that |z| <= bound.

    (The truncation trick, Brock et al. 2019, section 3.1, where values beyond the bound are drawn again. Mapping quantile to
    quantile instead keeps the samples of one seed comparable between bounds.)
    """
    outside = torch.special.ndtr(torch.tensor(-bound, dtype=torch.float64, device=z.device))
    share = outside + torch.special.ndtr(z.double()) * (1 - 2 * outside)
    squeezed: Tensor = torch.special.ndtri(share).clamp(-bound, bound).to(z.dtype)
    return squeezed


@torch.no_grad()
def tracking_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms of ``network`` that keep running statistics."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def measure_statistics(network: nn.Module, batches: int, forward: Callable[[int], object]) -> None:
    """Set batch norm's running statistics to their means over ``batches`` of generated samples.

    ("Standing statistics", Brock et al. 2019, appendix B: without them samples depend on the end of the training run.)

    Args:
        network: whose batch norms are meant.
        batches: how many.
        forward: runs the network on batch number i.

    Raises:
        CondgenError: it has no batch norm.
    """
    norms = tracking_norms(network)
    if not norms:
        raise CondgenError("standing measures batch norm's statistics, and this generator has no batch norm.")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    for i in range(batches):
        forward(i)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
