"""How learning rates follow the batch size: not at all, unless asked for; and what the log says about it."""

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from condgen.errors import CondgenError
from condgen.training.gan import GAN
from condgen.training.gan_checks import contains

RULES: dict[str, Callable[[float], float]] = {"none": lambda ratio: 1.0, "linear": lambda ratio: ratio, "sqrt": math.sqrt}
"""Factor of the rates by the ratio of batch sizes: linear for SGD (Goyal et al. 2017, arXiv:1706.02677, section 2.1), the
square root for Adam (Malladi et al. 2022, arXiv:2205.10287, definition 5.1)."""
FEW = 16
"""Samples below which batch norm's statistics are warned of: its error grows quickly there (Wu & He 2018, figure 1)."""
log = logging.getLogger("condgen")


def factor(config: dict[str, Any]) -> float:
    """Return what ``run.scale_rates`` multiplies the learning rates by.

    Raises:
        CondgenError: there is a rule without the batch size to start from.
    """
    rule, start = config["run"].get("scale_rates", "none"), config["run"].get("scale_from")
    if rule == "none":
        return 1.0
    if start is None:
        raise CondgenError(f"run.scale_rates={rule} needs run.scale_from, the batch size that the rates were chosen for.")
    return RULES[rule](config["data"]["batch_size"] / start)


def scaled(config: dict[str, Any]) -> dict[str, Any]:
    """Return ``config["model"]`` with the learning rates of its optimizers as ``run.scale_rates`` wants them."""
    times = factor(config)

    def walk(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return {key: value * times if key == "lr" and times != 1 else walk(value) for key, value in node.items()}

    model: dict[str, Any] = walk(config["model"])
    return model


def tell_scale(config: dict[str, Any], model: torch.nn.Module, world: int) -> None:
    """Log what a step is made of where it is not plain: shares of the batch, rates, batch norm."""
    batch, rule = config["data"]["batch_size"], config["run"].get("scale_rates", "none")
    if world > 1:
        log.info("Effective batch %d: %d processes, %d samples each.", batch, world, batch // world)
    if rule != "none":
        log.info("Learning rates x %.4g: %s, from batch %d to %d.", factor(config), rule, config["run"]["scale_from"], batch)
    elif world > 1:
        log.info("Learning rates as given: they belong to the effective batch, whatever the number of processes.")
    if contains(model, _BatchNorm):
        tell_batch_norm(config, model, world)


def tell_batch_norm(config: dict[str, Any], model: torch.nn.Module, world: int) -> None:
    """Log how many samples batch norm sees where it is not the whole batch, and warn where they are few."""
    joined = world == 1 or bool(config["trainer"].get("sync_batchnorm"))
    pieces = model.alternation.micro_batches if isinstance(model, GAN) else 1
    seen = config["data"]["batch_size"] // (1 if joined else world) // pieces
    if not joined:
        log.info("Batch norm sees the %d samples of its process; trainer.sync_batchnorm=true joins them.", seen)
    if seen < FEW:
        log.warning(
            "Batch norm's statistics are of %d samples, and those of fewer than %d are noise: raise data.batch_size%s%s, or "
            "choose networks without batch norm.",
            seen,
            FEW,
            "" if joined else ", set trainer.sync_batchnorm=true",
            "" if pieces == 1 else ", lower model.alternation.micro_batches",
        )
