"""What families of one network and one optimizer share: clipping, a learning rate that decays, an average of the weights."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.spaces import Space
from condgen.training.base import GenerativeModel, MakeOptimizer, check_optimizer
from condgen.training.ema import EMA
from condgen.training.schedules import Schedule, set_rates
from condgen.training.updates import check_updates, clip


class SingleNetwork(GenerativeModel):
    """A model whose only network is trained by one loss.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        network: makes it from (condition, space).
        optimizer: makes the optimizer from the parameters.
        ema: weight of the past in the average of the network that is validated and sampled from; 0 uses the network itself.
        gradient_clip: largest norm of the gradients; None: any.
        warmup: updates over which the learning rate grows linearly from 0.
        decay: factor of the learning rate by the share of the training that is over; None: it stays.
        channels_last: keep weights of convolutions in this memory format, which some hardware prefers.
        compile: compile the network (torch.compile); the first steps are slow, the rest faster.
        expects: the shape that the model was published for; None takes any.
        seed: decides every random number of the training.

    Raises:
        CondgenError: a number that means nothing.
    """

    objective = "val/loss"

    def __init__(
        self,
        space: Space,
        condition: Condition,
        network: Callable[..., nn.Module],
        optimizer: MakeOptimizer,
        ema: float = 0.0,
        gradient_clip: float | None = None,
        warmup: int = 0,
        decay: Schedule | None = None,
        channels_last: bool = False,
        compile: bool = False,
        expects: Sequence[int] | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, expects, seed)
        check_updates(ema, gradient_clip)
        if warmup < 0:
            raise CondgenError(f"model.warmup must be at least 0 updates, not {warmup}.")
        self.network = network(condition=condition, space=space)
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.ema = EMA(self.network, ema) if ema else None
        self.optimizer = check_optimizer("optimizer", optimizer)
        self.gradient_clip = gradient_clip
        self.warmup = warmup
        self.decay = decay
        if compile:
            self.network.compile()

    def configure_optimizers(self) -> Optimizer:
        """One optimizer for the network."""
        return self.optimizer(self.network.parameters())

    @property
    def weights(self) -> str:
        """ "ema" where an average is kept and wanted, else "raw"."""
        return "ema" if self.ema and self.averaged else "raw"

    @property
    def wanted(self) -> nn.Module:
        """The network, or its average where one is kept and wanted."""
        return self.ema.network if self.ema and self.averaged else self.network

    def set_rate(self) -> None:
        """Set the learning rate of the update that follows."""
        if self.decay or self.warmup:
            growth = min(1.0, (self.global_step + 1) / self.warmup) if self.warmup else 1.0
            set_rates(self.trainer.optimizers, growth * (self.decay(self.progress()) if self.decay else 1.0))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Scale the gradients down to the largest norm that is allowed."""
        clip(self.network.parameters(), self.gradient_clip)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Update the network, then its average: before any checkpoint of this update is written."""
        super().optimizer_step(*arguments, **options)
        if self.ema:
            self.ema.update(self.global_step + 1)
