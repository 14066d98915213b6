"""What can be done about rare classes: baselines without a generator, and ways to use one."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.augment.images import Augmentation
from condgen.downstream.training import Budget, draws, factor, features_of, head_of, make_network, train
from condgen.errors import CondgenError

HEAD = 0.25
"""Share of the updates that goes to the last layer, where features are mixed."""


@dataclass(frozen=True)
class Method:
    """A way to train a classifier.

    Attributes:
        title: what a table calls it.
        balance: how far classes are drawn alike.
        weighted: whether the loss of a class is weighted by one over its frequency.
        augment: whether images are augmented.
        mixed: whether the last layer is trained on features mixed within rare classes (SMOTE, Chawla et al. 2002).
        added: whether generated images are added to the real ones.
        alone: whether generated images take the place of the real ones (the CAS of Ravuri & Vinyals 2019).
    """

    title: str
    balance: float = 0.0
    weighted: bool = False
    augment: bool = False
    mixed: bool = False
    added: bool = False
    alone: bool = False

    @property
    def generates(self) -> bool:
        """Whether it needs a generator."""
        return self.added or self.alone


METHODS = {
    "real": Method("real as it is"),
    "class_weights": Method("class weights", weighted=True),
    "oversampling": Method("oversampling", balance=1),
    "oversampling_augment": Method("oversampling + augmentation", balance=1, augment=True),
    "feature_mixing": Method("SMOTE in feature space", balance=1, mixed=True),
    "generated": Method("real + generated", balance=1, added=True),
    "generated_augment": Method("real + generated + augmentation", balance=1, added=True, augment=True),
    "generated_alone": Method("generated alone", alone=True),
}
"""By the names that ``methods=`` takes."""


def titled(name: str, share: float | None) -> str:
    """Return what a table calls a method, with the share of the largest class up to which it fills others, if there is one."""
    return METHODS[name].title + (f" (to {share:g})" if share is not None else "")


@dataclass(frozen=True, eq=False)
class Training:
    """What classifiers are trained on, and how.

    Attributes:
        images: real, uint8 (N, C, H, W).
        labels: int64 (N,).
        classes: the number K.
        network: makes a classifier.
        augment: the standard augmentation; None where no method needs it.
        budget: what each may cost.
    """

    images: Tensor
    labels: Tensor
    classes: int
    network: Callable[..., nn.Module]
    augment: Augmentation | None
    budget: Budget


Generated = tuple[Tensor, Tensor]
"""Generated images, uint8 (M, C, H, W), and what each was asked for, int64 (M,)."""


def fitted(
    method: Method, given: Training, generated: Generated | None, share: float | None, seed: int, device: str
) -> nn.Module:
    """Train a classifier by ``method`` and return it.

    Args:
        method: how.
        given: on what.
        generated: images of all classes, for methods that use them.
        share: of the largest class, up to which others are filled with generated images.
        seed: decides everything random.
        device: where to compute.
    """
    images, labels = given.images, given.labels
    if method.generates:
        assert generated is not None
        images, labels = generated if method.alone else filled(given, generated, share or 0.0)
    weights = None
    if method.weighted:
        counts = torch.bincount(labels, minlength=given.classes).clamp(min=1).float()
        weights = len(labels) / (given.classes * counts)
    budget = given.budget
    if method.mixed:
        budget = replace(budget, updates=max(1, round((1 - HEAD) * budget.updates)))
    network = make_network(given.network, images, given.classes, seed).to(device)
    augment = given.augment if method.augment else None
    train(network, images, labels, budget, balance=method.balance, weights=weights, augment=augment, seed=seed)
    if method.mixed:
        retrain_head(network, images, labels, replace(budget, updates=max(1, given.budget.updates - budget.updates)), seed)
    return network


def filled(given: Training, generated: Generated, share: float) -> Generated:
    """Return the real images and, of each class that has fewer than ``share`` of the largest, so many generated ones."""
    counts = torch.bincount(given.labels, minlength=given.classes)
    wanted = (round(share * int(counts.max())) - counts).clamp(min=0).tolist()
    rows = [(generated[1] == label).nonzero()[:, 0][:count] for label, count in enumerate(wanted)]
    chosen = torch.cat(rows)
    return torch.cat([given.images, generated[0][chosen]]), torch.cat([given.labels, generated[1][chosen]])


def retrain_head(network: nn.Module, images: Tensor, labels: Tensor, budget: Budget, seed: int) -> None:
    """Train the last linear layer anew on features that SMOTE has mixed until all classes are as large as the largest.

    Decoupling features and classifier is Kang et al. 2020, section 4; mixing in feature space DeepSMOTE's idea (Dablain et al.
    2021).

    Raises:
        CondgenError: imbalanced-learn is missing, or a class has one image.
    """
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError as error:
        raise CondgenError(
            "methods=feature_mixing needs imbalanced-learn: pip install 'condgen[benefit]', or name the other methods."
        ) from error
    features, scale = features_of(network, images)
    fewest = int(torch.bincount(labels).min())
    if fewest < 2:
        raise CondgenError("methods=feature_mixing needs two images of each class: name the other methods.")
    mixer = SMOTE(k_neighbors=min(5, fewest - 1), random_state=seed)
    x, y = (torch.from_numpy(array) for array in mixer.fit_resample(features.numpy(), labels.numpy()))
    head = head_of(network)
    x, y = x.float().to(head.weight.device), y.long().to(head.weight.device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=budget.rate, weight_decay=0.01)
    drawn = draws(y.cpu(), budget.updates * budget.batch_size, 0.0, seed)
    for step, rows in enumerate(torch.split(drawn, budget.batch_size)):
        optimizer.param_groups[0]["lr"] = budget.rate * factor(step / budget.updates)
        loss = F.cross_entropy(scale * head(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
