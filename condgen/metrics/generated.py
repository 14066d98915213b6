"""The samples of one measurement: what the metrics keep of them, each process of its own, until it is added up."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from condgen.data.viewed import images_of
from condgen.metrics.agreement import Agreement
from condgen.metrics.paired import paired_with
from condgen.metrics.suite import Suite

if TYPE_CHECKING:
    from condgen.metrics.evaluator import Evaluator


class Generated:
    """Takes samples in block by block, for the metrics of one measurement. The samples themselves are not kept, but for some.

    Args:
        evaluator: whose extractor looks at them.
        metrics: names in `condgen.metrics.catalogue.METRICS`.
        count: N, how many there will be in all.
        shape: (C, H, W) of the samples.
        labels: int64 (N,), the classes that they are asked for; None where nothing is.
        requested: float (N, A), values of attributes likewise, see `condgen.metrics.features.Features`.
        real: returns the real samples, as `update` takes them, whose conditions the samples at places (B,) have; None: they
            start from no image.
        pictures: whether samples are kept to be shown, at most `condgen.metrics.states.CAPACITY`.
    """

    def __init__(
        self,
        evaluator: "Evaluator",
        metrics: Sequence[str],
        count: int,
        shape: Sequence[int],
        labels: Tensor | None = None,
        requested: Tensor | None = None,
        real: Callable[[Tensor], Tensor] | None = None,
        pictures: bool = True,
    ):
        self.evaluator, self.metrics, self.count, self.shape = evaluator, list(metrics), count, torch.Size(shape)
        self.labels, self.requested, self.real = labels, requested, real
        shown = torch.empty(0, *shape, dtype=torch.uint8) if pictures or "cas" in metrics else None
        like = self._features(torch.zeros(1, *shape, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
        known = evaluator.known(metrics)
        self.suite = Suite(metrics, like, known, count, seed=evaluator.seed, keep=shown is not None, images=shown)
        self.parts: dict[str, Any] = evaluator.texture.parts(metrics, shape, count)
        self.parts["attributes"] = Agreement(evaluator.reader, sync_on_compute=False)
        self.paired = paired_with(metrics, evaluator.modelled.space, shape) if real else []

    def _features(self, images: Tensor, place: Tensor) -> Any:
        asked = (None if column is None else column[place] for column in (self.labels, self.requested))
        return self.evaluator.extract(images, *asked)

    def update(self, samples: Tensor, start: int) -> None:
        """Take in the samples from ``start`` on: images, uint8 (B, C, H, W), or what these are of, float (B, *shape)."""
        images = images_of(samples, self.evaluator.modelled.space)
        place = torch.arange(start, start + len(images))
        features = self._features(images, place)
        self.suite.update(features, place, images)
        self.parts["attributes"].update(features)
        self.evaluator.texture.update(self.parts, images, place)
        if self.real:
            real = self.real(place)
            for part in self.paired:
                part.update(samples, real)

    def sync(self, device: torch.device) -> None:
        """Add up what all processes have taken in, by way of the ``device`` from which they send; each of them calls it."""
        for part in (*self.suite.parts.values(), *self.parts.values(), *self.paired):
            part.to(device).sync(part.dist_sync_fn)
            part.to("cpu")
