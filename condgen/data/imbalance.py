"""Fewer training images of some classes: how many of each are kept, and how often each is drawn all the same."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from condgen.data.prepare import class_labels
from condgen.data.split import apportion
from condgen.errors import CondgenError
from condgen.types import Name, Says

LONGTAIL = re.compile(r"longtail:(\d+(?:\.\d+)?)(?::(\d+))?")
Kept = Annotated[
    Annotated[float, Gt(0), Le(1)] | Annotated[int, Ge(2)],
    Says(
        "a fraction above 0 and at most 1, or a whole number of images from 2", "fractions, or whole numbers of images from 2"
    ),
]
"""How many of a class's training images are kept: a fraction of them, or a number."""
Imbalance = Annotated[
    str | Mapping[Name, Kept],
    Says("longtail:RATIO such as longtail:100, or {class: kept} with fractions up to 1 or whole numbers of images from 2"),
]


def kept_counts(imbalance: str | Mapping[str | int, float] | None, classes: Sequence[str], sizes: Tensor) -> dict[int, int]:
    """Return for each class that loses images how many are kept.

    ``longtail:R`` keeps n R^(-k / (K - 1)) of class k, an exponential from n to n / R in the order of the labels (Cui et al.
    2019, "Class-Balanced Loss", section 5.1); n is the size of the smallest class, so that the ratio is R exactly, and
    ``longtail:R:n`` gives another one.

    Args:
        imbalance: such a text, ``{class: kept}``, or None; see `Kept`.
        classes: the K names.
        sizes: training images of each, int64 (K,).

    Raises:
        CondgenError: the text is none, or a class does not exist or has fewer images than are to be kept.
    """
    if not imbalance:
        return {}
    if isinstance(imbalance, str):
        wanted = long_tail(imbalance, len(classes), int(sizes.min()))
    else:
        chosen = class_labels(classes, imbalance.items(), "data.imbalance")
        wanted = {k: max(1, round(kept * int(sizes[k]))) if kept <= 1 else int(kept) for k, kept in chosen.items()}
    for label, count in wanted.items():
        if count > sizes[label]:
            raise CondgenError(
                f"data.imbalance={imbalance} keeps {count} training images of class {classes[label]}, "
                f"which has {sizes[label]}: keep fewer."
            )
    return wanted


def long_tail(text: str, classes: int, smallest: int) -> dict[int, int]:
    """Return how many images of each class ``longtail:R`` or ``longtail:R:n`` keeps; see `kept_counts`."""
    found = LONGTAIL.fullmatch(text)
    if found is None or float(found[1]) < 1:
        raise CondgenError(
            f"data.imbalance={text} is none: write longtail:100, or longtail:100:1000 with the images of the first class, or "
            "{class: kept} with fractions or whole numbers of images."
        )
    if classes < 2:
        raise CondgenError(f"data.imbalance={text} needs data with classes, and these have none: leave it out.")
    ratio, most = float(found[1]), int(found[2] or smallest)
    counts = [round(most * ratio ** (-k / (classes - 1))) for k in range(classes)]
    if counts[-1] < 1:
        raise CondgenError(f"data.imbalance={text} leaves no image of the last class: {most} / {ratio:g} is less than one.")
    return dict(enumerate(counts))


def told(labels: Tensor, classes: Sequence[str]) -> str:
    """Say how many images of each class there are, of ``labels`` (N,); of more than 20 classes only the fewest and the most."""
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    if len(classes) <= 20:
        return ", ".join(f"{name} {count:,}" for name, count in zip(classes, counts, strict=True))
    fewest, most = min(range(len(classes)), key=counts.__getitem__), max(range(len(classes)), key=counts.__getitem__)
    return f"from {counts[fewest]:,} of {classes[fewest]} to {counts[most]:,} of {classes[most]}"


def balanced_order(labels: Tensor, balance: float, stream: torch.Generator) -> Tensor:
    """Return an order of N draws in which class c has a share proportional to n_c^(1 - balance): tempered sampling.

    Within a class nothing is drawn again before all of it was drawn, so 0 is a plain permutation and 1 gives every class the
    same number of draws, up to one (Kang et al. 2020, "Decoupling Representation and Classifier", section 3).

    Args:
        labels: int64 (N,).
        balance: in [0, 1].
        stream: decides the order.

    Returns:
        Places in ``labels``, int64 (N,), some of them several times.
    """
    sizes = torch.bincount(labels).double()
    shares = torch.where(sizes > 0, sizes.clamp(min=1) ** (1 - balance), 0.0)
    drawn = []
    for label, quota in enumerate(apportion(shares, len(labels))):
        rows = (labels == label).nonzero()[:, 0]
        rounds = -(-quota // max(1, len(rows)))
        drawn += [torch.cat([rows[torch.randperm(len(rows), generator=stream)] for _ in range(rounds)])[:quota]] * (rounds > 0)
    order = torch.cat(drawn)
    return order[torch.randperm(len(order), generator=stream)]
