"""From encoded conditions to vectors for a network."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions.base import Condition
from condgen.types import PositiveInt


class Embedding(nn.Module, ABC):
    """Maps encoded conditions to vectors (B, width) for a network."""

    width: int

    @abstractmethod
    def forward(self, condition: Tensor) -> Tensor:
        """Embed encoded conditions: (B, width)."""


class Unconditioned(Embedding):
    """The embedding of nothing, (B, 0): a network that does not see the condition."""

    width = 0

    def forward(self, condition: Tensor) -> Tensor:
        return torch.empty(condition.shape[0], 0, device=condition.device)


class OneHot(Embedding):
    """Embed a condition as its own vector (B, width): one-hot for a class, nothing for no condition."""

    def __init__(self, condition: Condition):
        super().__init__()
        self.condition = condition
        self.width = condition.width

    def forward(self, condition: Tensor) -> Tensor:
        return self.condition.vector(condition)


class LearnedEmbedding(Embedding):
    """Embed a condition by a learned linear map of its vector; for a class this is a row of a table, N(0, 1) at the start.

    Args:
        condition: what is embedded.
        width: length of the embedding.
    """

    def __init__(self, condition: Condition, width: PositiveInt):
        super().__init__()
        self.condition = condition
        self.width = width if condition.width else 0
        self.table = nn.Parameter(torch.randn(condition.width, self.width))

    def forward(self, condition: Tensor) -> Tensor:
        if condition.dtype == torch.int64:
            return F.embedding(condition, self.table)
        return self.condition.vector(condition) @ self.table
