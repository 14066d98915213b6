"""Starting from a trained model's weights, on other data, for other classes, or as another model: as far as they fit."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm

from condgen.errors import CondgenError
from condgen.run.checkpoint import find, read

AVERAGE, ORIGINAL = "ema.average.", "generator."
"""Where a run that kept an average has it in its checkpoint, and what it is an average of."""


def start_from(model: nn.Module, path: str | Path) -> str:
    """Load the weights of a checkpoint into ``model`` wherever name and shape are the same, and return what was not loaded.

    Weights, running statistics of batch norm and the vectors of spectral norm are loaded; what belongs to the data (their
    standardization) or to the course of the other training (optimizers, ADA's probability) is not. An average of G that the
    checkpoint does not have starts as what would be averaged.

    Args:
        model: freshly built.
        path: a checkpoint, or a run directory (its best checkpoint, else its last).

    Raises:
        CondgenError: there is no checkpoint, or nothing in it fits.
    """
    file = find(path)
    content = read(file)
    found: dict[str, Tensor] = content["state_dict"]
    for own, other in ((AVERAGE, ORIGINAL), (ORIGINAL, AVERAGE)):  # an exported generator has its average only
        if not any(name.startswith(own) for name in found):
            found = found | {own + n.removeprefix(other): t for n, t in found.items() if n.startswith(other)}
    wanted = weights_of(model)
    fitting = {name: found[name] for name, tensor in wanted.items() if name in found and found[name].shape == tensor.shape}
    if not fitting:
        raise CondgenError(f"run.finetune={path}: no weight of {file} has the name and shape of one of this model's.")
    with torch.no_grad():
        for name, tensor in fitting.items():
            wanted[name].copy_(tensor)
    sizes = [sum(tensor.numel() for tensor in tensors.values()) / 1e6 for tensors in (fitting, wanted)]
    lines = [
        f"Starting from {file} (update {content['global_step']}): {len(fitting)} of {len(wanted)} tensors, "
        f"{sizes[0]:.2f} of {sizes[1]:.2f} M values."
    ]
    lines += [f"  new: {name} {difference(t, found.get(name))}" for name, t in wanted.items() if name not in fitting]
    return "\n".join(lines)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters, running statistics and the vectors of spectral norm by their names in a checkpoint."""
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    for prefix, module in model.named_modules():
        if isinstance(module, (_BatchNorm, _SpectralNorm)):
            tensors |= {f"{prefix}.{name}": buffer for name, buffer in module.named_buffers(recurse=False)}
    return tensors


def difference(mine: Tensor, theirs: Tensor | None) -> str:
    """Say why a tensor could not be loaded."""
    here, there = ("x".join(map(str, t.shape)) or "scalar" for t in (mine, mine if theirs is None else theirs))
    return f"({here}, not in it)" if theirs is None else f"({here}, in it {there})"
