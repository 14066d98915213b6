"""Fully connected networks on flattened samples; the condition's embedding is concatenated to their input."""

from collections.abc import Sequence
from math import prod
from typing import Unpack

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.nets.layers import Discriminator, Head, Hidden, HiddenOptions, MakeEmbedding, embedding_of, input_layer
from condgen.spaces import Space
from condgen.types import Count, PositiveInt


class Trunk(nn.Module):
    """Map vectors (B, inputs) and conditions to the last hidden layer (B, width).

    Args:
        inputs: length of the vector.
        condition: what can be asked for.
        hidden: widths of the hidden layers.
        embedding: how the condition enters; None keeps it out.
        **layers: as for `Hidden`: activation, norm, norm_last, dropout, plain_first.
    """

    def __init__(
        self,
        inputs: int,
        condition: Condition,
        hidden: Sequence[PositiveInt],
        embedding: MakeEmbedding | None,
        **layers: Unpack[HiddenOptions],
    ):
        super().__init__()
        self.embed = embedding_of(condition, embedding)
        widths = [inputs + self.embed.width, *hidden]
        self.layers = Hidden(widths, **layers)
        self.width = widths[-1]

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Map vectors (B, inputs) to (B, width)."""
        hidden: Tensor = self.layers(torch.cat([h, self.embed(condition)], dim=1))
        return hidden


class TrunkOptions(HiddenOptions):
    """The arguments of `Trunk` that a configuration gives."""

    hidden: Sequence[PositiveInt]
    embedding: MakeEmbedding | None


class MLPGenerator(nn.Module):
    """Map noise (B, latent) and conditions to samples (B, *shape) in (-1, 1), by a final tanh.

    Args:
        latent: length of the noise.
        condition: what can be asked for.
        space: what a sample is.
        **trunk: as for `Trunk`.
    """

    def __init__(self, latent: PositiveInt, condition: Condition, space: Space, **trunk: Unpack[TrunkOptions]):
        super().__init__()
        self.trunk = Trunk(latent, condition, **trunk)
        self.out = nn.Linear(self.trunk.width, prod(space.shape))
        self.shape = space.shape

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Generate samples (B, *shape)."""
        samples: Tensor = self.out(self.trunk(z, condition))
        return samples.tanh().view(-1, *self.shape)


class MLPDiscriminator(Discriminator):
    """Map samples (B, *shape) and conditions to logits (B,), positive for real.

    Args:
        condition: what can be asked for.
        space: what a sample is.
        projection: the condition enters (also) by an inner product with the features, the last hidden layer.
        standardize: begin with the data set's own standardization.
        **trunk: as for `Trunk`.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        projection: bool = False,
        standardize: bool = False,
        **trunk: Unpack[TrunkOptions],
    ):
        super().__init__()
        self.input = input_layer(space, standardize)
        self.trunk = Trunk(prod(space.shape), condition, **trunk)
        self.head = Head(self.trunk.width, condition, projection)

    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the last hidden layer (B, width)."""
        h: Tensor = self.trunk(self.input(x).flatten(1), condition)
        return h


class MLPEncoder(nn.Module):
    """Map samples and conditions to mean and log-variance of q(z | x, c), each (B, latent).

    Args: as for `MLPDiscriminator` without ``projection``, and ``latent``, the length of z.
    """

    def __init__(
        self, latent: PositiveInt, condition: Condition, space: Space, standardize: bool = False, **trunk: Unpack[TrunkOptions]
    ):
        super().__init__()
        self.input = input_layer(space, standardize)
        self.trunk = Trunk(prod(space.shape), condition, **trunk)
        self.out = nn.Linear(self.trunk.width, 2 * latent)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, latent)."""
        mean, log_variance = self.out(self.trunk(self.input(x).flatten(1), condition)).chunk(2, dim=1)
        return mean, log_variance


class MLPDecoder(nn.Module):
    """Map codes (B, latent) and conditions to the raw outputs (B, C * H * W + extra) of a reconstruction loss.

    Args: as for `MLPGenerator`, and ``extra``, the number of outputs beyond the sample's.
    """

    def __init__(
        self, latent: PositiveInt, condition: Condition, space: Space, extra: Count = 0, **trunk: Unpack[TrunkOptions]
    ):
        super().__init__()
        self.trunk = Trunk(latent, condition, **trunk)
        self.out = nn.Linear(self.trunk.width, prod(space.shape) + extra)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return raw outputs (B, C * H * W + extra)."""
        outputs: Tensor = self.out(self.trunk(z, condition))
        return outputs
