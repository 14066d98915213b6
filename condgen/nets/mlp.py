"""Fully connected networks on flattened samples; the condition's embedding is concatenated to their input."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.nets.layers import MLP, MakeEmbedding, embedding_of, input_layer
from condgen.spaces import Space


class ConditionedMLP(nn.Module):
    """Map vectors (B, inputs) and conditions to vectors (B, outputs).

    Args:
        inputs: length of the vector.
        outputs: length of the result.
        condition: what can be asked for.
        hidden: widths of the hidden layers.
        embedding: how the condition enters; None keeps it out.
        **layers: as for `MLP`: activation, norm, norm_last, dropout, plain_first.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        condition: Condition,
        hidden: Sequence[int],
        embedding: MakeEmbedding | None,
        **layers: Any,
    ):
        super().__init__()
        self.embed = embedding_of(condition, embedding)
        self.layers = MLP([inputs + self.embed.width, *hidden, outputs], **layers)

    def outputs(self, h: Tensor, condition: Tensor) -> Tensor:
        """Map vectors (B, inputs) to (B, outputs)."""
        outputs: Tensor = self.layers(torch.cat([h, self.embed(condition)], dim=1))
        return outputs


class MLPGenerator(ConditionedMLP):
    """Map noise (B, latent) and conditions to samples (B, *shape) in (-1, 1), by a final tanh.

    Args:
        latent: length of the noise.
        condition: what can be asked for.
        space: what a sample is.
        **options: as for `ConditionedMLP`.
    """

    def __init__(self, latent: int, condition: Condition, space: Space, **options: Any):
        super().__init__(latent, prod(space.shape), condition, **options)
        self.shape = space.shape

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Generate samples (B, *shape)."""
        return self.outputs(z, condition).tanh().view(-1, *self.shape)


class MLPDiscriminator(ConditionedMLP):
    """Map samples (B, *shape) and conditions to logits (B,), positive for real.

    Args:
        condition: what can be asked for.
        space: what a sample is.
        standardize: begin with the data set's own standardization.
        **options: as for `ConditionedMLP`.
    """

    def __init__(self, condition: Condition, space: Space, standardize: bool = False, **options: Any):
        super().__init__(prod(space.shape), 1, condition, **options)
        self.input = input_layer(space, standardize)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Judge samples: logits (B,)."""
        return self.outputs(self.input(x).flatten(1), condition).squeeze(1)


class MLPEncoder(ConditionedMLP):
    """Map samples and conditions to mean and log-variance of q(z | x, c), each (B, latent).

    Args: as for `MLPDiscriminator`, and ``latent``, the length of z.
    """

    def __init__(self, latent: int, condition: Condition, space: Space, standardize: bool = False, **options: Any):
        super().__init__(prod(space.shape), 2 * latent, condition, **options)
        self.input = input_layer(space, standardize)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, latent)."""
        mean, log_variance = self.outputs(self.input(x).flatten(1), condition).chunk(2, dim=1)
        return mean, log_variance


class MLPDecoder(ConditionedMLP):
    """Map codes (B, latent) and conditions to the raw outputs (B, C * H * W + extra) of a reconstruction loss.

    Args: as for `MLPGenerator`, and ``extra``, the number of outputs beyond the sample's.
    """

    def __init__(self, latent: int, condition: Condition, space: Space, extra: int = 0, **options: Any):
        super().__init__(latent, prod(space.shape) + extra, condition, **options)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return raw outputs (B, C * H * W + extra)."""
        return self.outputs(z, condition)
