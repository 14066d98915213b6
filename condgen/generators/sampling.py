"""Sampling options: which there are, narrower noise, batch norm's statistics measured anew."""

from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from condgen.errors import CondgenError

OPTIONS = {"truncation": float, "temperature": float, "standing": int, "guidance": float, "steps": int, "solver": str}
"""Everything that some family can be sampled with, see `Generator.set_sampling`."""


def check_option(name: str, value: object) -> None:
    """Raise CondgenError if ``value`` is none for the option ``name``: names, and positive numbers, some of them whole."""
    if OPTIONS[name] is str:
        if not isinstance(value, str):
            raise CondgenError(f"{name} must be a name, not {value}.")
    elif not isinstance(value, (int, float)) or not value > 0 or not isfinite(value):
        raise CondgenError(f"{name} must be a positive number, not {value}.")
    elif OPTIONS[name] is int and not isinstance(value, int):
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
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
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
