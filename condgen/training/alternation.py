"""How a GAN's two players take turns, and the micro-batches that they move on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from condgen.types import PositiveInt

Player = Literal["discriminator", "generator"]
Order = Literal["discriminator_first", "generator_first"]
FakeCondition = Literal["batch", "random"]


@dataclass(frozen=True)
class Alternation:
    """The order of the updates (Goodfellow et al. 2014, algorithm 1).

    Attributes:
        discriminator_steps: updates of D, each on a new batch, for each update of G.
        order: which player is updated first on a batch that updates both.
        reuse_fake: both players see the same generated batch; False draws a new one for the second player.
        fake_condition: generated samples are asked for the conditions of the real ``batch``, or for ``random`` ones.
        micro_batches: pieces that a batch is worked through in, whose gradients are accumulated: less memory, the same
            gradients (but for batch norm, which sees a piece at a time).
    """

    discriminator_steps: PositiveInt = 1
    order: Order = "discriminator_first"
    reuse_fake: bool = True
    fake_condition: FakeCondition = "batch"
    micro_batches: PositiveInt = 1


@dataclass(frozen=True)
class MicroBatch:
    """A batch, or one of the pieces that it is worked through in.

    Attributes:
        rows: its place in this process's batch.
        size: samples in that whole batch.
        real: samples of the data (B, *shape).
        condition: their encoded conditions (B, ...).
        fake: generated samples (B, *shape); with a gradient to G where G is updated on them.
        fake_condition: the encoded conditions that the generated samples were asked for (B, ...).
        uniform: uniform numbers (B, n) that were drawn for it already, by their purpose.
    """

    rows: slice
    size: int
    real: Tensor
    condition: Tensor
    fake: Tensor
    fake_condition: Tensor
    uniform: Mapping[str, Tensor] = field(default_factory=dict)
