"""Training a classifier: the shipped extractors, recognizers of attributes, and the judge of the classification accuracy score.

The recipe is airbench's (arXiv:2404.00498, section 3): SGD with Nesterov momentum on a triangular rate, label smoothing,
fast shifts in the norms and Lookahead, here by batches that a seed decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.augment.images import Augmentation
from condgen.data.loader import BatchLoader
from condgen.files import replacing
from condgen.nets.classifier import Classifier
from condgen.run.precision import fast_bf16
from condgen.spaces import to_float

LOOKAHEAD_EVERY = 5
WHITENING_IMAGES = 5000


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        epochs: passes over the images.
        batch_size: images in a step.
        rate: peak learning rate; it rises over the first fifth of the steps and falls to 7 %.
        decay: weight decay per step at peak rate is ``rate * decay``.
        momentum: Nesterov's.
        shift_scale: the norms' shifts learn that many times faster.
        smoothing: label smoothing.
        bfloat16: compute convolutions in bfloat16; None: where the device does that fast.
    """

    epochs: int
    batch_size: int = 1024
    rate: float = 1.5
    decay: float = 1.33e-3
    momentum: float = 0.85
    shift_scale: float = 64.0
    smoothing: float = 0.2
    bfloat16: bool | None = None


def fit(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    augment: Augmentation | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Train ``network`` in place.

    Args:
        network: freshly made, or to be gone on with from ``checkpoint``.
        images: uint8 (N, C, H, W).
        labels: int64 (N,), or (N, ...) whatever ``loss`` takes.
        recipe: how long and how fast.
        loss: of logits (B, K) and labels (B, ...); None: cross-entropy with the recipe's smoothing.
        augment: changes each batch.
        seed: decides order and augmentation.
        checkpoint: written after each epoch and, if it exists, gone on from.
        report: called after each epoch with its number and its mean loss.
    """
    epoch = 0
    loader = BatchLoader(
        images,
        labels,
        min(recipe.batch_size, len(images)),
        shuffle=True,
        drop_last=True,
        seed=seed,
        augment=augment,
        device=next(network.parameters()).device,
        position=lambda: (epoch, 0),
    )
    network.whiten(to_float(images[:WHITENING_IMAGES]).to(loader.device))
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(groups(network, recipe), momentum=recipe.momentum, nesterov=True, fused=True)
    steps = recipe.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: triangle(step / steps))
    slow = {name: value.clone() for name, value in network.state_dict().items()}
    if checkpoint and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        slow, epoch = state["slow"], state["epoch"]
    device = loader.device.type
    half = fast_bf16(device)[0] if recipe.bfloat16 is None else recipe.bfloat16
    criterion = loss or partial(F.cross_entropy, label_smoothing=recipe.smoothing)
    network.train()
    while epoch < recipe.epochs:
        losses = []
        for x, label in loader:
            with torch.autocast(device, torch.bfloat16, enabled=half):
                logits = network(x.contiguous(memory_format=torch.channels_last))
            value = criterion(logits.float(), label)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(value.detach())
            if schedule.last_epoch % LOOKAHEAD_EVERY == 0:
                look_ahead(network, slow, 0.95**LOOKAHEAD_EVERY * (schedule.last_epoch / steps) ** 3)
        epoch += 1
        if checkpoint:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            with replacing(checkpoint) as temporary:
                torch.save(state | {"slow": slow, "epoch": epoch}, temporary)
        if report:
            report(epoch, float(torch.stack(losses).mean()))
    look_ahead(network, slow, 1.0)
    network.eval()


def groups(network: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Split the parameters into the norms' shifts and the others."""
    shifts = [p for n, p in network.named_parameters() if "norm" in n and p.requires_grad]
    others = [p for n, p in network.named_parameters() if "norm" not in n and p.requires_grad]
    fast = recipe.shift_scale
    return [
        {"params": others, "lr": recipe.rate, "weight_decay": recipe.decay},
        {"params": shifts, "lr": recipe.rate * fast, "weight_decay": recipe.decay / fast},
    ]


def triangle(share: float) -> float:
    """Return the rate's factor after ``share`` of the steps: 0.2 to 1 in the first 23 %, then down to 0.07."""
    if share < 0.23:
        return 0.2 + 0.8 * share / 0.23
    return 1 - 0.93 * (share - 0.23) / 0.77


@torch.no_grad()
def look_ahead(network: nn.Module, slow: dict[str, Tensor], decay: float) -> None:
    """Move the slow weights towards the network's by ``1 - decay``, and the network to them (arXiv:1907.08610)."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            slow[name].lerp_(value, 1 - decay)
            value.copy_(slow[name])


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, block: int = 500) -> Tensor:
    """Return what ``network`` says of uint8 ``images`` (N, C, H, W), float32 (N, K) on the CPU."""
    device = next(network.parameters()).device
    return torch.cat([network(to_float(some.to(device))).float().cpu() for some in torch.split(images, block)])


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of uint8 ``images`` (N, C, H, W) that ``network`` classifies as ``labels`` (N,), in 0..1."""
    return int((predict(network, images).argmax(1) == labels).sum()) / len(labels)
