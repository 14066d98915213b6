"""From images to a record: the samples of a model, or images of other code, and their figures."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from condgen.conditions import Condition, ImageCondition
from condgen.data.split import apportion, cut
from condgen.data.tables import Part
from condgen.data.viewed import as_kept, images_of
from condgen.errors import CondgenError
from condgen.generators.base import BLOCK, Generator, evaluating
from condgen.images import recolour, resize
from condgen.metrics.agreement import agreement
from condgen.metrics.attributes import with_real
from condgen.metrics.cas import classification_accuracy_score
from condgen.metrics.features import Features
from condgen.metrics.generated import Generated
from condgen.metrics.kept import fingerprint
from condgen.metrics.paired import baselines, paired_with
from condgen.metrics.protocol import Protocol
from condgen.metrics.real import RealImages
from condgen.metrics.record import Record
from condgen.metrics.suite import measure
from condgen.randomness import generator
from condgen.spaces import Viewed, floating

FEWEST = 100
"""Images below which figures mean nothing."""
GIVEN = 1000
"""Images of other code that are looked at at a time."""
Enough = Annotated[int, Ge(FEWEST)]
"""A number of images whose figures mean something."""


class Evaluator(RealImages):
    """Measures generated images against one split of the data, with one extractor; see `RealImages` for its arguments."""

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

    def sample(
        self,
        model: Generator,
        rows: Tensor,
        metrics: Sequence[str],
        rank: int = 0,
        world: int = 1,
        pictures: bool = True,
    ) -> Generated:
        """Draw a sample for the condition of each of ``rows`` (N,), and take it in for ``metrics``.

        Each of ``world`` processes draws and looks at its own blocks; then what they have taken in is added up. With
        ``pictures`` some samples are kept to be shown.

        Raises:
            CondgenError: a pixel is not a number.
        """
        self.extractor.to(model.device)
        assert isinstance(model.space, Viewed)
        part: Part = getattr(self.modelled, self.split)
        conditions = torch.split(self.modelled.encode(part, rows, model.condition), BLOCK)
        generated = Generated(
            self,
            metrics,
            len(rows),
            model.space.view.shape,
            self.part.labels[rows] if model.condition.classes else None,
            self.reader.requested(None if self.part.values is None else self.part.values[rows], model.condition),
            (lambda place: part.table.images[part.rows[rows[place]]]) if model.condition.image else None,
            pictures,
        )
        for i in range(rank, len(conditions), world):
            samples = model.sample_block(i, conditions[i], self.seed)
            if not bool(samples.isfinite().all()):
                raise CondgenError("The model generates pixels that are not numbers (NaN or infinite): it cannot be measured.")
            generated.update(as_kept(samples).cpu(), i * BLOCK)
        if world > 1:
            generated.sync(model.device)
        return generated

    def given(
        self, images: Tensor, labels: Tensor | None, requested: Tensor | None = None, *, metrics: Sequence[str]
    ) -> Generated:
        """Take in uint8 images (N, C, H, W) of other code for ``metrics``, and what each was asked for."""
        generated = Generated(self, metrics, len(images), images.shape[1:], labels, requested)
        for start in range(0, len(images), GIVEN):
            generated.update(images[start : start + GIVEN], start)
        return generated

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
        generated: Generated,
        *,
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
            generated: all of them, taken in for the metrics that are wanted.
            with_floors: also measure real images that nothing has seen.
            weights: see `Protocol`.
            sampling: how the model was sampled, where otherwise than in training, and the protocol of its likelihoods.
            likelihood: figures from `likelihood`.
            condition: the model's, of samples for the rows that `matching_rows` returns; None for images of other code.
            source: see `Record`.
            step: see `Record`.
        """
        metrics, parts, count = generated.metrics, generated.parts, generated.count
        measured = generated.suite.compute(self.reference, self.looked_at(metrics))
        figures = measured.figures | self.texture.figures(metrics, parts)
        lows = self.floors(count, list(figures)) if with_floors else {}
        attributes = parts["attributes"].compute()
        figures |= {name: value for name, value in self.reader.figures(attributes).items() if name in metrics}
        if attributes and with_floors:  # of images that the recognizer has not seen, and that lack no combination
            real = agreement(self.reader, self.unseen or self.reference)
            lows |= {name: value for name, value in self.reader.figures(real).items() if name in figures}
            attributes = with_real(attributes, real)
        if "cas" in metrics and generated.labels is not None:
            figures["cas"], lows["cas"] = self._cas(**generated.suite.kept())
        start = condition.image if condition else None
        trivial: dict[str, dict[str, float]] = {}
        if start:
            figures |= {name: value for part in generated.paired for name, value in part.compute().items()}
            trivial = self.baselines(start, count, generated.labels is not None, list(figures)) if with_floors else {}
        protocol = Protocol(
            extractor=self.extractor.name,
            sha256=self.extractor.sha256,
            reference=self.split,
            data=self.fingerprint,
            real=len(self.part),
            generated=count,
            resize=self.extractor.resizing(generated.shape, "the samples"),
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

    def baselines(
        self, start: ImageCondition, count: int, labelled: bool, metrics: Sequence[str]
    ) -> dict[str, dict[str, float]]:
        """Return ``metrics`` (but CAS) of trivial answers, by their names, to what ``count`` samples are asked for."""
        rows, wanted = self.matching_rows(count), [name for name in metrics if name != "cas"]
        part: Part = getattr(self.modelled, self.split)

        def compute() -> dict[str, Tensor]:
            about: dict[str, Any] = {"train": self.looked_at(wanted), "known": self.known(wanted), "seed": self.seed}
            found: dict[str, float] = {}
            for name, answers in baselines(start, self.modelled.encode(part, rows, start), self.modelled.train).items():
                images = images_of(answers, self.modelled.space)
                features = self.extract(images, self.part.labels[rows] if labelled else None)
                figures = measure(features, self.reference, metrics=wanted, **about).figures
                for paired in paired_with(wanted, self.modelled.space, images.shape[1:]):
                    paired.update(answers, part.images[rows])
                    figures |= paired.compute()
                found |= {f"{name}/{metric}": value for metric, value in figures.items()}
            return {key: torch.tensor(value, dtype=torch.float64) for key, value in found.items()}

        identity = fingerprint(part), fingerprint(self.modelled.train), start.config(), wanted, len(rows), self.seed
        found = self._cached("baselines", *identity, compute=compute)
        names = sorted({key.partition("/")[0] for key in found})
        return {name: {m: float(found[f"{name}/{m}"]) for m in wanted if f"{name}/{m}" in found} for name in names}

    def _cas(self, images: Tensor, labels: Tensor, **others: Tensor) -> tuple[float, float]:
        """Return the classification accuracy score of generated images, and that of as many training images."""
        shape, train = self.data.space.shape, self.data.train
        rows = train.rows[cut(train.labels, min(len(labels), len(train)), (self.seed, "cas"))[1]]
        fitting = resize(recolour(images, shape[0]), shape[1])
        pairs = ((fitting, labels), (train.table.images[rows], train.table.labels[rows]))
        score, floor = (classification_accuracy_score(*pair, self.part.images, self.part.labels, self.seed) for pair in pairs)
        return score, floor
