"""Conditional flow matching (Lipman et al. 2023, equations 14 and 23 with sigma_min = 0; rectified flow, Liu et al. 2023).

    L = E_{t, x_0 ~ N(0, I), (x_1, c) ~ data} || v(x_t, t, c) - (x_1 - x_0) ||^2,    x_t = (1 - t) x_0 + t x_1

Where c is dropped at times, for a null, samples can be guided later (see `condgen.generators.flow_matching`).
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.flow_matching import FlowMatchingGenerator
from condgen.losses.velocity import VelocityLoss
from condgen.spaces import Space
from condgen.training.base import Batch, Draw, MakeOptimizer, check_optimizer
from condgen.training.options import Options
from condgen.training.private import Mechanism
from condgen.training.single import Rows, SingleNetwork, uniform
from condgen.training.tally import Tally
from condgen.training.times import Times, Uniform, stratified


class FlowMatching(SingleNetwork):
    """The training of a (conditional) velocity field.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: how far a velocity is from that of the path.
        generator: makes the field from (space, condition), see `FlowMatchingGenerator`.
        optimizer: makes the optimizer from the parameters.
        times: where on the path is looked how often; None: everywhere alike.
        options: what every family can be told; None: the defaults of `Options`.
        seed: decides every random number of the training.
    """

    mechanism: ClassVar[Mechanism | None] = "steps"
    steps_compile = True
    generator: FlowMatchingGenerator

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: VelocityLoss,
        generator: Callable[..., FlowMatchingGenerator],
        optimizer: MakeOptimizer,
        times: Times | None = None,
        options: Options | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, options, seed)
        if not isinstance(loss, VelocityLoss):
            raise CondgenError(
                f"Flow matching needs a loss of velocities and {type(loss).__name__} is none: choose loss=velocity."
            )
        self.generator = generator(space=space, condition=condition)
        self.make_optimizer = check_optimizer("optimizer", optimizer)
        self.loss = loss
        self.times = times or Uniform()
        self._tally = Tally()
        self.keep_average()
        self.options.compiled(self.generator.network)

    # --- a training step ---

    def given(self, batch: Batch, draw: Rows) -> tuple[Tensor, ...]:
        """See `SingleNetwork.given`: noise, and uniform numbers that decide on times and on whether conditions are dropped."""
        return *batch, draw(self.generator.latents, "noise"), draw(stratified, "times"), draw(uniform, "dropped")

    def losses_of(self, *given: Tensor) -> Tensor:
        """See `SingleNetwork.losses_of`."""
        return self.path_losses(self.generator, given, self.times, self.generator.condition_dropout)

    def path_losses(self, field: FlowMatchingGenerator, given: Sequence[Tensor], times: Times, dropout: float) -> Tensor:
        """Return the loss of each sample of a batch, (B,), at one time on its path.

        Args:
            field: the velocity field, or its average.
            given: samples x_1 (B, *shape), encoded conditions (B, ...), and what `given` drew.
            times: where on the path.
            dropout: probability of the null in place of the condition.
        """
        x, condition, noise, place, chance = given
        t = self.placed(times(place))
        shaped = t.view(-1, *[1] * (x.dim() - 1))
        on_path = (1 - shaped) * noise + shaped * x
        target = self.target(noise, x, on_path, t, condition)
        losses: Tensor = self.loss(field.network(on_path, t, condition, chance < dropout), target)
        return losses

    def placed(self, t: Tensor) -> Tensor:
        """Return the times (B,) at which the field is trained, of those that were drawn: all of them."""
        return t

    def target(self, noise: Tensor, x: Tensor, on_path: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the velocities (B, *shape) to learn, of paths from noise to x at t (B,): those of the straight lines."""
        return x - noise

    # --- validation ---

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the averaged field's loss over the validation part: nothing dropped, uniform times, always the same noise."""
        field = self.eval_generator
        assert isinstance(field, FlowMatchingGenerator)

        def draw(of: Draw, purpose: str) -> Tensor:
            return self.fixed_rows(of, len(batch[0]), "validation " + purpose, batch_idx)

        self._tally.add(loss=self.path_losses(field, self.given(batch, draw), Uniform(), 0.0))

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective."""
        self.publish_validation({"val/loss": self._tally.means(self.sum)["loss"].item()})
