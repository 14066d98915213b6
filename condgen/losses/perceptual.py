"""Perceptual losses (Gatys et al. 2016, equations 1, 4 and 5; Johnson et al. 2016, section 3.2)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from condgen.types import Count, NonNegative


class Perceptual:
    """How far an image is from the content of one image and from the style of another, in the layers of a frozen network.

        content = |h(y) - h(x)|^2 / |h(x)|^2 in one layer,    style = mean over layers of |G(y) - G(s)|^2 / |G(s)|^2

    where G, the Gram matrix of a layer, holds the means of the products of its channels over all places. Both are relative to
    what they compare with, so that weights mean the same under every network and layer.

    Args:
        network: makes the network, which maps images (B, C, H, W) in [-1, 1] to a list of layers (B, C', H', W').
        content_layer: index of the layer that content is compared in.
        style_layers: indices of those that style is compared in.
        style_weight: of style beside content.
        smoothness: weight of the total variation, the mean absolute difference of neighbouring pixels.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module],
        content_layer: Count,
        style_layers: Sequence[Count],
        style_weight: NonNegative = 1.0,
        smoothness: NonNegative = 0.0,
    ):
        self.make = network
        self.content_layer, self.style_layers = content_layer, list(style_layers)
        self.style_weight, self.smoothness = style_weight, smoothness
        self._network: nn.Module | None = None

    @property
    def network(self) -> nn.Module:
        """The frozen network, loaded when it is first needed, since sampling has no use for it."""
        if self._network is None:
            self._network = self.make().eval().requires_grad_(False)
        return self._network

    def layers(self, x: Tensor) -> list[Tensor]:
        """Return the layers of images (B, C, H, W)."""
        found: list[Tensor] = self.network.to(x.device)(x)
        return found

    def grams(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """Return the Gram matrices (B, C', C') of the style layers."""
        return [gram(layers[i].float()) for i in self.style_layers]

    def __call__(self, made: Tensor, photo: Tensor, styles: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return content, style and their weighted sum, ``loss``, of each image, (B,).

        Args:
            made: images (B, C, H, W).
            photo: those whose content they should have, same shape.
            styles: Gram matrices (B, C', C') that they should have, in the order of `grams`.
        """
        layers = self.layers(made)
        with torch.no_grad():
            wanted = self.layers(photo)[self.content_layer]
        content = relative(layers[self.content_layer], wanted)
        pairs = zip(self.grams(layers), styles, strict=True)
        style = torch.stack([relative(own, target) for own, target in pairs]).mean(0)
        rough = made.diff(dim=2).abs().flatten(1).mean(1) + made.diff(dim=3).abs().flatten(1).mean(1)
        loss = content + self.style_weight * style + self.smoothness * rough
        return {"loss": loss, "content": content, "style": style}


def gram(h: Tensor) -> Tensor:
    """Return the means over all places of the products of channels of h (B, C, H, W): (B, C, C)."""
    flat = h.flatten(2)
    return flat @ flat.mT / flat.shape[2]


def relative(value: Tensor, wanted: Tensor) -> Tensor:
    """Return |value - wanted|^2 / |wanted|^2 of each row, (B,)."""
    return (value - wanted).float().square().flatten(1).sum(1) / wanted.float().square().flatten(1).sum(1).clamp(min=1e-8)
