"""Spatial features for sFID: what an early layer says of each place of an image.

C. Nash, J. Menick, S. Dieleman, P. Battaglia, "Generating images with sparse representations", arXiv:2103.03841, section 5.1:
FID of the first 7 channels of an intermediate layer of Inception in place of its pooled features, so that also where things
are counts, and texture. Here the layer is a classifier's own choice, see `condgen.nets.classifier.Classifier.spatial`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLACES = 7
"""Of features along each side: maps are averaged to 7x7."""
CHANNELS = 7
"""Channels that are taken, as many as Nash et al. take."""


def has_spatial(network: nn.Module) -> bool:
    """Whether ``network`` says what an early layer sees: has ``spatial(x)``, maps (B, C, h, w) of images (B, C, H, W)."""
    return callable(getattr(network, "spatial", None))


def spatial_features(network: nn.Module, x: Tensor) -> Tensor:
    """Return features (B, 343) of images (B, C, H, W): 7 channels, evenly spread, of the early layer at 7x7 places."""
    with torch.autocast(x.device.type, enabled=False):
        maps = network.spatial(x)  # type: ignore[operator]
    taken = torch.arange(CHANNELS) * maps.shape[1] // CHANNELS
    return F.adaptive_avg_pool2d(maps[:, taken].float(), PLACES).flatten(1)
