"""The suite: all figures of a set of generated images, from features that were extracted once.

What depends on the reference alone is computed once, as `Known`, and `measure` compares generated images with it. What a
perfect generator would reach, `condgen.metrics.floors` says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from condgen.errors import CondgenError
from condgen.metrics.authenticity import authenticity
from condgen.metrics.catalogue import LOOKING_AT_TRAIN, require_metrics
from condgen.metrics.distances import Gaussian, frechet, gaussian, inception_score, kid, warn_of_few
from condgen.metrics.features import Features
from condgen.metrics.manifold import DENSITY_NEIGHBOUR, Manifold, manifold, nearest, radii, spreads
from condgen.randomness import generator

PROBES = 2000
"""Images that look for their nearest training image: their median is within about 1 % of that of 10,000."""


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
        count = 0 if labels is None else int(labels.max()) + 1
        return cls(
            whole=gaussian(features),
            classes=[] if labels is None else by_class(features, labels, count),
            radii=radii(features) if len(features) > DENSITY_NEIGHBOUR else features.new_empty(0, 2),
            spreads=features.new_empty(0) if labels is None else spreads(features, labels, count),
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
        seed: decides the subsets of KID and the splits of the inception score.
        known: `Known.of` the reference, if it was computed before.

    Raises:
        CondgenError: an unknown metric, too few images, features that are not finite, or a class that the data do not have.
    """
    require_metrics(metrics)
    require_finite(generated, "generated")
    chosen = set(metrics)
    known = known or Known.of(reference)
    figures = whole_figures(chosen, generated, reference, known, seed)
    per_class, confusion = class_figures(chosen, generated, reference, known)
    for name, values in per_class.items():
        figures[name] = float(values.nanmean())
    if "intra_fid" in per_class:
        figures["intra_fid_worst"] = extreme(per_class["intra_fid"], worst_is_highest=True)
    if "diversity" in per_class:
        figures["diversity_worst"] = extreme(per_class["diversity"], worst_is_highest=False)
    if confusion is not None:
        figures["label_accuracy"] = int(confusion.diagonal().sum()) / len(generated)
    if chosen & LOOKING_AT_TRAIN and train is not None:
        figures |= copying_figures(chosen, generated, reference, train, known)
    return Measurement(
        {name: figures[name] for name in metrics if name in figures},
        {name: values.tolist() for name, values in per_class.items()},
        None if confusion is None else confusion.tolist(),
    )


def whole_figures(chosen: set[str], generated: Features, reference: Features, known: Known, seed: int) -> dict[str, float]:
    """Compute the chosen figures that know no classes."""
    figures: dict[str, float] = {}
    if "fid" in chosen:
        warn_of_few("FID", len(reference), len(generated), generated.features.shape[1])
        figures["fid"] = frechet(known.whole, gaussian(generated.features))
    if "kid" in chosen:
        figures["kid"], _ = kid(reference.features, generated.features, seed=seed)
    if "is" in chosen:
        figures["is"], _ = inception_score(generated.logits, seed=seed)
    if chosen & set(Manifold._fields):
        if (fewest := min(len(reference), len(generated))) <= DENSITY_NEIGHBOUR:
            raise CondgenError(f"Precision, recall, density and coverage need at least 6 images on each side, not {fewest}.")
        figures |= manifold(reference.features, generated.features, known.radii)._asdict()
    return figures


def class_figures(
    chosen: set[str], generated: Features, reference: Features, known: Known
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Compute the chosen figures (K,) of single classes, and counts (K, K + 1) of asked-for by recognized class."""
    labels, count = generated.labels, len(known.classes)
    if labels is None or reference.labels is None:
        return {}, None
    if int(labels.max()) >= count:
        raise CondgenError(f"Class {int(labels.max())} was asked for, but the real images have classes 0..{count - 1} only.")
    per_class: dict[str, Tensor] = {}
    confusion = None
    if "label_accuracy" in chosen and generated.recognized is not None:
        confusion = confuse(labels, generated.recognized, count)
        per_class["label_accuracy"] = confusion.diagonal().double() / confusion.sum(1)
    if chosen & {"intra_fid", "intra_fid_worst"}:
        fewest = [int(torch.bincount(side, minlength=count).min()) for side in (reference.labels, labels)]
        warn_of_few("Intra-class FID (smallest class)", *fewest, generated.features.shape[1])
        pairs = zip(known.classes, by_class(generated.features, labels, count), strict=True)
        per_class["intra_fid"] = torch.tensor(
            [frechet(a, b) if a and b else float("nan") for a, b in pairs], dtype=torch.float64
        )
    if chosen & {"diversity", "diversity_worst"}:
        per_class["diversity"] = spreads(generated.features, labels, count) / known.spreads
    return per_class, confusion


def copying_figures(
    chosen: set[str], generated: Features, reference: Features, train: Features, known: Known
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
    return nearest(probes(images), train.features)[0].median()


def probes(images: Features) -> Tensor:
    """Return features (P, D) of the `PROBES` images that look for training images, or of all."""
    return images.features[torch.randperm(len(images), generator=generator("probes"))[:PROBES]]


def by_class(features: Tensor, labels: Tensor, count: int) -> list[Gaussian | None]:
    """Fit a Gaussian to each class; None for one with fewer than 2 images."""
    parts = [features[labels == k] for k in range(count)]
    return [gaussian(part) if len(part) > 1 else None for part in parts]


def confuse(labels: Tensor, recognized: Tensor, count: int) -> Tensor:
    """Count (K, K + 1) images by asked-for and recognized class, the last column any other."""
    seen = torch.where((recognized >= 0) & (recognized < count), recognized, count)
    return torch.bincount(labels * (count + 1) + seen, minlength=count * (count + 1)).reshape(count, count + 1)


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
