"""Other libraries' augmentations, one image at a time: any transform of torchvision.transforms.v2 or of albumentations.

These draw from hidden random states. Here each image's states are set from its own uniform numbers, and put back afterwards, so
that an image is augmented the same way by one process or several, and before or after a restart.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.errors import CondgenError
from condgen.spaces import to_float, to_uint8

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing albumentations asks the network for a newer release
BITS = 24
"""Random bits of a uniform float32 number."""
OF_BATCHES = ("CutMix", "MixUp")
"""Transforms of torchvision that mix several images and their labels."""


class PerImage:
    """A transform of one uint8 image, applied to each image of a batch, on the CPU.

    Args:
        transform: of torchvision.transforms.v2; of albumentations (the extra ``augment``), one or a ``Compose``; or any
            callable from uint8 (C, H, W) to uint8, or to float in [0, 1], of the same shape, that draws from the global
            random states of torch, numpy or Python.

    Raises:
        CondgenError: it is none, or is for whole batches with labels.
    """

    draws = 2

    def __init__(self, transform: Callable[..., Any]):
        self.name = type(transform).__name__
        if not callable(transform):
            raise CondgenError(f"data.augment: {transform!r} is no augmentation: choose augment=NAME, or give one a _target_.")
        if self.name in OF_BATCHES:
            raise CondgenError(
                f"data.augment: {self.name} mixes images of different classes, whose conditions cannot be mixed."
            )
        self.apply = Albumentation(transform) if of_albumentations(transform) else Seeded(transform)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """Augment images (B, C, H, W) in [-1, 1] by ``u`` (B, 2); what comes back has 256 levels, as the images have."""
        seeds = ((u.double().cpu() * 2**BITS).long() * torch.tensor([2**BITS, 1])).sum(1).tolist()
        with undisturbed_states():
            made = [self.checked(self.apply(image, seed), image) for image, seed in zip(to_uint8(x.cpu()), seeds, strict=True)]
        return torch.stack(made).to(x.device) if made else x

    def checked(self, made: Any, image: Tensor) -> Tensor:
        """Return what a transform made of ``image`` as float (C, H, W) in [-1, 1]; raises CondgenError where it is no image."""
        if not isinstance(made, Tensor) or made.shape != image.shape:
            shape = "x".join(map(str, made.shape)) if isinstance(made, Tensor) else type(made).__name__
            wanted = "x".join(map(str, image.shape))
            raise CondgenError(
                f"data.augment: {self.name} makes {shape} of an image of {wanted}: shapes must stay as they are."
            )
        return to_float(made) if made.dtype == torch.uint8 else (made.float() * 2 - 1).clamp(-1, 1)


class Seeded:
    """A transform that draws from global random states, as those of torchvision do."""

    def __init__(self, transform: Callable[[Tensor], Any]):
        self.transform = transform

    def __call__(self, image: Tensor, seed: int) -> Any:
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        return self.transform(image)


class Albumentation:
    """A transform of albumentations, which has random states of its own."""

    def __init__(self, transform: Any):
        from albumentations import Compose

        self.transform = transform if isinstance(transform, Compose) else Compose([transform])

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        self.transform.set_random_seed(seed)
        made: NDArray[Any] = self.transform(image=image.permute(1, 2, 0).contiguous().numpy())["image"]  # (H, W, C)
        made = made[:, :, None] if made.ndim == 2 else made
        return torch.from_numpy(np.ascontiguousarray(made)).permute(2, 0, 1)


def of_albumentations(transform: Any) -> bool:
    """Whether a transform is one of albumentations, without importing it."""
    return any(kind.__module__.partition(".")[0] == "albumentations" for kind in type(transform).__mro__)


@contextmanager
def undisturbed_states() -> Iterator[None]:
    """Put the global random states of torch (on the CPU), numpy and Python back as they were."""
    ours, theirs = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)
