"""From images to a record: the real images' features, kept in the cache folder, the samples of a model and their figures."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from condgen.conditions import Condition, ImageCondition
from condgen.data import DataModule, cache
from condgen.data.pixels import chunks
from condgen.data.split import apportion, cut
from condgen.data.tables import Part
from condgen.errors import CondgenError
from condgen.generators.base import BLOCK, Generator, evaluating
from condgen.images import recolour, resize
from condgen.metrics.attributes import AttributeReader, with_real
from condgen.metrics.cas import classification_accuracy_score
from condgen.metrics.catalogue import ELSEWHERE, LOOKING_AT_TRAIN
from condgen.metrics.extractors import Extractor
from condgen.metrics.features import Features
from condgen.metrics.floors import floors, unseen_part
from condgen.metrics.kept import cached, fingerprint
from condgen.metrics.paired import baselines, paired_figures
from condgen.metrics.protocol import Protocol
from condgen.metrics.record import Record
from condgen.metrics.suite import Known, measure
from condgen.metrics.texture import Texture
from condgen.randomness import generator
from condgen.spaces import Images, floating, to_uint8

FEWEST = 100
"""Images below which figures mean nothing."""
Enough = Annotated[int, Ge(FEWEST)]
"""A number of images whose figures mean something."""


class Evaluator:
    """Measures generated images against one split of the data, with one extractor.

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
        if not isinstance(data.space, Images):
            kind = type(data.space).__name__.lower()
            raise CondgenError(f"The extractor {extractor.name} looks at images and the data are {kind}: set extractor=none.")
        self.extractor, self.split, self.seed = extractor, split, seed
        fits = len(extractor.shape) == 1 or data.space.shape == extractor.shape
        self.original = data  # of the model's size
        self.data = data if fits else data.at(extractor.shape[1], extractor.shape[0])
        self.part: Part = getattr(self.data, split)
        self._unseen, self.floors_of = unseen_part(extractor, self.data, split)
        _, outputs = extractor(self.part.table.images[self.part.rows[:1]])
        self.recognizes = extractor.recognizes(self.data.condition.classes, extractor.class_logits(outputs).shape[1])
        self.reader = AttributeReader(extractor.attributes, self.data.condition, self.data.train.values)

    # --- the real images ---

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

    @cached_property
    def _known(self) -> Known:
        """What metrics need of the reference."""
        return self._know()

    @cached_property
    def _known_with_train(self) -> Known:
        """The same, and how far unseen real images are from training images."""
        return self._know(self.train)

    def _know(self, train: Features | None = None) -> Known:
        identity = (self.fingerprint,) if train is None else (self.fingerprint, self._train_fingerprint)
        return Known.from_tensors(
            self._cached("reference", *identity, compute=lambda: Known.of(self.reference, train).tensors())
        )

    def prepare(self, metrics: Sequence[str]) -> tuple[Features | None, Known]:
        """Return what ``metrics`` need of the training images (None: nothing) and of the reference; slow the first time."""
        return (self.train, self._known_with_train) if LOOKING_AT_TRAIN & {*metrics} else (None, self._known)

    @cached_property
    def unseen(self) -> Features | None:
        """Features of real images that neither the reference nor the extractor has seen, see `unseen_part`."""
        return None if self._unseen is None else self._real(self._unseen, fingerprint(self._unseen))

    def floors(self, count: int, metrics: Sequence[str]) -> dict[str, float]:
        """Return ``metrics`` of ``count`` real images that nothing has seen: what a perfect generator would reach."""
        texture = self.texture.floors(metrics, self._unseen, self._unseen_original, count)
        metrics = [name for name in metrics if name not in ELSEWHERE]

        def compute() -> dict[str, Tensor]:
            train, known = self.prepare(metrics)
            found = floors(self.unseen, self.reference, count, metrics=metrics, train=train, seed=self.seed, known=known)
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

    # --- the generated ones ---

    def matching_rows(self, count: int) -> Tensor:
        """Return rows of the reference, int64 (count,), whose conditions to ask for: its classes in their proportions."""
        labels = self.part.labels
        quotas = apportion(torch.bincount(labels), count)
        own = [(labels == k).nonzero()[:, 0] for k in range(len(quotas))]
        return torch.cat([rows[torch.arange(quota) % max(1, len(rows))] for rows, quota in zip(own, quotas, strict=True)])

    def extract(self, images: Tensor, labels: Tensor | None, requested: Tensor | None = None) -> Features:
        """Return the features of uint8 images (N, C, H, W), and what is recognized in them."""
        features, outputs = self.extractor(images)
        return self._seen(features, outputs, labels, requested)

    def sample(self, model: Generator, rows: Tensor, rank: int = 0, world: int = 1) -> tuple[Tensor, Features]:
        """Draw a sample for the condition of each of ``rows`` (N,), and return images, uint8 (N, C, H, W), and their features.

        Each of ``world`` processes draws and looks at its own blocks; then all have all of them, in the order of the blocks.

        Raises:
            CondgenError: a pixel is not a number.
        """
        self.extractor.to(model.device)
        conditions = torch.split(self.original.encode(getattr(self.original, self.split), rows, model.condition), BLOCK)
        labels = torch.split(self.part.labels[rows], BLOCK)
        values = None if self.part.values is None else self.part.values[rows]
        requested = self.reader.requested(values, model.condition)
        shares: list[dict[int, tuple[Tensor, Features]]] = [{} for _ in range(world)]
        for i in range(rank, len(labels), world):
            samples = model.sample_block(i, conditions[i], self.seed)
            if not bool(samples.isfinite().all()):
                raise CondgenError("The model generates pixels that are not numbers (NaN or infinite): it cannot be measured.")
            images = to_uint8(samples).cpu()
            attributes = None if requested is None else requested[i * BLOCK : (i + 1) * BLOCK]
            shares[rank][i] = images, self.extract(images, labels[i] if model.condition.classes else None, attributes)
        if world > 1:
            torch.distributed.all_gather_object(shares, shares[rank])
        blocks = [shares[i % world][i] for i in range(len(labels))]
        return torch.cat([images for images, _ in blocks]), Features.cat([features for _, features in blocks])

    @torch.inference_mode()
    def likelihood(self, model: Generator, draws: int) -> dict[str, float]:
        """Return means over the real images of the split of what `Generator.likelihood` says about them."""
        shape = model.space.shape
        data = self.original if self.original.space.shape == shape else self.original.at(shape[1], shape[0])
        part: Part = getattr(data, self.split)
        sums: dict[str, float] = {}
        with evaluating(model):
            for i, rows in enumerate(torch.split(torch.arange(len(part)), BLOCK)):
                x = floating(part.table.images[part.rows[rows]]).to(model.device)
                condition = data.encode(part, rows, model.condition).to(model.device)
                found = model.likelihood(x, condition, generator(self.seed, "likelihood", i), draws)
                for name, values in found.items():
                    sums[name] = sums.get(name, 0.0) + values.double().sum().item()
        return {name: total / len(part) for name, total in sums.items()}

    def record(
        self,
        images: Tensor,
        generated: Features,
        *,
        metrics: Sequence[str],
        with_floors: bool,
        weights: str,
        sampling: Mapping[str, Any] | None = None,
        likelihood: Mapping[str, float] | None = None,
        condition: Condition | None = None,
        source: str,
        step: int | None,
    ) -> Record:
        """Measure generated images and return the figures under their protocol.

        Args:
            images: uint8 (N, C, H, W), as they were generated.
            generated: their features.
            metrics: names in `condgen.metrics.catalogue.METRICS`.
            with_floors: also measure real images that nothing has seen.
            weights: see `Protocol`.
            sampling: how the model was sampled, where otherwise than in training, and the protocol of its likelihoods.
            likelihood: figures from `likelihood`.
            condition: the model's, of samples for the rows that `matching_rows` returns; None for images of other code.
            source: see `Record`.
            step: see `Record`.
        """
        train, known = self.prepare(metrics)
        measured = measure(generated, self.reference, metrics=metrics, train=train, seed=self.seed, known=known)
        figures = measured.figures | self.texture.figures(metrics, images)
        lows = self.floors(len(generated), list(figures)) if with_floors else {}
        attributes = self.reader.table(generated)
        figures |= {name: value for name, value in self.reader.figures(attributes).items() if name in metrics}
        if attributes and with_floors:  # of images that the recognizer has not seen, and that lack no combination
            real = self.reader.table(self.unseen or self.reference)
            lows |= {name: value for name, value in self.reader.figures(real).items() if name in figures}
            attributes = with_real(attributes, real)
        if "cas" in metrics and generated.labels is not None:
            figures["cas"], lows["cas"] = self._cas(images, generated.labels)
        start = condition.image if condition else None
        trivial: dict[str, dict[str, float]] = {}
        if start:
            part: Part = getattr(self.original, self.split)
            figures |= paired_figures(metrics, images, part.images[self.matching_rows(len(images))])
            trivial = self.baselines(start, generated, list(figures)) if with_floors else {}
        protocol = Protocol(
            extractor=self.extractor.name,
            sha256=self.extractor.sha256,
            reference=self.split,
            data=self.fingerprint,
            real=len(self.part),
            generated=len(generated),
            resize=self.extractor.resizing(images.shape[1:], "the samples"),
            seed=self.seed,
            weights=weights,
            **(sampling or {}),
            start=start.title if start else None,
        )
        figures |= likelihood or {}
        classes = self.data.condition.classes if generated.labels is not None else []
        return Record(
            protocol,
            figures,
            lows,
            measured.per_class,
            classes,
            measured.confusion,
            source,
            step,
            baselines=trivial,
            attributes=attributes,
            floors_of=self.floors_of if lows else "",
        )

    def baselines(self, start: ImageCondition, generated: Features, metrics: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return ``metrics`` (but CAS) of trivial answers, by their names, to what samples were ``generated`` for."""
        rows, wanted = self.matching_rows(len(generated)), [name for name in metrics if name != "cas"]
        part: Part = getattr(self.original, self.split)
        real = part.images[rows]

        def compute() -> dict[str, Tensor]:
            train, known = self.prepare(wanted)
            found: dict[str, float] = {}
            for name, images in baselines(start, self.original.encode(part, rows, start), self.original.train).items():
                features = self.extract(images, generated.labels)
                found_for = measure(features, self.reference, metrics=wanted, train=train, seed=self.seed, known=known).figures
                found |= {f"{name}/{metric}": v for metric, v in (found_for | paired_figures(wanted, images, real)).items()}
            return {key: torch.tensor(value, dtype=torch.float64) for key, value in found.items()}

        identity = fingerprint(part), fingerprint(self.original.train), start.config(), wanted, len(rows), self.seed
        found = self._cached("baselines", *identity, compute=compute)
        names = sorted({key.partition("/")[0] for key in found})
        return {name: {m: float(found[f"{name}/{m}"]) for m in wanted if f"{name}/{m}" in found} for name in names}

    def _cas(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """Return the classification accuracy score of generated images, and that of as many training images."""
        shape, train = self.data.space.shape, self.data.train
        rows = train.rows[cut(train.labels, min(len(labels), len(train)), (self.seed, "cas"))[1]]
        fitting = resize(recolour(images, shape[0]), shape[1])
        pairs = ((fitting, labels), (train.table.images[rows], train.table.labels[rows]))
        score, floor = (classification_accuracy_score(*pair, self.part.images, self.part.labels, self.seed) for pair in pairs)
        return score, floor
