"""Known damage to real images: what figures of quality are tested with. A figure that does not move sees no such fault.

Each damage takes `Pictures` and a strength, and returns what a generator with that fault would have drawn. `STRENGTHS` go
from what people barely see to what nobody overlooks.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from condgen.randomness import generator


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images with the classes that were asked for.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> "Pictures":
        return Pictures(self.images[rows], self.labels[rows])


Damage = Callable[[Pictures, float, Pictures], Pictures]
"""From pictures, a strength and training pictures to damaged pictures."""


def blur(pictures: Pictures, deviation: float, train: Pictures) -> Pictures:
    """Blur with a Gaussian of ``deviation`` pixels."""
    reach = max(1, round(3 * deviation))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    kernel = torch.outer(line, line) / line.sum() ** 2
    channels = pictures.images.shape[1]
    x = F.pad(pictures.images.float(), (reach,) * 4, "reflect")
    return replaced(pictures, F.conv2d(x, kernel.expand(channels, 1, *kernel.shape), groups=channels))


def noise(pictures: Pictures, deviation: float, train: Pictures) -> Pictures:
    """Add Gaussian noise of ``deviation`` grey values of 255 to each pixel and channel."""
    added = torch.randn(pictures.images.shape, generator=generator("damage", "noise"))
    return replaced(pictures, pictures.images + deviation * added)


def shuffle(pictures: Pictures, share: float, train: Pictures) -> Pictures:
    """Cut ``share`` of the images into 4x4 blocks (of 8x8 pixels at a side of 32), and put these in another order."""
    images, (n, c, h, w) = pictures.images.clone(), pictures.images.shape
    stream = generator("damage", "shuffle")
    rows = torch.randperm(n, generator=stream)[: round(share * n)]
    blocks = images[rows].reshape(-1, c, 4, h // 4, 4, w // 4).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (R, 16, C, h, w)
    order = torch.rand(len(rows), 16, generator=stream).argsort(1)
    blocks = blocks[torch.arange(len(rows))[:, None], order].view(-1, 4, 4, c, h // 4, w // 4)
    images[rows] = blocks.permute(0, 3, 1, 4, 2, 5).reshape(-1, c, h, w)
    return Pictures(images, pictures.labels)


def jpeg(pictures: Pictures, loss: float, train: Pictures) -> Pictures:
    """Store as JPEG of quality ``100 - loss`` and read again."""

    def stored(image: Tensor) -> Tensor:
        array, file = image.permute(1, 2, 0).numpy(), io.BytesIO()
        Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(file, "JPEG", quality=round(100 - loss))
        return torch.from_numpy(np.array(Image.open(file))).reshape(array.shape).permute(2, 0, 1)

    return Pictures(torch.stack([stored(image) for image in pictures.images]), pictures.labels)


def classes(pictures: Pictures, count: float, train: Pictures) -> Pictures:
    """Never show the last ``count`` classes: in their places stand further images of the others, labelled as what they show."""
    there = (pictures.labels <= pictures.labels.max() - count).nonzero()[:, 0]
    drawn = torch.randint(len(there), (len(pictures) - len(there),), generator=generator("damage", "classes"))
    return pictures[torch.cat([there, there[drawn]])]


def modes(pictures: Pictures, lost: float, train: Pictures) -> Pictures:
    """Lose the share ``lost`` of the different images of each class: those that are left are shown again and again."""
    rows = torch.arange(len(pictures))
    for label in range(int(pictures.labels.max()) + 1):
        own = (pictures.labels == label).nonzero()[:, 0]
        kept = max(1, round((1 - lost) * len(own)))
        rows[own] = own[torch.arange(len(own)) % kept]
    return pictures[rows]


def labels(pictures: Pictures, share: float, train: Pictures) -> Pictures:
    """Exchange the labels of ``share`` of the images among these."""
    rows = torch.randperm(len(pictures), generator=generator("damage", "labels"))[: round(share * len(pictures))]
    swapped = pictures.labels.clone()
    swapped[rows] = pictures.labels[rows.roll(1)]
    return Pictures(pictures.images, swapped)


def copies(pictures: Pictures, share: float, train: Pictures) -> Pictures:
    """Put training images of the same classes into the places of ``share`` of the images: a generator that memorizes."""
    stream = generator("damage", "copies")
    images = pictures.images.clone()
    for row in torch.randperm(len(pictures), generator=stream)[: round(share * len(pictures))]:
        own = (train.labels == pictures.labels[row]).nonzero()[:, 0]
        images[row] = train.images[own[torch.randint(len(own), (1,), generator=stream)]][0]
    return Pictures(images, pictures.labels)


def replaced(pictures: Pictures, pixels: Tensor) -> Pictures:
    """Return ``pictures`` with other ``pixels`` (N, C, H, W), brought to whole grey values."""
    return Pictures(pixels.round().clamp(0, 255).to(torch.uint8), pictures.labels)


DAMAGES: dict[str, Damage] = {
    "blur": blur,
    "noise": noise,
    "shuffle": shuffle,
    "jpeg": jpeg,
    "classes": classes,
    "modes": modes,
    "labels": labels,
    "copies": copies,
}
"""By the names under which tables show them."""
STRENGTHS: dict[str, tuple[float, ...]] = {
    "blur": (0.4, 0.6, 1.0, 2.0),
    "noise": (4, 8, 16, 32),
    "shuffle": (0.1, 0.25, 0.5, 1.0),
    "jpeg": (25, 50, 75, 90),
    "classes": (1, 2, 4, 8),
    "modes": (0.5, 0.8, 0.95, 0.99),
    "labels": (0.05, 0.1, 0.25, 0.5),
    "copies": (0.1, 0.25, 0.5, 1.0),
}
"""Of each damage, rising."""
