"""An update as one compiled function: losses, gradients, Adam and the moving average, with no Python between them.

What `torch.compile` is given is a function of tensors alone. Random numbers are drawn before it is called, by the same keys as
ever, and what changes from update to update (rates, the average's weight) comes as a tensor, so that nothing is compiled twice.
Moments live in the torch optimizer's own state: a checkpoint is the same whether its run was compiled or not.

Adam is written out (Kingma & Ba 2015, algorithm 1; AdamW: Loshchilov & Hutter 2019, algorithm 2), since torch's fused kernel
cannot be compiled. Rounding differs from the eager step's, which is why a run keeps its mode when it is resumed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from condgen.errors import CondgenError
from condgen.training.average import EMA

T = TypeVar("T")
Objective = Callable[..., tuple[Tensor, dict[str, Tensor]]]
"""Returns the loss and what is recorded of it, scalars by name."""
ADVICE = "set model.options.compile=networks, or false"


class Moments:
    """An Adam's parameters and what it remembers of them, as lists of tensors.

    Args:
        optimizer: `torch.optim.Adam` or `AdamW`, perhaps with the state of a checkpoint.
        clip: largest norm of the gradients; None: any.

    Raises:
        CondgenError: another optimizer, or a variant of these that is not written out here.
    """

    def __init__(self, optimizer: Optimizer, clip: float | None):
        self.group = optimizer.param_groups[0]
        known = type(optimizer) in (Adam, AdamW) and not (self.group["amsgrad"] or self.group["maximize"])
        if not known or len(optimizer.param_groups) > 1:
            raise CondgenError(f"model.options.compile=step knows plain Adam and AdamW only: choose one of these, or {ADVICE}.")
        self.clip = clip
        self.parameters: list[nn.Parameter] = list(self.group["params"])
        self.beta1, self.beta2 = self.group["betas"]
        self.eps, self.decay = self.group["eps"], self.group["weight_decay"]
        self.decoupled: bool = self.group["decoupled_weight_decay"]
        for p in self.parameters:
            if not optimizer.state[p]:
                device = p.device if self.group["fused"] or self.group["capturable"] else None
                first, second = torch.zeros_like(p.detach()), torch.zeros_like(p.detach())
                optimizer.state[p].update(step=torch.zeros((), device=device), exp_avg=first, exp_avg_sq=second)
        state = [optimizer.state[p] for p in self.parameters]
        self.steps, self.first, self.second = ([s[name] for s in state] for name in ("step", "exp_avg", "exp_avg_sq"))
        self.count = int(self.steps[0])

    def rates(self) -> Tensor:
        """Count an update and return what its number and the learning rate decide, float32 (3,); outside what is compiled."""
        self.count += 1
        torch._foreach_add_(self.steps, 1)
        rate, n = self.group["lr"], self.count
        corrected = [rate / (1 - self.beta1**n), math.sqrt(1 - self.beta2**n), rate * self.decay]
        return torch.tensor(corrected, device=self.parameters[0].device)

    def update(self, gradients: Sequence[Tensor], rates: Tensor) -> Sequence[Tensor]:
        """Update the parameters by their ``gradients``, with the `rates` of this update, and return these, clipped."""
        size, root, fall = rates.unbind()
        if self.clip is not None:
            factor = (self.clip / (nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1.0)
            gradients = [g * factor for g in gradients]
        for p, gradient, first, second in zip(self.parameters, gradients, self.first, self.second, strict=True):
            g = gradient + self.decay * p if self.decay and not self.decoupled else gradient
            if self.decay and self.decoupled:
                p.mul_(1 - fall)
            first.lerp_(g, 1 - self.beta1)
            second.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
            p.sub_(size * first / (second.sqrt() / root + self.eps))
        return gradients


class CompiledStep:
    """What every family's compiled update has.

    Args:
        optimizers: of the players, in the order in which a family keeps them.
        average: that of the generator, if one is kept.
        clip: largest norm of each optimizer's gradients; None: any.
    """

    def __init__(self, optimizers: Iterable[Optimizer], average: EMA | None, clip: float | None):
        torch._dynamo.config.trace_autograd_ops = True  # gradients are part of what is compiled
        self.moments = [Moments(optimizer, clip) for optimizer in optimizers]
        self.average = average

    def share(self, number: int) -> Tensor:
        """Return the weight of the newest parameters in the average after update ``number``, a scalar."""
        weight = self.average.share(number) if self.average else 0.0
        return torch.tensor(weight, device=self.moments[0].parameters[0].device)

    def descend(self, loss: Tensor, which: int, rates: Tensor) -> Sequence[Tensor]:
        """Update one optimizer's parameters down the gradients of ``loss``, and return these; within what is compiled."""
        gradients = torch.autograd.grad(loss, self.moments[which].parameters)
        with torch.no_grad():
            return self.moments[which].update(gradients, rates)

    def follow(self, share: Tensor) -> None:
        """Let the average follow; within what is compiled."""
        if self.average:
            self.average.follow(share)


def compiled(function: Callable[..., T]) -> Callable[..., T]:
    """Compile ``function`` as a whole, at its first call; where that fails, nothing was changed and CondgenError says why."""
    from torch._dynamo.exc import TorchDynamoException  # here, since these take seconds to import
    from torch._inductor.exc import InductorError

    fast: Callable[..., T] = torch.compile(function, fullgraph=True, dynamic=False)

    def call(*arguments: Any) -> T:
        try:
            return fast(*arguments)
        except (TorchDynamoException, InductorError) as error:
            lines = [line.strip().rstrip(".:") for line in str(error).splitlines() if line.strip()]
            why = lines[0] if lines else type(error).__name__
            raise CondgenError(f"model.options.compile=step cannot compile this training ({why}): {ADVICE}.") from error

    return call


class CompiledObjective(CompiledStep):
    """The update of a family with one optimizer and one loss.

    Args:
        objective: returns the loss and what is recorded of it, from tensors.
        optimizer: updates its parameters.
        average: that of the generator, if one is kept.
        clip: largest norm of the gradients; None: any.
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, average: EMA | None, clip: float | None):
        super().__init__([optimizer], average, clip)
        self.objective = objective
        self.step = compiled(self.run)

    def __call__(self, number: int, *given: Tensor) -> dict[str, Tensor]:
        """Make update ``number`` on what the objective is ``given``, and return what is recorded."""
        return self.step(self.moments[0].rates(), self.share(number), *given)

    def run(self, rates: Tensor, share: Tensor, *given: Tensor) -> dict[str, Tensor]:
        """Return what is recorded, once all is updated: what is compiled."""
        loss, parts = self.objective(*given)
        self.descend(loss, 0, rates)
        self.follow(share)
        return {name: part.detach() for name, part in parts.items()}


def require_compilable(trainer: Any) -> None:
    """Refuse what a compiled update does not do: several processes, accumulated batches, rescaled gradients."""
    for wrong, sentence in (
        (trainer.world_size > 1, "one process: set trainer.devices=1"),
        (trainer.accumulate_grad_batches > 1, "one batch an update: set trainer.accumulate_grad_batches=1"),
        (getattr(trainer.precision_plugin, "scaler", None), "gradients as they are: set trainer.precision=bf16-mixed"),
    ):
        if wrong:
            raise CondgenError(f"model.options.compile=step trains with {sentence}, or {ADVICE}.")
