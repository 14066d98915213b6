"""Inner layers of a frozen classifier, for perceptual losses."""

from pathlib import Path

import torch
from torch import Tensor, nn

from condgen.errors import CondgenError
from condgen.metrics.extractors import Shipped, load_weights
from condgen.nets.classifier import Classifier
from condgen.nets.probed import Probed
from condgen.types import PositiveInt


class ShippedLayers(nn.Module):
    """The blocks of a classifier that ships with condgen.

    Args:
        name: of its card, such as cifar10-resnet.
        blocks: how many of its blocks are computed; None: all.
    """

    def __init__(self, name: str, blocks: PositiveInt | None = None):
        super().__init__()
        extractor = Shipped(name)
        assert isinstance(extractor.network, (Classifier, Probed))
        self.channels, self.learned = extractor.shape[0], extractor.learned
        self.network, self.blocks = extractor.network, blocks

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return what follows the whitening, and each block, of images (B, C, H, W) in [-1, 1]."""
        if x.shape[1] != self.channels:
            x = x.expand(-1, self.channels, -1, -1) if x.shape[1] == 1 else x.mean(1, keepdim=True)
        return self.network.maps(x, self.blocks)


class VGGLayers(nn.Module):
    """relu1_2, relu2_2, relu3_3 and relu4_3 of VGG-16 (Simonyan & Zisserman 2015), as Johnson et al. 2016 take them.

    Args:
        weights: torchvision's ``vgg16-397923af.pth`` or another state dict of its vgg16.
    """

    ends = (3, 8, 15, 22)
    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: str):
        super().__init__()
        from torchvision.models import vgg16

        if not Path(weights).is_file():
            raise CondgenError(f"loss.network.weights={weights} is not a file: give torchvision's vgg16-397923af.pth.")
        network = vgg16()
        load_weights(network, Path(weights))
        self.steps = network.features[: self.ends[-1] + 1]
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the four layers of images (B, 3 or 1, H, W) in [-1, 1]."""
        x = ((x + 1) / 2 - self.mean) / self.deviation
        layers = []
        for i, step in enumerate(self.steps):
            x = step(x)
            if i in self.ends:
                layers.append(x)
        return layers
