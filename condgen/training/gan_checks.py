"""What a GAN's parts cannot be, or cannot be together: each refused in one sentence, before training starts."""

from collections.abc import Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm

from condgen.augment.diffaugment import ADA, DiffAugment
from condgen.conditions import Codes, Condition, Embedding
from condgen.errors import CondgenError
from condgen.losses.adversarial import AdversarialLoss
from condgen.losses.regularizers import DiscriminatorRegularizer, GeneratorRegularizer, Regularizer, Regularizers
from condgen.nets.layers import Discriminator
from condgen.spaces import Space
from condgen.training.alternation import Alternation


def contains(network: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether one of the modules of ``network`` is of a kind."""
    return any(isinstance(module, kind) for module in network.modules())


def check_loss(loss: object) -> AdversarialLoss:
    """Return it; refuse what is no adversarial loss."""
    if not isinstance(loss, AdversarialLoss):
        raise CondgenError(
            f"A GAN needs an adversarial loss and {type(loss).__name__} is none: choose loss=bce, minimax, lsgan, hinge, "
            "wasserstein or relativistic."
        )
    return loss


def check_discriminator(network: Discriminator, condition: Condition) -> Discriminator:
    """Return it; refuse what looks at codes, of which real samples have none."""
    looks = network.head.project is not None or any(isinstance(m, Embedding) and m.width for m in network.modules())
    if looks and isinstance(condition, Codes):
        raise CondgenError(
            "Real samples have no codes, so D must not see those of generated ones: set model.discriminator.projection=false "
            "model.discriminator.embedding=null."
        )
    return network


def check_start(
    condition: Condition, alternation: Alternation, regularizers: Regularizers, augment: DiffAugment | None
) -> None:
    """Refuse what changes samples and not the images that they start from, and to draw such images at random."""
    if condition.map_shape is None:
        return
    if alternation.fake_condition == "random":
        raise CondgenError(
            "A condition that is an image cannot be drawn at random: set model.alternation.fake_condition=batch."
        )
    for name, regularizer in regularizers.of_discriminator.items():
        if regularizer.changes_samples:
            raise CondgenError(
                f"model.regularizers.{name} changes samples and not the images that they were made of: set "
                f"model.regularizers.{name}=null."
            )
    if augment is not None:
        raise CondgenError(
            "model.discriminator_augment changes samples and not the images that they were made of: set "
            "discriminator_augment=none, or augment the data (data.augment), which comes before."
        )


def check_regularizers(
    given: Mapping[str, Regularizer | None], loss: AdversarialLoss, discriminator: nn.Module, alternation: Alternation
) -> Regularizers:
    """Return those that are not None; refuse what these players cannot have, and a D that needs one and has none."""
    chosen: dict[str, Regularizer] = {}
    for name, regularizer in given.items():
        if regularizer is None:
            continue
        if isinstance(regularizer, GeneratorRegularizer) and alternation.fake_condition != "batch":
            raise CondgenError(
                f"model.regularizers.{name} compares generated samples with the real ones of the same conditions: set "
                "model.alternation.fake_condition=batch."
            )
        needs_gradient = isinstance(regularizer, DiscriminatorRegularizer) and regularizer.needs_gradient
        if needs_gradient and contains(discriminator, _BatchNorm):
            raise CondgenError(
                f"model.regularizers.{name} needs D's gradient by each sample, and batch norm in D mixes the samples: take it "
                f"out of model.discriminator, or set model.regularizers.{name}=null."
            )
        chosen[name] = regularizer
    regularizers = Regularizers(chosen)
    if loss.unbounded and not (regularizers.bounds_gradient or contains(discriminator, _SpectralNorm)):
        raise CondgenError(
            f"The {type(loss).__name__} loss can be lowered forever by a steeper D: bound its gradient with "
            "regularizer=gp, or with spectral norm in its layers."
        )
    return regularizers


def check_augment(augment: DiffAugment | None, loss: AdversarialLoss, space: Space) -> DiffAugment | None:
    """Return the augmentation; refuse what are no images, and to adapt it to a D that places nothing."""
    if augment is None or not augment.draws:
        return None
    if len(space.shape) != 3:
        raise CondgenError("model.discriminator_augment changes images, and these samples are none: set it to null.")
    if isinstance(augment, ADA) and loss.undecided is None:
        raise CondgenError(
            f"ADA follows how many real samples D takes for real, and under the {type(loss).__name__} loss no logit says so: "
            "set discriminator_augment=diffaugment, or choose another loss."
        )
    return augment


def check_private(
    loss: AdversarialLoss, regularizers: Regularizers, auxiliary: object, augment: object, alternation: Alternation
) -> None:
    """Refuse what would show G, or D beside its noisy gradient, a real sample."""
    named = [*regularizers.of_discriminator, *regularizers.of_generator]
    for wrong, sentence in (
        (named, f"model.regularizers.{named[0] if named else ''} looks at real samples by itself: set regularizer=none"),
        (auxiliary, "a second head of D is trained on real samples by itself: set auxiliary=none"),
        (augment, "discriminator_augment may follow D's logits of real samples: set discriminator_augment=none"),
        (loss.paired, f"the {type(loss).__name__} loss shows G real samples: choose loss=bce or loss=hinge"),
        (
            alternation.fake_condition == "batch",
            "generated samples would be asked for real samples' conditions: set model.alternation.fake_condition=random",
        ),
    ):
        if wrong:
            raise CondgenError(f"privacy lets only D's noisy gradient look at real samples, and {sentence}.")
