"""The generator of style transfer: one network for many styles (Johnson et al. 2016; Dumoulin et al. 2017).

The style, one of a few images, enters the network as a gain and a bias of each norm. Nothing is random: the same image and
style give the same picture.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from condgen.conditions import Condition, Styles, Together
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.spaces import Images, Space


class StylizationGenerator(Generator):
    """A network that draws an image in a style.

    Args:
        space: what a sample is.
        condition: a style, and the image to draw in it.
        network: makes f from (condition, space); f(c) is a batch of images.
    """

    family = "style transfer"
    OPTIONS = ()

    def __init__(self, space: Space, condition: Condition, network: Callable[..., nn.Module]):
        super().__init__(space, condition)
        if not isinstance(condition, Together) or not isinstance(condition.said, Styles) or not isinstance(space, Images):
            raise CondgenError("model=stylization draws an image in a style: choose condition=style, and data of images.")
        self.network = network(condition=condition, space=space)

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw nothing, (count, 0): the condition says it all."""
        return torch.empty(count, 0)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return the images of encoded conditions in their styles, (B, C, H, W) in (-1, 1)."""
        drawn: Tensor = self.network(condition)
        return drawn
