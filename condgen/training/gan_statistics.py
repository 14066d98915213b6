"""How the players of a GAN stand: scalars that `condgen.callbacks.diagnosis` explains and warns by."""

import torch
from torch import Tensor, nn

from condgen.losses.adversarial import AdversarialLoss


def gan_statistics(
    generator: nn.Module, discriminator: nn.Module, loss: AdversarialLoss, real_logits: Tensor, fake_logits: Tensor
) -> dict[str, Tensor]:
    """Return gradient norms, D's accuracy and its loss beside that of a D that cannot tell, as scalars.

    Args:
        generator: with the gradients of its last update.
        discriminator: likewise.
        loss: the players' losses.
        real_logits: D's last logits (B,) of real samples.
        fake_logits: D's last logits (B,) of generated samples.
    """
    real, fake = real_logits.float(), fake_logits.float()
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
