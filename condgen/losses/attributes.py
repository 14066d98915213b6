"""How far what is read from a sample is from its attributes."""

import torch.nn.functional as F
from torch import Tensor

from condgen.conditions import Attributes, Category

NEAR = 0.1
"""Error, in half ranges of a number, up to which it counts as its square; from there on as itself."""


def attribute_loss(
    attributes: Attributes, outputs: Tensor, requested: Tensor, numbers: float, smoothing: float = 0.0
) -> Tensor:
    """Return the sum over the attributes of their mean losses: cross-entropy of a category, Huber's loss of a number.

    Squares alone diverge at the rates at which categories are learned (Girshick 2015, section 2.3, for the same reason).

    Args:
        attributes: what the columns are.
        outputs: (B, width), scores of each category's values, numbers in [-1, 1].
        requested: encoded attributes (B, width).
        numbers: factor of the errors of numbers.
        smoothing: of the categories' labels.
    """
    loss = outputs.new_zeros(())
    for field, said, right in zip(attributes.fields, attributes.parts(outputs), attributes.parts(requested), strict=True):
        if isinstance(field, Category):
            loss = loss + F.cross_entropy(said, right, label_smoothing=smoothing)
        else:
            loss = loss + numbers * F.smooth_l1_loss(said, right, beta=NEAR)
    return loss
