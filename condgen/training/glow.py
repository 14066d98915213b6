"""Conditional Glow (Kingma & Dhariwal 2018; conditional base after Ardizzone et al. 2019, section 3.2): an exact likelihood.

    L = -E_{(x, c) ~ data} log p(x | c) / (D log 2),    in bits per dimension

with log p(x | c) as in `condgen.generators.glow`. The Gaussian base, whose mean and scale the condition decides, is the last
layer of each of f's levels: z is plain noise.
"""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from condgen.conditions import Condition
from condgen.generators.glow import GlowGenerator
from condgen.losses.likelihood import Likelihood, bits
from condgen.spaces import Space
from condgen.training.base import Batch, MakeOptimizer, check_optimizer
from condgen.training.options import Options
from condgen.training.single import Rows, SingleNetwork
from condgen.training.tally import Tally


class Glow(SingleNetwork):
    """The training of a (conditional) normalizing flow on pixels.

    Args:
        space: what a sample is.
        condition: what can be asked for.
        loss: how 8-bit pixels become continuous and a density becomes their likelihood.
        generator: makes the flow from (space, condition, loss), see `GlowGenerator`.
        optimizer: makes the optimizer from the parameters.
        options: what every family can be told; None: the defaults of `Options`.
        seed: decides every random number of the training.
    """

    generator: GlowGenerator

    def __init__(
        self,
        space: Space,
        condition: Condition,
        loss: Likelihood,
        generator: Callable[..., GlowGenerator],
        optimizer: MakeOptimizer,
        options: Options | None = None,
        seed: int = 0,
    ):
        super().__init__(space, condition, options, seed)
        self.generator = generator(space=space, condition=condition, loss=loss)
        self.make_optimizer = check_optimizer("optimizer", optimizer)
        self._tally = Tally()
        self._fitted = False
        self.keep_average()
        self.options.compiled(self.generator.network)

    # --- a training step ---

    def given(self, batch: Batch, draw: Rows) -> tuple[Tensor, ...]:
        """See `SingleNetwork.given`."""
        return *batch, draw(self.generator.uniform, "dequantization")

    def objective_of(self, *given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the objective, in bits per dimension, and what is recorded: it and the nats of a sample."""
        nats = self.generator.nats(*given).mean()
        loss = bits(nats, prod(self.space.shape))
        return loss, {"loss": nats, "bits_per_dim": loss}

    def on_train_start(self) -> None:
        """Layers of a resumed or finetuned run have started already, see `Flow.fit`."""
        super().on_train_start()
        self._fitted = False

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let new layers start from the first batch, that of all processes."""
        super().on_train_batch_start(batch, batch_idx)
        if self._fitted:
            return
        self._fitted = True
        x, condition = batch
        y, _ = self.generator.loss.dequantize(x, self.rows(self.generator.uniform, len(x), "dequantization"))
        if self.trainer.world_size > 1:
            y, condition = (torch.as_tensor(self.all_gather(part)).flatten(0, 1) for part in (y, condition))
        self.generator.network.fit(y, condition)  # type: ignore[operator]
        if self.ema and self.counts.updates == 0:
            self.ema.average.load_state_dict(self.generator.state_dict())

    # --- validation ---

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sum the averaged flow's loss over the validation part, with the same u in every epoch."""
        flow = self.eval_generator
        assert isinstance(flow, GlowGenerator)
        u = self.fixed_rows(flow.uniform, len(batch[0]), "validation", batch_idx)
        self._tally.add(nats=flow.nats(*batch, u))

    def on_validation_epoch_end(self) -> None:
        """Log the validation objective, in nats a sample and in bits per dimension."""
        nats = self._tally.means(self.sum)["nats"]
        self.publish_validation({"val/loss": nats.item(), "val/bits_per_dim": bits(nats, prod(self.space.shape)).item()})
