"""The real images that generated ones are measured against: their features and floors, kept in the cache folder."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from condgen.data import DataModule, cache
from condgen.data.pixels import chunks
from condgen.data.tables import Part
from condgen.data.viewed import viewed
from condgen.errors import CondgenError
from condgen.metrics.attributes import AttributeReader
from condgen.metrics.catalogue import ELSEWHERE, LOOKING_AT_TRAIN
from condgen.metrics.extractors import Extractor
from condgen.metrics.features import Features
from condgen.metrics.floors import floors, unseen_part
from condgen.metrics.kept import cached, fingerprint
from condgen.metrics.suite import Known
from condgen.metrics.texture import Texture
from condgen.spaces import Viewed


class RealImages:
    """One split of the data as one extractor sees it, and what figures need to know of it.

    Args:
        extractor: what looks at the images.
        data: the data; the reference is read at the extractor's own size.
        split: "val" or "test".
        seed: decides the samples' noise and every subset that is drawn.

    Attributes:
        floors_of: the real images that floors are of, in words.

    Raises:
        CondgenError: the data are no images, the extractor does not know their classes or colours, or there is no such split.
    """

    def __init__(self, extractor: Extractor, data: DataModule, split: Literal["val", "test"], seed: int = 0):
        if not isinstance(data.space, Viewed):
            kind = type(data.space).__name__.lower()
            raise CondgenError(f"The extractor {extractor.name} looks at images and the data are {kind}: set extractor=none.")
        self.extractor, self.split, self.seed = extractor, split, seed
        self._known: dict[bool, Known] = {}  # with, and without what looks at the training images
        self.modelled = data  # as models see it: where samples are waveforms, these
        self.original = viewed(data)  # of the model's size
        fits = len(extractor.shape) == 1 or self.original.space.shape == extractor.shape
        self.data = self.original if fits else data.at(extractor.shape[1], extractor.shape[0])
        self.part: Part = getattr(self.data, split)
        self._unseen, self.floors_of = unseen_part(extractor, self.data, split)
        _, outputs = extractor(self.part.table.images[self.part.rows[:1]])
        self.recognizes = extractor.recognizes(self.data.condition.classes, extractor.class_logits(outputs).shape[1])
        self.reader = AttributeReader(extractor.attributes, self.data.condition, self.data.train.values)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the reference images and their labels."""
        return fingerprint(self.part)

    @cached_property
    def reference(self) -> Features:
        """Features of the real images of the split."""
        return self._real(self.part, self.fingerprint)

    @cached_property
    def train(self) -> Features:
        """Features of the training images."""
        return self._real(self.data.train, self._train_fingerprint)

    @cached_property
    def _train_fingerprint(self) -> str:
        return fingerprint(self.data.train)

    def _real(self, part: Part, identity: str) -> Features:
        def compute() -> dict[str, Tensor]:
            blocks = [self.extractor(part.table.images[rows]) for rows in chunks(part.rows, part.table.images)]
            features, logits = (torch.cat(column) for column in zip(*blocks, strict=True))
            return {"features": features, "logits": logits}

        found = self._cached("features", identity, compute=compute)
        return self._seen(
            found["features"], found["logits"], part.labels, self.reader.requested(part.values, self.data.condition)
        )

    def _seen(self, features: Tensor, outputs: Tensor, labels: Tensor | None, requested: Tensor | None) -> Features:
        logits = self.extractor.class_logits(outputs)
        recognized = None if self.recognizes is None else self.recognizes[logits.argmax(1)]
        return Features(features, logits, labels, recognized, requested, self.reader.read(outputs))

    def _cached(self, stem: str, *identity: object, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        name = cache.name(f"{stem}-{self.extractor.name}", self.extractor.sha256, *identity)
        return cached(name, compute)

    def known(self, metrics: Sequence[str]) -> Known:
        """Return what ``metrics`` need of the reference; slow the first time."""
        if (with_train := bool(LOOKING_AT_TRAIN & {*metrics})) not in self._known:
            identity = (self.fingerprint, self._train_fingerprint) if with_train else (self.fingerprint,)
            compute = lambda: Known.of(self.reference, self.looked_at(metrics)).tensors()  # noqa: E731
            self._known[with_train] = Known.from_tensors(self._cached("reference", *identity, compute=compute))
        return self._known[with_train]

    def looked_at(self, metrics: Sequence[str]) -> Features | None:
        """Return what ``metrics`` need of the training images, None for nothing; slow the first time."""
        return self.train if LOOKING_AT_TRAIN & {*metrics} else None

    @cached_property
    def unseen(self) -> Features | None:
        """Features of real images that neither the reference nor the extractor has seen, see `unseen_part`."""
        return None if self._unseen is None else self._real(self._unseen, fingerprint(self._unseen))

    def floors(self, count: int, metrics: Sequence[str]) -> dict[str, float]:
        """Return ``metrics`` of ``count`` real images that nothing has seen: what a perfect generator would reach."""
        texture = self.texture.floors(metrics, self._unseen, self._unseen_original, count)
        metrics = [name for name in metrics if name not in ELSEWHERE]

        def compute() -> dict[str, Tensor]:
            about: dict[str, Any] = {"train": self.looked_at(metrics), "known": self.known(metrics)}
            found = floors(self.unseen, self.reference, count, metrics=metrics, seed=self.seed, **about)
            return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}

        identity: tuple[object, ...] = self.fingerprint, self._unseen and fingerprint(self._unseen), count, self.seed, *metrics
        identity += (self._train_fingerprint,) if LOOKING_AT_TRAIN & {*metrics} else ()
        found = self._cached("floors", *identity, compute=compute)
        return {name: float(value) for name, value in found.items()} | texture

    @cached_property
    def texture(self) -> Texture:
        """What measures the texture of samples."""
        return Texture(self.extractor, self.part, getattr(self.original, self.split), self.seed)

    @property
    def _unseen_original(self) -> Part | None:
        """The unseen images at the samples' size."""
        return None if self._unseen is None else self.original.val if self._unseen is self.data.val else self.original.test
