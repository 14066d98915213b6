"""The suite: all figures of a set of generated images, from features that were extracted once.

What depends on the reference alone is computed once, as `Known`, and a `Suite` compares generated images with it. What a
perfect generator would reach, `condgen.metrics.floors` says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from condgen.errors import CondgenError
from condgen.metrics.accuracy import LabelAccuracy
from condgen.metrics.authenticity import authenticity
from condgen.metrics.catalogue import LOOKING_AT_TRAIN, require_metrics
from condgen.metrics.distances import (
    FrechetDistance,
    Gaussian,
    InceptionScore,
    by_class,
    gaussian,
    kid,
    parts_of,
    warn_of_few,
)
from condgen.metrics.features import Features
from condgen.metrics.manifold import DENSITY_NEIGHBOUR, Manifold, manifold, nearest, radii, spreads
from condgen.metrics.states import Reservoir, require_classes
from condgen.randomness import generator

PROBES = 2000
"""Images that look for their nearest training image: their median is within about 1 % of that of 10,000."""

NEIGHBOURS = {"kid", *Manifold._fields, "diversity", "diversity_worst", *LOOKING_AT_TRAIN}
"""Metrics that look at single samples, of at most `condgen.metrics.states.CAPACITY`."""


@dataclass(frozen=True)
class Measurement:
    """The figures of one set of generated images.

    Attributes:
        figures: each metric's value; metrics that do not apply are not there.
        per_class: ``label_accuracy``, ``intra_fid`` and ``diversity`` of the K classes, NaN for a class with too few images.
        confusion: counts, K rows (asked for) of K + 1 columns (recognized; the last is any other class); None without classes.
    """

    figures: dict[str, float]
    per_class: dict[str, list[float]] = field(default_factory=dict)
    confusion: list[list[int]] | None = None


@dataclass(frozen=True, eq=False)
class Known:
    """What the reference says by itself, and with the training images.

    Attributes:
        whole: Gaussian of all its features.
        classes: Gaussian of each of the K classes, None for one with fewer than 2 images; empty without labels.
        radii: (N, 2) from `condgen.metrics.manifold.radii`; empty for 5 images or fewer.
        spreads: (K,), mean distance within each class.
        unseen: (), median distance from the reference to the nearest training image; NaN without training images.
    """

    whole: Gaussian
    classes: list[Gaussian | None]
    radii: Tensor
    spreads: Tensor
    unseen: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, reference: Features, train: Features | None = None) -> "Known":
        """Compute it; without the training images, `measure` computes ``unseen`` when it needs it."""
        require_finite(reference, "real")
        features, labels = reference.features, reference.labels
        classes = [] if labels is None else by_class(features, labels)
        return cls(
            whole=gaussian(features),
            classes=classes,
            radii=radii(features) if len(features) > DENSITY_NEIGHBOUR else features.new_empty(0, 2),
            spreads=features.new_empty(0) if labels is None else spreads(features, labels, len(classes)),
            unseen=torch.tensor(float("nan")) if train is None else typical_nearest(reference, train),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it under flat names."""
        gaussians = {"whole": self.whole} | {str(k): one for k, one in enumerate(self.classes) if one is not None}
        parts = {f"{name}.mean": one.mean for name, one in gaussians.items()}
        parts |= {f"{name}.root": one.root for name, one in gaussians.items()}
        return parts | {"radii": self.radii, "spreads": self.spreads, "unseen": self.unseen}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Known":
        """Return what `tensors` was made from; raises KeyError if a part is missing."""
        whole = Gaussian(tensors["whole.mean"], tensors["whole.root"])
        classes = [
            Gaussian(tensors[f"{k}.mean"], tensors[f"{k}.root"]) if f"{k}.mean" in tensors else None
            for k in range(len(tensors["spreads"]))
        ]
        return cls(whole, classes, tensors["radii"], tensors["spreads"], tensors["unseen"])


