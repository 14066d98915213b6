"""Clipped sums of per-sample gradients, without a gradient per sample in memory (ghost clipping).

A layer's gradient by one sample follows from what went into the layer and from the loss's gradient by what came out of it, so
that its norm is known before any gradient of a weight is (Goodfellow 2015, arXiv:1510.01799; Li et al. 2022, arXiv:2110.05679,
section 4; convolutions: Bu et al. 2022, arXiv:2205.10683). A second backward pass of the losses, each times its factor
min(1, C / norm), then makes the clipped sum in one go. Layers beside `Linear` and `Conv2d` get their own small gradients by
`torch.func`.

A sample may occur in several rows of a layer's batch: `copies` of it, or D's rows of a real sample and of the generated one
beside it. Rows lie as (R, B): all samples once, then all of them again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.errors import CondgenError

Call = tuple[tuple[Any, ...], Tensor]
"""What a layer was given, and what it returned."""


class Recorder:
    """Notes what goes through the layers that have trained parameters of their own.

    Args:
        networks: whose layers to look at.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        self.layers = [
            layer
            for layer in {module: None for network in networks for module in network.modules()}
            if any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
        ]
        self.calls: dict[nn.Module, list[Call]] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note the calls from here on."""
        self.calls = {}
        handles = [layer.register_forward_hook(self._note) for layer in self.layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, layer: nn.Module, given: tuple[Any, ...], returned: Tensor) -> None:
        self.calls.setdefault(layer, []).append((given, returned))

    def norms(self, losses: Tensor) -> Tensor:
        """Return the norm of each sample's gradient by all recorded parameters, (B,), of its loss among ``losses`` (B,)."""
        size = len(losses)
        calls = [(layer, call) for layer, made in self.calls.items() for call in made]
        outputs = [returned for _, (_, returned) in calls]
        if not outputs:
            return losses.new_zeros(size)
        gradients = torch.autograd.grad(losses.sum(), outputs, retain_graph=True, allow_unused=True)
        rows: dict[nn.Module, list[tuple[tuple[Any, ...], Tensor]]] = {}
        for (layer, (given, _)), gradient in zip(calls, gradients, strict=True):
            if gradient is not None:
                rows.setdefault(layer, []).append((given, gradient))
        squares = losses.new_zeros(size)
        with torch.no_grad():
            for layer, found in rows.items():
                squares = squares + squared_norms(layer, found, size)
        return squares.sqrt()


def clipped_sum(
    recorder: Recorder, losses_of: Callable[[], Tensor], parameters: Sequence[nn.Parameter], clip: float
) -> tuple[list[Tensor], Tensor]:
    """Return the sum over samples of their gradients, each scaled down to norm ``clip``, and the losses (B,), detached.

    Args:
        recorder: of the networks that ``parameters`` belong to.
        losses_of: runs the networks and returns the loss of each sample, (B,).
        parameters: what is trained.
        clip: largest norm of one sample's contribution.

    Raises:
        CondgenError: a gradient is not finite, or a weight is used outside its layer.
    """
    with recorder.recording():
        losses = losses_of()
    norms = recorder.norms(losses)
    factors = (clip / norms.clamp(min=1e-12)).clamp(max=1.0)
    if not bool(norms.isfinite().all()):
        raise CondgenError(
            "Training stopped: a sample's gradient is not finite, so that nothing bounds it; try a smaller rate."
        )
    gradients = torch.autograd.grad((factors * losses).sum(), parameters, allow_unused=True)
    known = {id(parameter) for layer in recorder.calls for parameter in layer.parameters(recurse=False)}
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and id(parameter) not in known:
            raise CondgenError(
                "privacy needs each sample's own gradient, and a network uses weights outside the layers that hold them: "
                "choose another network."
            )
    total = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
    return total, losses.detach()


def squared_norms(layer: nn.Module, calls: Sequence[tuple[tuple[Any, ...], Tensor]], size: int) -> Tensor:
    """Return the squared norms (B,) of each sample's gradient by a layer's own parameters, over all of its calls."""
    if any(len(gradient) % size for _, gradient in calls):
        raise CondgenError(
            f"privacy needs each sample's own gradient, and {type(layer).__name__} does not keep the samples of a batch apart: "
            "choose another network."
        )
    if isinstance(layer, nn.Linear):
        rows = [(by_sample(given[0], size), by_sample(g, size)) for given, g in calls]  # (B, T, inputs), (B, T, outputs)
        return of_products(rows, layer.bias is not None)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        return of_products([unfolded(layer, given[0], g, size) for given, g in calls], layer.bias is not None)
    sums: dict[str, Tensor] = {}
    for given, g in calls:
        for name, gradient in own_gradients(layer, given, g).items():
            summed = gradient.view(-1, size, *gradient.shape[1:]).sum(0)  # (B, *parameter)
            sums[name] = sums[name] + summed if name in sums else summed
    return torch.stack([gradient.flatten(1).square().sum(1) for gradient in sums.values()]).sum(0)


def of_products(rows: Sequence[tuple[Tensor, Tensor]], bias: bool) -> Tensor:
    """Return ||sum_t g_t a_t^T||^2 of each sample, (B,), for inputs a (B, T, I) and gradients g (B, T, O); with the bias's."""
    a, g = (torch.cat(part, dim=1) for part in zip(*rows, strict=True))
    if a.shape[1] ** 2 <= a.shape[2] * g.shape[2]:  # T x T is the smaller of the two tables
        squares = ((a @ a.mT) * (g @ g.mT)).sum((1, 2))
    else:
        squares = (g.mT @ a).square().sum((1, 2))
    return squares + g.sum(1).square().sum(1) if bias else squares


def by_sample(x: Tensor, size: int) -> Tensor:
    """Bring rows (R * B, ..., D) to (B, R * ..., D)."""
    return x.reshape(-1, size, *x.shape[1:]).transpose(0, 1).reshape(size, -1, x.shape[-1])


def unfolded(layer: nn.Conv2d, x: Tensor, gradient: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Write a convolution as a product: patches (B, T, I) and gradients (B, T, O), T = R * places."""
    padding = layer.padding
    assert not isinstance(padding, str), "strings are no padding that condgen's networks use"
    patches = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)  # (R * B, I, places)
    return by_sample(patches.mT, size), by_sample(gradient.flatten(2).mT, size)


def own_gradients(layer: nn.Module, given: tuple[Any, ...], gradient: Tensor) -> dict[str, Tensor]:
    """Return each row's gradient (R * B, *parameter) by a layer's own parameters, those of its parts left out."""
    own = {name: parameter.detach() for name, parameter in layer.named_parameters(recurse=False) if parameter.requires_grad}

    def of_row(row: tuple[Any, ...], g: Tensor) -> dict[str, Tensor]:
        def weighted(parameters: dict[str, Tensor]) -> Tensor:
            alone = tuple(part[None] if isinstance(part, Tensor) else part for part in row)
            returned: Tensor = torch.func.functional_call(layer, parameters, alone)
            return (returned * g[None]).sum()

        found: dict[str, Tensor] = torch.func.grad(weighted)(own)
        return found

    detached = tuple(part.detach() if isinstance(part, Tensor) else part for part in given)
    axes = tuple(0 if isinstance(part, Tensor) else None for part in given)
    found: dict[str, Tensor] = torch.func.vmap(of_row, in_dims=(axes, 0))(detached, gradient)
    return found
