"""Conditional Glow (Kingma & Dhariwal 2018; conditional base after Ardizzone et al. 2019, section 3.2): an exact likelihood.

    log p(x | c) = log N(f(y, c); 0, I) + log |det df/dy|,    y = dequantized x (see losses/likelihood.py)
    L = -E_{(x, c) ~ data} log p(x | c) / (D log 2),    in bits per dimension

f is invertible, layer by layer (see nets/glow.py). A sample is f^-1(z, c) of noise z ~ N(0, T^2 I), where T is the temperature.
The Gaussian base, whose mean and scale the condition decides, is the last layer of each of f's levels: z is plain noise.
"""

import math
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.losses.likelihood import Likelihood, bits, log_normal
from condgen.spaces import Space
from condgen.training.base import Batch, MakeOptimizer
from condgen.training.schedules import Schedule
from condgen.training.single import SingleNetwork


class Glow(SingleNetwork):
    """A (conditional) normalizing flow on pixels.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: how 8-bit pixels become continuous and a density becomes their likelihood.
        network: makes f from (condition, space): f(y, c) is the noise (B, D) and log |det df/dy| (B,), f.inverse(z, c) is y,
            and f.fit(y, c) lets new layers start from data.
        optimizer: makes the optimizer from the parameters.
        temperature: standard deviation of the noise that samples are made from; 1 samples what was learned.
        ema: weight of the past in the average of f that is validated and sampled from; 0 uses f itself.
        gradient_clip: largest norm of the gradients; None: any.
        warmup: updates over which the learning rate grows linearly from 0: the first ones of a flow are the most dangerous.
        decay: factor of the learning rate by the share of the training that is over; None: it stays.
        compile: compile f (torch.compile); the first steps are slow, the rest faster.
        expects: the shape that the model was published for; None takes any.
        seed: decides every random number of the training.
    """

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: Likelihood,
        network: Callable[..., nn.Module],
        optimizer: MakeOptimizer,
        temperature: float = 1.0,
        ema: float = 0.0,
        gradient_clip: float | None = None,
        warmup: int = 0,
        decay: Schedule | None = None,
        compile: bool = False,
        expects: Sequence[int] | None = None,
        seed: int = 0,
    ):
        if not isinstance(loss, Likelihood):
            raise CondgenError(f"Glow is trained by its likelihood and {type(loss).__name__} is none: choose loss=likelihood.")
        super().__init__(
            space,
            condition,
            network,
            optimizer,
            ema=ema,
            gradient_clip=gradient_clip,
            warmup=warmup,
            decay=decay,
            compile=compile,
            expects=expects,
            seed=seed,
        )
        self.loss = loss
        self._validation: list[Tensor] = []
        self._started = False
        self.usual = {"temperature": temperature}
        self.tune()

    # --- likelihood ---

    def nats(self, flow: nn.Module, batch: Batch, u: Tensor) -> Tensor:
        """Return -log p(x | c) of each sample of a batch in nats, (B,): a bound, exact on average over u (see `Likelihood`).

        Args:
            flow: f, or its average.
            batch: samples (B, *shape) in [-1, 1] and encoded conditions (B, ...).
            u: uniform noise in [0, 1), of the samples' shape and f's type.
        """
        x, condition = batch
        y, log_slope = self.loss.dequantize(x, u)
        z, log_determinant = flow(y, condition)
        nats: Tensor = self.loss(log_normal(z) + log_determinant, log_slope, z.shape[1])
        return nats

    @property
    def density(self) -> str:
        """Of 8-bit pixels."""
        return "levels"

    def likelihood(self, x: Tensor, condition: Tensor, stream: torch.Generator, draws: int) -> dict[str, Tensor]:
        """Return ``log_likelihood`` and ``bits_per_dim``: of the mean density over ``draws`` of u, which is exact for many."""
        us = (self.uniform(len(x), stream).to(x.device) for _ in range(draws))
        nats = torch.stack([self.nats(self.wanted, (x, condition), u) for u in us]).double()  # (draws, B)
        log_likelihood = (-nats).logsumexp(0) - math.log(draws)
        return {"log_likelihood": log_likelihood, "bits_per_dim": bits(-log_likelihood, prod(self.space.shape))}

    def uniform(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw u, uniform in [0, 1), (count, *shape)."""
        return torch.rand(count, *self.space.shape, generator=generator)

    # --- training ---

    def on_train_start(self) -> None:
        """Layers of a resumed or finetuned run have started already, see `Flow.fit`."""
        self._started = False

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let new layers start from the first batch, that of all processes."""
        super().on_train_batch_start(batch, batch_idx)
        if self._started:
            return
        self._started = True
        x, condition = batch
        y, _ = self.loss.dequantize(x, self.rows(self.uniform, len(x), "dequantization", batch_idx))
        if self.trainer.world_size > 1:
            y, condition = (torch.as_tensor(self.all_gather(part)).flatten(0, 1) for part in (y, condition))
        self.network.fit(y, condition)  # type: ignore[operator]
        if self.ema and self.global_step == 0:
            self.ema.network.load_state_dict(self.network.state_dict())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the objective of a batch."""
        self.set_rate()
        u = self.rows(self.uniform, len(batch[0]), "dequantization", batch_idx)
        nats = self.nats(self.network, batch, u).mean()
        loss = bits(nats, u[0].numel())
        self.record(loss=nats, bits_per_dim=loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the averaged flow's loss over the validation part, with the same u in every epoch."""
        u = self.fixed_rows(self.uniform, len(batch[0]), "validation", batch_idx)
        nats = self.nats(self.wanted, batch, u).double()
        self._validation.append(torch.stack([nats.sum(), nats.new_tensor(len(nats))]))

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective, in nats a sample and in bits per dimension."""
        sums = self.trainer.strategy.reduce(torch.stack(self._validation).sum(0), reduce_op="sum")
        self._validation = []
        if not self.trainer.sanity_checking:
            loss = sums[0] / sums[1]
            metrics = {"val/loss": loss.item(), "val/bits_per_dim": bits(loss, prod(self.space.shape)).item()}
            self.log_dict(metrics, logger=False)
            self.publish(metrics)

    # --- sampling ---

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw z ~ N(0, I), (count, D)."""
        return torch.randn(count, prod(self.space.shape), generator=generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Map noise (B, D) through the inverse to images (B, *shape) in [-1, 1], on the 256 levels of 8-bit pixels."""
        return self.loss.quantize(self.wanted.inverse(z, condition))  # type: ignore[operator]
