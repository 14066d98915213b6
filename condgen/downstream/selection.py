"""Which generated images are taken into a data set: those that a classifier is surest of, and no copies of training images."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.data.tables import Part
from condgen.downstream.training import logits_of
from condgen.metrics.manifold import nearest
from condgen.spaces import to_float

SIDE = 32
"""Pixels of a side beyond which images are averaged before their distances are taken."""
QUANTILE = 0.01
"""Share of unseen real images that lie nearer to a training image than the distance below which one counts as a copy."""


@dataclass(frozen=True, eq=False)
class Known:
    """Training images, to find copies of them.

    Attributes:
        pixels: float (N, D).
        limit: distance to the nearest of them below which an image counts as a copy.
    """

    pixels: Tensor
    limit: float


def known_images(train: Part, val: Part) -> Known:
    """Return what finds copies of ``train``; 1 % of the images in ``val``, which are no copies, lie below the limit."""
    pixels = flat(train.images)
    distances, _ = nearest(flat(val.images), pixels)
    return Known(pixels, float(distances.quantile(QUANTILE)))


def flat(images: Tensor) -> Tensor:
    """Return images uint8 (N, C, H, W) as float (N, D) in [-1, 1], averaged to at most 32 pixels a side."""
    x = to_float(images)
    side = min(SIDE, *x.shape[2:])
    return (F.adaptive_avg_pool2d(x, side) if max(x.shape[2:]) > SIDE else x).flatten(1)


class Selection:
    """Chooses among generated images of one class.

    Args:
        keep: share that is taken, those of which ``judge`` is surest that they are of the class; None: all.
        judge: a classifier that has seen real training images alone; None without ``keep``.
        known: finds copies, which are left out; None: nobody looks for them.
    """

    def __init__(self, keep: float | None, judge: nn.Module | None, known: Known | None):
        self.keep, self.judge, self.known = keep, judge, known

    def __call__(self, images: Tensor, label: int, most: int) -> tuple[Tensor, list[dict[str, str]]]:
        """Choose among uint8 ``images`` (N, C, H, W) that were asked for as ``label``.

        Args:
            images: the candidates.
            label: what they were asked for.
            most: how many are wanted; no more than ``most`` / ``keep`` candidates are looked at.

        Returns:
            The places of those taken, ascending, and what is known of each: its confidence and its distance over the limit.
        """
        keep = 1.0 if self.keep is None else self.keep
        if self.known is None:  # else nobody knows how many will be left
            images = images[: math.ceil(most / keep)]
        chosen, told = torch.arange(len(images)), [dict[str, str]() for _ in images]
        if self.known is not None:
            distances, _ = nearest(flat(images), self.known.pixels)
            told = [{"nearest": f"{distance / self.known.limit:.3f}"} for distance in distances.tolist()]
            chosen = (distances >= self.known.limit).nonzero()[:, 0]
        if self.judge is not None and len(chosen):
            confidence = logits_of(self.judge, images[chosen]).softmax(1)[:, label]
            for place, sure in zip(chosen.tolist(), confidence.tolist(), strict=True):
                told[place]["confidence"] = f"{sure:.4f}"
            order = confidence.argsort(descending=True, stable=True)
            chosen = chosen[order[: round(keep * len(chosen))]].sort()[0]
        chosen = chosen[:most]
        return chosen, [told[place] for place in chosen.tolist()]
