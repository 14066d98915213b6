"""Conditional flow matching (Lipman et al. 2023, equations 14 and 23 with sigma_min = 0; rectified flow, Liu et al. 2023).

    L = E_{t, x_0 ~ N(0, I), (x_1, c) ~ data} || v(x_t, t, c) - (x_1 - x_0) ||^2,    x_t = (1 - t) x_0 + t x_1

A sample is the end at t = 1 of dx/dt = v(x, t, c) from noise x_0. Where c was dropped at times in training, for a null, the
velocity can be guided: v_w = v(x, t, null) + w (v(x, t, c) - v(x, t, null)) (Ho & Salimans 2022, equation 6, with w for 1 + w).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.losses.velocity import VelocityLoss
from condgen.spaces import Space
from condgen.training.base import Batch, MakeOptimizer
from condgen.training.ode import SOLVERS, integrate
from condgen.training.schedules import Schedule
from condgen.training.single import SingleNetwork
from condgen.training.times import Times, Uniform, stratified


class FlowMatching(SingleNetwork):
    """A (conditional) velocity field that carries noise to samples.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: how far a velocity is from that of the path.
        network: makes v from (condition, space); v(x, t, c, dropped) is a batch of velocities, with times t (B,) and bool (B,).
        optimizer: makes the optimizer from the parameters.
        drop: probability with which a sample's condition is dropped in training; 0 leaves nothing to be guided from.
        times: where on the path is looked how often; None: everywhere alike.
        sampler: how the path is followed: euler, midpoint or heun.
        steps: number of steps of the sampler.
        guidance: scale w of the guidance; 1 for none.
        ema: weight of the past in the average of v that is validated and sampled from; 0 uses v itself.
        gradient_clip: largest norm of the gradients; None: any.
        decay: factor of the learning rate by the share of the training that is over; None: it stays.
        channels_last: keep weights of convolutions in this memory format, which some hardware prefers.
        compile: compile v (torch.compile); the first steps are slow, the rest faster.
        expects: the shape that the model was published for; None takes any.
        seed: decides every random number of the training.
    """

    KNOBS = (*SingleNetwork.KNOBS, "guidance", "steps", "sampler")

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: VelocityLoss,
        network: Callable[..., nn.Module],
        optimizer: MakeOptimizer,
        drop: float = 0.1,
        times: Times | None = None,
        sampler: str = "heun",
        steps: int = 10,
        guidance: float = 1.0,
        ema: float = 0.0,
        gradient_clip: float | None = None,
        decay: Schedule | None = None,
        channels_last: bool = False,
        compile: bool = False,
        expects: Sequence[int] | None = None,
        seed: int = 0,
    ):
        if not isinstance(loss, VelocityLoss):
            raise CondgenError(
                f"Flow matching needs a loss of velocities and {type(loss).__name__} is none: choose loss=velocity."
            )
        if not 0 <= drop < 1:
            raise CondgenError(f"model.drop must lie in [0, 1), not {drop}; 0 drops nothing.")
        super().__init__(
            space,
            condition,
            network,
            optimizer,
            ema=ema,
            gradient_clip=gradient_clip,
            decay=decay,
            channels_last=channels_last,
            compile=compile,
            expects=expects,
            seed=seed,
        )
        self.loss = loss
        self.drop = drop
        self.times = times or Uniform()
        self._validation: list[Tensor] = []
        self.usual = {"sampler": sampler, "steps": steps, "guidance": guidance}
        self.tune()

    # --- training ---

    def path_losses(self, v: nn.Module, batch: Batch, draw: Callable[..., Tensor], times: Times, drop: float) -> Tensor:
        """Return the loss of each sample of a batch, (B,), at one time on its path.

        Args:
            v: the network, or its average.
            batch: samples x_1 (B, *shape) and encoded conditions (B, ...).
            draw: returns this process's rows of what a function of their number and a stream draws for all, by its purpose.
            times: where on the path.
            drop: probability of the null.
        """
        x, condition = batch
        noise = draw(self.prior, "noise")
        t = times(draw(stratified, "times"))
        dropped = draw(lambda count, stream: torch.rand(count, generator=stream), "dropped") < drop
        shaped = t.view(-1, *[1] * (x.dim() - 1))
        on_path = (1 - shaped) * noise + shaped * x
        losses: Tensor = self.loss(v(on_path, t, condition, dropped), x - noise)
        return losses

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the objective of a batch."""
        self.set_rate()

        def draw(of: Callable[[int, torch.Generator], Tensor], purpose: str) -> Tensor:
            return self.rows(of, len(batch[0]), purpose, batch_idx)

        loss = self.path_losses(self.network, batch, draw, self.times, self.drop).mean()
        self.record(loss=loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the averaged field's loss over the validation part: nothing dropped, uniform times, always the same noise."""

        def draw(of: Callable[[int, torch.Generator], Tensor], purpose: str) -> Tensor:
            return self.fixed_rows(of, len(batch[0]), "validation " + purpose, batch_idx)

        losses = self.path_losses(self.wanted, batch, draw, Uniform(), 0.0)
        self._validation.append(torch.stack([losses.double().sum(), losses.new_tensor(len(losses)).double()]))

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective."""
        sums = self.trainer.strategy.reduce(torch.stack(self._validation).sum(0), reduce_op="sum")
        self._validation = []
        if not self.trainer.sanity_checking:
            metrics = {"val/loss": (sums[0] / sums[1]).item()}
            self.log_dict(metrics, logger=False)
            self.publish(metrics)

    # --- sampling ---

    def check_knobs(self, knobs: Mapping[str, Any]) -> None:
        """Refuse an unknown sampler, and guidance where no null was trained."""
        if knobs["sampler"] not in SOLVERS:
            raise CondgenError(f"sampler must be {', '.join(SOLVERS)}, not {knobs['sampler']}.")
        if knobs.get("guidance", 1) == 1:
            return
        if not self.condition.width and self.condition.map_shape is None:
            raise CondgenError("guidance compares samples with and without what is asked for, and this model is unconditional.")
        if not self.drop:
            raise CondgenError("guidance needs a model that was trained without its condition too: this one has model.drop=0.")

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw x_0 ~ N(0, I), (count, *shape)."""
        return torch.randn(count, *self.space.shape, generator=generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Follow the field from noise (B, *shape) to samples of the same shape, within [-1, 1]."""

        def velocity(x: Tensor, t: float) -> Tensor:
            return self.guided(x, torch.full((len(x),), t, device=x.device, dtype=x.dtype), condition)

        return integrate(velocity, z, int(self.knobs["steps"]), str(self.knobs["sampler"])).clamp(-1, 1)

    def guided(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the velocities that samples follow, at x (B, *shape), t (B,), for encoded conditions (B, ...)."""
        seen = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        scale = self.knobs.get("guidance", 1)
        if scale == 1:
            velocity: Tensor = self.wanted(x, t, condition, seen)
            return velocity
        both = self.wanted(torch.cat([x, x]), torch.cat([t, t]), torch.cat([condition] * 2), torch.cat([seen, ~seen]))
        asked, null = both.chunk(2)
        return torch.lerp(null, asked, scale)