class Suite:
    """Those of ``metrics`` that are computed from features and apply: takes samples block by block, and adds up over processes.

    Args:
        metrics: names from `METRICS`.
        like: features such as will come; how many does not matter.
        known: `Known.of` the reference.
        count: how many samples there will be in all.
        seed: decides the subsets of KID and the parts of the inception score.
        keep: whether the samples' features are kept even if no metric looks at single ones.
        images: an empty tensor (0, C, H, W) if the samples themselves are to be kept as well.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        like: Features,
        known: Known,
        count: int,
        *,
        seed: int = 0,
        keep: bool = False,
        images: Tensor | None = None,
    ):
        require_metrics(metrics)
        self.metrics, self.known, self.count, self.seed, chosen = list(metrics), known, count, seed, set(metrics)
        classes = 0 if like.labels is None else len(known.classes)
        alone: Any = {"sync_on_compute": False}
        self.parts: dict[str, Any] = {}
        if "fid" in chosen:
            self.parts["fid"] = FrechetDistance([known.whole], **alone)
        if classes and chosen & {"intra_fid", "intra_fid_worst"}:
            self.parts["intra_fid"] = FrechetDistance(known.classes, **alone)
        if "is" in chosen:
            self.parts["is"] = InceptionScore(like.logits.shape[1], **alone)
            self.splits = parts_of(count, len(self.parts["is"].count), seed)
        if classes and "label_accuracy" in chosen and like.recognized is not None:
            self.parts["label_accuracy"] = LabelAccuracy(classes, **alone)
        if keep or chosen & NEIGHBOURS:
            columns = {"features": like.features, "labels": like.labels, "images": images}
            rows = {name: column[:0] for name, column in columns.items() if column is not None}
            self.parts["kept"] = Reservoir(rows, seed=seed, **alone)

    def update(self, images: Features, place: Tensor, pixels: Tensor | None = None) -> None:
        """Take in the features of samples, their places, int64 (B,), among all, and the samples if they are to be kept."""
        require_finite(images, "generated")
        if images.labels is not None and self.known.classes:
            require_classes(images.labels, len(self.known.classes))
        rows = {"features": images.features, "labels": images.labels, "images": pixels}
        given: dict[str, tuple[Any, ...]] = {
            "fid": (images.features,),
            "intra_fid": (images.features, images.labels),
            "is": (images.logits, self.splits[place] if "is" in self.parts else None),
            "label_accuracy": (images.recognized, images.labels),
        }
        for name, part in self.parts.items():
            if name == "kept":
                part.update(*(rows[column] for column in list(part.columns)[1:]), place=place)
            else:
                part.update(*given[name])

    def kept(self) -> dict[str, Tensor]:
        """Return "features", "labels" and "images" of the samples that are kept, where there are any, by their places."""
        return self.parts["kept"].compute()  # type: ignore[no-any-return]

    def stretch(self, count: int) -> None:
        """Repeat what is kept of single samples, as if there were ``count``: computing the figures then takes as long."""
        if "kept" in self.parts:
            self.parts["kept"].stretch(count)

    def compute(self, reference: Features, train: Features | None = None) -> Measurement:
        """Compute the figures, in one process, of all that were taken in.

        Args:
            reference: real images of the same extractor.
            train: the images that the generator learned from, for ``nearest`` and ``authenticity``.
        """
        figures: dict[str, float] = {}
        per_class: dict[str, Tensor] = {}
        confusion = None
        if "fid" in self.parts:
            warn_of_few("FID", len(reference), self.count, reference.features.shape[1])
            figures["fid"] = float(self.parts["fid"].compute())
        if "is" in self.parts:
            figures["is"] = float(self.parts["is"].compute())
        if "label_accuracy" in self.parts:
            confusion = self.parts["label_accuracy"].confusion
            per_class["label_accuracy"] = confusion.diagonal().double() / confusion.sum(1)
            figures["label_accuracy"] = float(self.parts["label_accuracy"].compute())
        if "intra_fid" in self.parts and reference.labels is not None:
            fewest = [int(counts.min()) for counts in (torch.bincount(reference.labels), self.parts["intra_fid"].count)]
            warn_of_few("Intra-class FID (smallest class)", *fewest, reference.features.shape[1])
            per_class["intra_fid"] = self.parts["intra_fid"].distances()
            figures["intra_fid_worst"] = extreme(per_class["intra_fid"], worst_is_highest=True)
        if NEIGHBOURS & {*self.metrics}:
            figures |= self._neighbours(reference, train, per_class)
        figures = {name: float(values.nanmean()) for name, values in per_class.items() if name not in figures} | figures
        return Measurement(
            {name: figures[name] for name in self.metrics if name in figures},
            {name: values.tolist() for name, values in per_class.items()},
            None if confusion is None else confusion.tolist(),
        )

    def _neighbours(self, reference: Features, train: Features | None, per_class: dict[str, Tensor]) -> dict[str, float]:
        """Compute the figures that look at single samples; the diversity of the classes goes into ``per_class``."""
        chosen, kept, known = {*self.metrics}, self.kept(), self.known
        features, labels = kept["features"], kept.get("labels")
        figures: dict[str, float] = {}
        if "kid" in chosen:
            figures["kid"], _ = kid(reference.features, features, seed=self.seed)
        if chosen & {*Manifold._fields}:
            figures |= manifold(reference.features, features, known.radii)._asdict()
        if labels is not None and known.classes and chosen & {"diversity", "diversity_worst"}:
            per_class["diversity"] = spreads(features, labels, len(known.classes)) / known.spreads
            figures["diversity_worst"] = extreme(per_class["diversity"], worst_is_highest=False)
        if chosen & LOOKING_AT_TRAIN and train is not None:
            figures |= copying_figures(chosen, features, reference, train, known)
        return figures


@torch.no_grad()
def measure(
    generated: Features,
    reference: Features,
    *,
    metrics: Sequence[str],
    train: Features | None = None,
    seed: int = 0,
    known: Known | None = None,
) -> Measurement:
    """Compute those of ``metrics`` that apply; the global random state is neither used nor changed.

    Args:
        generated: images with the classes that were asked for.
        reference: real images of the same extractor.
        metrics: names from `METRICS`.
        train: the images that the generator learned from, for ``nearest`` and ``authenticity``.
        seed: decides the subsets of KID and the parts of the inception score.
        known: `Known.of` the reference, if it was computed before.

    Raises:
        CondgenError: an unknown metric, too few images, features that are not finite, or a class that the data do not have.
    """
    suite = Suite(metrics, generated, known or Known.of(reference), len(generated), seed=seed)
    suite.update(generated, torch.arange(len(generated)))
    return suite.compute(reference, train)


def copying_figures(
    chosen: set[str], generated: Tensor, reference: Features, train: Features, known: Known
) -> dict[str, float]:
    """Compute the chosen figures that compare images with training images."""
    some = probes(generated)
    found, figures = nearest(some, train.features), {}
    if "nearest" in chosen:
        unseen = typical_nearest(reference, train) if known.unseen.isnan() else known.unseen
        figures["nearest"] = float(found[0].median() / unseen)
    if "authenticity" in chosen:
        figures["authenticity"] = authenticity(some, train.features, found)
    return figures


def typical_nearest(images: Features, train: Features) -> Tensor:
    """Return the median distance () from (at most `PROBES` of) ``images`` to the nearest training image."""
    return nearest(probes(images.features), train.features)[0].median()


def probes(features: Tensor) -> Tensor:
    """Return features (P, D) of the `PROBES` images that look for training images, or of all."""
    return features[torch.randperm(len(features), generator=generator("probes"))[:PROBES]]


def extreme(values: Tensor, *, worst_is_highest: bool) -> float:
    """Return the highest or lowest of ``values`` (K,) that are not NaN; NaN if none is."""
    there = values[~values.isnan()]
    return float(there.max() if worst_is_highest else there.min()) if len(there) else float("nan")


def require_finite(images: Features, kind: str) -> None:
    """Raise CondgenError where features or logits of the ``kind`` images are NaN or infinite."""
    bad = ~(images.features.isfinite().all(1) & images.logits.isfinite().all(1))
    if bad.any():
        raise CondgenError(
            f"{int(bad.sum())} of {len(images)} {kind} images have features that are not numbers: most likely they hold NaN."
        )
