"""Small layers that several networks share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypedDict

import torch
from torch import Tensor, nn

from condgen.conditions import Condition, Embedding, OneHot, Unconditioned
from condgen.errors import CondgenError
from condgen.spaces import Images, Space
from condgen.types import Share

MakeEmbedding = Callable[[Condition], Embedding]
"""Makes the module that embeds a condition: a partial of ``OneHot`` or ``LearnedEmbedding``."""


class Standardize(nn.Module):
    """Fixed input layer: subtract the data set's mean and divide by its deviation, channel by channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, space: Images):
        super().__init__()
        self.register_buffer("mean", torch.tensor(space.mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(space.deviation).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Standardize images (B, C, H, W)."""
        return (x - self.mean) / self.deviation


def embedding_of(condition: Condition, embedding: MakeEmbedding | None, maps: bool = False) -> Embedding:
    """Return the module that embeds ``condition`` for a network; without one the network does not see it.

    Raises:
        CondgenError: the condition is an image too, and the network is none that ``maps`` images.
    """
    if condition.map_shape is not None and not maps:
        raise CondgenError(
            "This network does not see a condition that is an image: choose model=pix2pix or model=flow_matching."
        )
    return embedding(condition) if embedding else Unconditioned()


def input_layer(space: Space, standardize: bool) -> nn.Module:
    """Return what a network does to its input first."""
    if standardize and isinstance(space, Images):
        return Standardize(space)
    return nn.Identity()


def beside(x: Tensor, vector: Tensor) -> Tensor:
    """Put vectors (B, N) beside images (B, C, H, W) as constant channels: (B, C + N, H, W)."""
    return torch.cat([x, vector[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)


SIZES = "one for each size that the images have inside the network"
"""What most networks have numbers for, in words."""


def per_stage(key: str, value: int | Sequence[int], count: int, stages: str = SIZES) -> list[int]:
    """Return a number for each of ``count`` stages, ``stages`` in words; raises CondgenError if a list has more or fewer."""
    values = [value] * count if isinstance(value, int) else list(value)
    if len(values) != count:
        raise CondgenError(
            f"{key}={values}, of model.generator or model.discriminator, must be one number or {count} of them: {stages}."
        )
    return values


class Head(nn.Module):
    """The last layer of a discriminator: D(x, c) = w.h + b + (V c).h, of features h and the condition's vector c.

    (Miyato & Koyama 2018, equation 3; for a class V c is a row of a table, for a mixture of classes the mixture of rows.)

    Args:
        features: length of h.
        condition: what can be asked for.
        projection: keep the product with the condition; without it h alone decides.
    """

    def __init__(self, features: int, condition: Condition, projection: bool):
        super().__init__()
        self.features = features
        self.linear = nn.Linear(features, 1)
        self.project = nn.Linear(condition.width, features, bias=False) if projection and condition.width else None
        self.see = OneHot(condition) if self.project is not None else Unconditioned()
        if self.project is not None:  # as w starts: both are maps of the features
            nn.init.uniform_(self.project.weight, -(features**-0.5), features**-0.5)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Judge features (B, features): logits (B,); those of P patches of each sample, (B, P, features): (B, P)."""
        logits: Tensor = self.linear(h).squeeze(-1)
        if self.project is not None:
            embedded = self.project(self.see(condition).to(h.dtype))
            logits = logits + ((embedded if h.dim() == 2 else embedded[:, None]) * h).sum(dim=-1)
        return logits


class Discriminator(nn.Module, ABC):
    """What every discriminator is: features of a sample, and a `Head` that judges them."""

    head: Head

    @abstractmethod
    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return what the head judges, (B, head.features)."""

    def logits_and_features(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B,) of samples (B, *shape), positive for real, and the features (B, F) that these are of.

        One that looks at patches gives each sample P logits, (B, P).
        """
        h = self.features(x, condition)
        return self.head(h, condition), h

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the logits (B,) of samples (B, *shape), positive for real."""
        return self.logits_and_features(x, condition)[0]


class HiddenOptions(TypedDict, total=False):
    """The arguments of `Hidden` beside its widths."""

    activation: Callable[[], nn.Module]
    norm: Callable[[int], nn.Module] | None
    norm_last: bool
    dropout: Share
    plain_first: bool


class Hidden(nn.Sequential):
    """Linear layers of the given widths, each followed by its norm and dropout, where it has them, and an activation.

    Args:
        widths: sizes of input and layers.
        activation: makes an activation, e.g. a partial of ``torch.nn.ReLU``.
        norm: makes a norm for a width, e.g. a partial of ``torch.nn.BatchNorm1d``; None for no norm.
        norm_last: norm after the activation instead of before it.
        dropout: probability, applied before the activation.
        plain_first: leave norm and dropout out of the first layer.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: Callable[[], nn.Module] = nn.ReLU,
        norm: Callable[[int], nn.Module] | None = None,
        norm_last: bool = False,
        dropout: Share = 0.0,
        plain_first: bool = False,
    ):
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            dressed = not (plain_first and i == 0)
            norms = [norm(outputs)] if norm and dressed else []
            drops = [nn.Dropout(dropout)] if dropout and dressed else []
            block = [*drops, activation(), *norms] if norm_last else [*norms, *drops, activation()]
            layers += [nn.Linear(inputs, outputs), *block]
        super().__init__(*layers)
