"""The first blocks of a classifier that learned without labels, and the linear probe that reads classes from them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.nets.classifier import Classifier, maps
from condgen.spaces import Images
from condgen.types import PositiveInt, Widths

PLACES = 2
"""Of features along each side: where things are is kept coarsely."""


class Probed(nn.Module):
    """Features of the last of a few blocks, averaged over the quarters of the image, each of deviation 1; and a linear probe.

    The probe's gradient never reaches the blocks: what they see was not taught by labels.

    Args:
        space: the images, for their channels, side, mean and deviation.
        classes: number of classes K that the probe tells apart.
        widths: channels of each block, see `Classifier`.
    """

    def __init__(self, space: Images, classes: PositiveInt, widths: Widths = (64, 128)):
        super().__init__()
        self.blocks = nn.Sequential(*list(Classifier(space, classes, widths))[: 3 + len(widths)])
        self.scale = nn.BatchNorm1d(PLACES**2 * widths[-1], affine=False)
        self.probe = nn.Linear(PLACES**2 * widths[-1], classes)

    def features(self, x: Tensor) -> Tensor:
        """Return features (B, 4 * widths[-1]) of images (B, C, H, W) in [-1, 1], not yet scaled."""
        return F.adaptive_avg_pool2d(self.blocks(x), PLACES).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (B, C, H, W) in [-1, 1] by the probe: logits (B, K)."""
        logits: Tensor = self.probe(self.scale(self.features(x)))
        return logits

    def maps(self, x: Tensor, blocks: int | None = None) -> list[Tensor]:
        """See `Classifier.maps`."""
        return maps(self.blocks, x, blocks)

    def spatial(self, x: Tensor) -> Tensor:
        """Return what the first block says of each place, (B, widths[0], h, w)."""
        return self.maps(x, blocks=1)[-1]

    @torch.no_grad()
    def take(self, trained: Classifier) -> None:
        """Copy the blocks of a longer classifier of the same widths."""
        self.blocks.load_state_dict({k: v for k, v in trained.state_dict().items() if k in self.blocks.state_dict()})
