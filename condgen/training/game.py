"""What a GAN's two players move on, and how the game stands."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condgen.losses.adversarial import AdversarialLoss


@dataclass(frozen=True)
class Game:
    """A batch that the players move on, or a piece of one."""

    rows: slice
    """Its place in this process's batch,"""
    size: int
    """of so many samples."""
    x: Tensor
    condition: Tensor
    fake: Tensor
    asked: Tensor
    """What the generated samples were asked for."""

    @property
    def share(self) -> float:
        """Of the batch, in (0, 1]."""
        return len(self.x) / self.size


def mean_of(values: Sequence[tuple[float, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Return the means of named scalars over the pieces of a batch, each with its share."""
    if len(values) == 1:
        return values[0][1]
    return {name: torch.stack([share * found[name].detach() for share, found in values]).sum() for name in values[0][1]}


def vitals(
    generator: nn.Module, discriminator: nn.Module, loss: AdversarialLoss, real: Tensor, fake: Tensor
) -> dict[str, Tensor]:
    """Return how the game stands, scalars by names that `condgen.callbacks.diagnosis` explains.

    Args:
        generator, discriminator: with the gradients of their last updates.
        loss: the players' objectives.
        real, fake: D's last logits (B,) of real and of generated samples.
    """
    real, fake = real.float(), fake.float()
    norm_g, norm_d = gradient_norm(generator), gradient_norm(discriminator)
    found = {"gradient_norm_g": norm_g, "gradient_norm_d": norm_d, "gradient_ratio": norm_g / norm_d.clamp(min=1e-12)}
    found["logit_deviation"] = torch.cat([real, fake]).std()
    if loss.undecided is not None:
        undecided = torch.full_like(real, loss.undecided)
        found["accuracy_real"] = (real > undecided).float().mean()
        found["accuracy_fake"] = (fake <= undecided).float().mean()
        found["relative_loss_d"] = loss.discriminator_loss(real, fake) / loss.discriminator_loss(undecided, undecided)
    return found


def gradient_norm(network: nn.Module) -> Tensor:
    """Return the Euclidean norm of all gradients of ``network`` together, those of its last update."""
    return nn.utils.get_total_norm([parameter.grad for parameter in network.parameters() if parameter.grad is not None])


def require_grad(parameters: list[nn.Parameter], required: bool) -> None:
    """Switch the gradients of all ``parameters`` on or off."""
    for parameter in parameters:
        parameter.requires_grad = required
