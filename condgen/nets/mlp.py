"""Fully connected networks on flattened samples; the condition's embedding is concatenated to their input.

The arguments beyond those named here are those of `MLP`: activation, norm, norm_last, dropout, plain_first.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.nets.layers import MLP, MakeEmbedding, embedding_of, input_layer
from condgen.spaces import Space


class MLPGenerator(nn.Module):
    """Map noise (B, latent) and conditions to samples (B, *shape) in (-1, 1), by a final tanh.

    Args:
        latent: length of the noise.
        condition: what can be asked for.
        space: what a sample is.
        hidden: widths of the hidden layers.
        embedding: how the condition enters; None keeps it out.
        **layers: as for `MLP`.
    """

    def __init__(
        self,
        latent: int,
        condition: Condition,
        space: Space,
        hidden: Sequence[int],
        embedding: MakeEmbedding | None,
        **layers: Any,
    ):
        super().__init__()
        self.shape = space.shape
        self.embed = embedding_of(condition, embedding)
        self.layers = MLP([latent + self.embed.width, *hidden, prod(space.shape)], **layers)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Generate samples (B, *shape)."""
        h = torch.cat([z, self.embed(condition)], dim=1)  # (B, latent + width)
        samples: Tensor = self.layers(h)
        return samples.tanh().view(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """Map samples (B, *shape) and conditions to logits (B,), positive for real.

    Args:
        condition: what can be asked for.
        space: what a sample is.
        hidden: widths of the hidden layers.
        embedding: how the condition enters; None keeps it out.
        standardize: begin with the data set's own standardization.
        **layers: as for `MLP`.
    """

    def __init__(
        self,
        condition: Condition,
        space: Space,
        hidden: Sequence[int],
        embedding: MakeEmbedding | None,
        standardize: bool = False,
        **layers: Any,
    ):
        super().__init__()
        self.input = input_layer(space, standardize)
        self.embed = embedding_of(condition, embedding)
        self.layers = MLP([prod(space.shape) + self.embed.width, *hidden, 1], **layers)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Judge samples: logits (B,)."""
        h = torch.cat([self.input(x).flatten(1), self.embed(condition)], dim=1)  # (B, C * H * W + width)
        logits: Tensor = self.layers(h)
        return logits.squeeze(1)


class MLPEncoder(nn.Module):
    """Map samples and conditions to mean and log-variance of q(z | x, c), each (B, latent).

    Args: as for `MLPDiscriminator`, and ``latent``, the length of z.
    """

    def __init__(
        self,
        latent: int,
        condition: Condition,
        space: Space,
        hidden: Sequence[int],
        embedding: MakeEmbedding | None,
        standardize: bool = False,
        **layers: Any,
    ):
        super().__init__()
        self.input = input_layer(space, standardize)
        self.embed = embedding_of(condition, embedding)
        self.layers = MLP([prod(space.shape) + self.embed.width, *hidden, 2 * latent], **layers)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (B, latent)."""
        h = torch.cat([self.input(x).flatten(1), self.embed(condition)], dim=1)
        mean, log_variance = self.layers(h).chunk(2, dim=1)
        return mean, log_variance


class MLPDecoder(nn.Module):
    """Map codes (B, latent) and conditions to the raw outputs (B, C * H * W + extra) of a reconstruction loss.

    Args: as for `MLPGenerator`, and ``extra``, the number of outputs beyond the sample's.
    """

    def __init__(
        self,
        latent: int,
        condition: Condition,
        space: Space,
        hidden: Sequence[int],
        embedding: MakeEmbedding | None,
        extra: int = 0,
        **layers: Any,
    ):
        super().__init__()
        self.embed = embedding_of(condition, embedding)
        self.layers = MLP([latent + self.embed.width, *hidden, prod(space.shape) + extra], **layers)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return raw outputs (B, C * H * W + extra)."""
        outputs: Tensor = self.layers(torch.cat([z, self.embed(condition)], dim=1))
        return outputs
