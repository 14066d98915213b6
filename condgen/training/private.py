"""A training under differential privacy: what its base, its families and its loader ask (Abadi et al. 2016, algorithm 1).

    g = 1 / (q N) (sum_{i sampled} grad_i min(1, C / ||grad_i||) + N(0, (noise C)^2))

The optimizer gets g in place of the gradient, and whatever it makes of it spends nothing further, the average of the weights
included. q N is the configured batch size: how many images a step did sample stays untold.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from condgen.errors import CondgenError
from condgen.training.per_sample import Recorder, clipped_sum
from condgen.training.privacy import Privacy

if TYPE_CHECKING:
    from condgen.training.base import Training

Mechanism = Literal["steps", "once"]
"""When a family looks at its images: "steps", a sample of them in each; "once", all of them, for one noisy statistic."""


class PrivateTraining:
    """What makes a training private.

    Args:
        privacy: the budget.
        training: what is trained.
        networks: those that see training images in a step; none for "once".
    """

    def __init__(self, privacy: Privacy, training: "Training", networks: Sequence[nn.Module]):
        if training.mechanism is None:
            raise CondgenError(
                f"privacy=dp bounds what VAEs, GANs, flow matching and MERF learn of an image, and a {type(training).__name__} "
                "does not: choose another model, or privacy=none."
            )
        self.privacy, self.training = privacy, training
        self.stored: dict[str, Any] | None = None
        """The state in the checkpoint from which the run goes on."""
        require_apart(networks)
        self._recorder = Recorder(networks)

    @property
    def batch_size(self) -> int:
        """How many images a step samples on average."""
        size: int = self.training.trainer.datamodule.batch_size  # type: ignore[attr-defined]
        return size

    @property
    def done(self) -> int:
        """How often the images were looked at."""
        return self.training.counts.batches if self.training.mechanism == "steps" else 1

    # --- the budget ---

    def start(self) -> None:
        """Plan the noise for the whole run; refuse to go on under another plan, and networks that mix samples."""
        training, size = self.training, len(self.training.trainer.datamodule.train)  # type: ignore[attr-defined]
        if training.trainer.world_size > 1:  # such as trainer.devices=auto on several GPUs
            raise CondgenError("privacy samples its batches in one process: set trainer.devices=1.")
        if training.mechanism == "once":  # before the first step, in 32 bits whatever the steps are made in
            self.privacy.prepare(size, 1.0, 1)
        else:
            if training.trainer.precision != "32-true":
                raise CondgenError(
                    f"privacy bounds gradients in 32 bits: set trainer.precision=32-true, not {training.trainer.precision}."
                )
            planned = training.planned_batches
            if planned is None:
                raise CondgenError("privacy has to know how long the run is: set trainer.max_epochs or trainer.max_steps.")
            self.privacy.prepare(size, self.batch_size / size, planned)
            check_apart(training)
        if self.stored:
            self.privacy.require_same(self.stored, self.done)

    def step(self) -> None:
        """Refuse a step that would pass the budget."""
        if self.training.mechanism == "steps":
            self.privacy.require_left(self.done)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return self.privacy.state(self.done)

    def curves(self) -> dict[str, float]:
        """Return the epsilon spent, as far as it was computed."""
        return {"epsilon": self.privacy.spent_lately(self.done)}

    # --- a step ---

    def gradients(
        self, parameters: Sequence[nn.Parameter], pieces: Iterable[Callable[[], Tensor]]
    ) -> tuple[list[Tensor], Tensor]:
        """Return the noisy mean of clipped gradients, and the mean of the losses, which is not private.

        Args:
            parameters: what is trained.
            pieces: each returns the losses (B,) of some of the sampled images, of each image's own in one place.
        """
        total = [torch.zeros_like(parameter) for parameter in parameters]
        loss = parameters[0].new_zeros(())
        for losses_of in pieces:
            found, losses = clipped_sum(self._recorder, losses_of, parameters, self.privacy.clip)
            torch._foreach_add_(total, found)
            loss = loss + losses.sum()
        counts = self.training.counts
        noisy = self.privacy.noisy(total, self.privacy.clip, counts.epochs, counts.batch)
        torch._foreach_div_(noisy, self.batch_size)
        return noisy, loss / self.batch_size

    def placeholder(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return zeros in the place of a batch, of as many samples as there are on average: all that an outsider knows."""
        x, condition = (part.new_zeros(self.batch_size, *part.shape[1:]) for part in batch)
        return x, condition

    def pieces(self, size: int) -> list[slice]:
        """Return the rows of each piece of a sampled batch; none where none were sampled."""
        step = max(1, self.privacy.piece // self.privacy.copies)
        return [slice(start, start + step) for start in range(0, size, step)]


def require_apart(networks: Sequence[nn.Module]) -> None:
    """Refuse layers in which a sample's gradient is not its own, or whose state follows the samples; raises CondgenError."""
    for network in networks:
        for name, module in network.named_modules():
            kind = type(module).__name__
            if isinstance(module, _BatchNorm):
                raise CondgenError(
                    f"privacy needs each sample's own gradient, and {kind} ({name}) mixes the samples of a batch: take a norm "
                    "without batches, such as torch.nn.GroupNorm, or none (norm=null)."
                )
            if "Parametriz" in kind:
                raise CondgenError(
                    f"privacy needs each sample's own gradient by a layer's weights, and {name.partition('.parametriz')[0]} "
                    "makes them of others (spectral norm): choose layers without it."
                )


@torch.no_grad()
def check_apart(training: "Training") -> None:
    """Refuse a training in which one sample of a batch changes what is found for another; raises CondgenError.

    It is tried on two samples of noise.
    """
    stream = torch.Generator().manual_seed(0)
    x = (2 * torch.rand(2, *training.space.shape, generator=stream) - 1).to(training.device)
    condition = training.condition.draw(2, stream).to(training.device)
    modes = {module: module.training for module in training.modules()}
    training.eval()
    together, alone = training.alone(x, condition)[0], training.alone(x[:1], condition[:1])[0]
    for module, mode in modes.items():
        module.training = mode
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
        raise CondgenError(
            "privacy needs each sample's own gradient, and in this model one sample of a batch changes the loss of another: "
            "choose networks that treat samples one by one."
        )
