"""A classifier for so many updates: the same compute, whatever it is trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.augment.images import Augmentation
from condgen.data.imbalance import balanced_order
from condgen.data.pixels import statistics
from condgen.errors import CondgenError
from condgen.metrics.fitting import WHITENING_IMAGES, predict
from condgen.nets.classifier import Classifier
from condgen.randomness import generator, mix
from condgen.run.precision import fast_bf16
from condgen.spaces import Images, to_float

WARM_UP = 0.1
"""Share of the updates over which the rate rises; then it falls to 0 along a cosine."""


@dataclass(frozen=True)
class Budget:
    """What each classifier may cost.

    Attributes:
        updates: steps of the optimizer (AdamW).
        batch_size: images in each.
        rate: largest learning rate.
    """

    updates: int
    batch_size: int
    rate: float


def make_network(make: Callable[..., nn.Module], images: Tensor, classes: int, seed: int) -> nn.Module:
    """Build a classifier with its own random weights.

    Args:
        make: is given ``space`` and ``classes`` as far as it takes them.
        images: those to be trained on, uint8 (N, C, H, W), for their mean and deviation.
        classes: the number K.
        seed: decides the weights.
    """
    takes = signature(make).parameters
    known: dict[str, Any] = {"classes": classes}
    if "space" in takes:
        mean, deviation = statistics(images, torch.arange(len(images)))
        known["space"] = Images(images.shape[1:], mean, [max(value, 1e-3) for value in deviation])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, "classifier"))
        return make(**{name: value for name, value in known.items() if name in takes})


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    *,
    balance: float = 0.0,
    weights: Tensor | None = None,
    augment: Augmentation | None = None,
    seed: int = 0,
) -> None:
    """Train ``network`` in place, with cross-entropy.

    Args:
        network: returns logits (B, K) of images (B, C, H, W) in [-1, 1].
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        budget: how long.
        balance: how far the classes are drawn alike, see `balanced_order`.
        weights: of each class in the loss, (K,).
        augment: changes each batch.
        seed: decides order, augmentation and dropout.

    Raises:
        CondgenError: the network does not return logits of the classes.
    """
    device = next(network.parameters()).device
    if isinstance(network, Classifier):
        first = torch.randperm(len(images), generator=generator(seed, "whitening"))[:WHITENING_IMAGES]
        network.whiten(to_float(images[first]).to(device))
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=budget.rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step / budget.updates))
    half = fast_bf16(device.type)[0]
    weights = None if weights is None else weights.to(device)
    drawn = draws(labels, budget.updates * budget.batch_size, balance, seed)
    network.train().to(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, "dropout"))
        for step, rows in enumerate(torch.split(drawn, budget.batch_size)):
            x = to_float(images[rows].to(device))
            if augment is not None:
                x = augment(x, torch.rand(len(rows), augment.draws, generator=generator(seed, "augment", step)).to(device))
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                logits = network(x.contiguous(memory_format=torch.channels_last))
            check(network, logits, int(labels.max()) + 1)
            loss = F.cross_entropy(logits.float(), labels[rows].to(device), weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()


def check(network: nn.Module, logits: Any, classes: int) -> None:
    """Refuse a network that returns no logits (B, K); raises CondgenError."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < classes:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise CondgenError(f"network={type(network).__name__} must return logits (batch, {classes}), not {shape}.")


def draws(labels: Tensor, count: int, balance: float, seed: int) -> Tensor:
    """Return the rows of ``count`` images to train on, int64 (count,): one order after the other."""
    epochs = -(-count // len(labels))
    orders = [balanced_order(labels, balance, generator(seed, "order", epoch)) for epoch in range(epochs)]
    return torch.cat(orders)[:count]


def factor(share: float) -> float:
    """Return the rate's factor after ``share`` of the updates."""
    if share < WARM_UP:
        return (share + 0.01) / (WARM_UP + 0.01)
    return 0.5 * (1 + float(torch.cos(torch.tensor((share - WARM_UP) / (1 - WARM_UP) * torch.pi))))


@torch.no_grad()
def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Return logits, float32 (N, K) on the CPU, of uint8 ``images`` (N, C, H, W)."""
    return predict(network, images)


def head_of(network: nn.Module) -> nn.Linear:
    """Return the last linear layer of a classifier; raises CondgenError where it has none."""
    heads = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise CondgenError(f"network={type(network).__name__} has no torch.nn.Linear, before which features could be mixed.")
    return heads[-1]


def features_of(network: nn.Module, images: Tensor) -> tuple[Tensor, float]:
    """Return what the last linear layer sees of images, (N, D), and by what the network multiplies its outputs."""
    head, seen = head_of(network), []
    hook = head.register_forward_hook(lambda module, inputs, outputs: seen.append((inputs[0], outputs)))
    try:
        logits = logits_of(network, images)
    finally:
        hook.remove()
    raw = torch.cat([outputs.float().cpu() for _, outputs in seen])
    return torch.cat([inputs.float().cpu() for inputs, _ in seen]), float((raw * logits).sum() / raw.square().sum())
