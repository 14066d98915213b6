"""The training of one network with one loss: VAEs, flows and language models, updated by Lightning."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from condgen.randomness import generator as keyed_generator
from condgen.training.base import Batch, Draw, MakeOptimizer, Training
from condgen.training.compiled import CompiledObjective
from condgen.training.private import PrivateTraining

Rows = Callable[[Draw, str], Tensor]
"""Returns a row for each sample of what a function draws, by its purpose."""


class SingleNetwork(Training):
    """A family with one optimizer and one loss, updated by Lightning."""

    objective: str | None = "val/loss"
    make_optimizer: MakeOptimizer
    _compiled: CompiledObjective | None = None  # where the whole step is compiled

    def trained(self) -> Iterable[nn.Parameter]:
        """Return what the optimizer updates: all of the generator."""
        return self.generator.parameters()

    # --- a training step ---

    def given(self, batch: Batch, draw: Rows) -> tuple[Tensor, ...]:
        """Return the batch and all that is drawn for it, here nothing: what its losses are a function of."""
        return batch

    def losses_of(self, *given: Tensor) -> Tensor:
        """Return the loss of each sample, (B,)."""
        raise NotImplementedError

    def objective_of(self, *given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what an update descends, and what is recorded of it."""
        loss = self.losses_of(*given).mean()
        return loss, {"loss": loss}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Return the objective of a batch; None, on which Lightning does nothing, where the whole update was made at once."""
        if self.privacy:
            return self.private_step(batch, self.privacy)
        given = self.given(batch, lambda of, purpose: self.rows(of, len(batch[0]), purpose))
        if self._compiled:
            self.record(**self._compiled(self.counts.updates + 1, *given))
            return None
        loss, parts = self.objective_of(*given)
        self.record(**parts)
        return loss

    def start_compiled(self) -> None:
        """See `Training.start_compiled`."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        self._compiled = CompiledObjective(self.objective_of, optimizer, self.ema, self.options.gradient_clip)

    # --- under differential privacy ---

    def private_networks(self) -> list[nn.Module]:
        """See `Training.private_networks`: the generator."""
        return [self.generator]

    def private_step(self, batch: Batch, privacy: PrivateTraining) -> Tensor:
        """Return a loss whose gradient is the noisy mean of clipped ones (see `condgen.training.private`)."""
        copies, parameters = privacy.privacy.copies, [p for p in self.trained() if p.requires_grad]

        def losses_of(rows: slice) -> Tensor:
            x, condition = (part[rows].repeat(copies, *[1] * (part.dim() - 1)) for part in batch)
            given = self.given((x, condition), lambda of, purpose: self.rows(of, len(x), f"{purpose} {rows.start}"))
            return self.losses_of(*given).view(copies, -1).mean(0)

        pieces = (partial(losses_of, rows) for rows in privacy.pieces(len(batch[0])))
        gradients, loss = privacy.gradients(parameters, pieces)
        self.record(loss=loss)
        return torch.stack([(p * g).sum() for p, g in zip(parameters, gradients, strict=True)]).sum()

    def alone(self, x: Tensor, condition: Tensor, number: int = 0) -> Tensor:
        """See `Training.alone`: its loss."""

        def draw(of: Draw, purpose: str) -> Tensor:
            row = of(1, keyed_generator(0, "alone", purpose, number))
            return row.repeat(len(x), *[1] * (row.dim() - 1)).to(x.device)

        return self.losses_of(*self.given((x, condition), draw))

    # --- its update ---

    def configure_optimizers(self) -> Optimizer:
        """Return the one optimizer."""
        return self.make_optimizer(self.trained())

    def on_after_backward(self) -> None:
        """Average the gradients after the last of the batches that an update accumulates."""
        if not self.trainer.fit_loop._should_accumulate():
            self.average_over_processes(self.trained(), self.generator)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Scale the gradients down to the largest norm that is allowed."""
        self.clip(self.trained())

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Update the networks, and count it."""
        if self._compiled:
            closure = arguments[-1]  # the training step, which is the whole update
            closure()
        else:
            super().optimizer_step(*arguments, **options)
        self.count_update()


def uniform(count: int, stream: torch.Generator) -> Tensor:
    """Draw uniform numbers (count,)."""
    return torch.rand(count, generator=stream)
