"""A small transformer: the blocks that write texts, and the encoder that reads them as a condition."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.tokens import STOP


class Block(nn.Module):
    """Self-attention and an MLP, each behind a norm that a condition may modulate.

    Args:
        width: of the stream.
        heads: of attention.
        dropout: of what each part adds to the stream.
        modulated: a signal sets scale and shift of the norms.
    """

    def __init__(self, width: int, heads: int, dropout: float, modulated: bool = True):
        super().__init__()
        self.heads = heads
        self.attend = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.modulate = nn.Linear(width, 4 * width) if modulated else None
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        signal: Tensor | None = None,
        past: tuple[Tensor, Tensor, int] | None = None,
        absent: Tensor | None = None,
    ) -> Tensor:
        """Map (B, T, width) to the same shape.

        Args:
            x: the stream.
            signal: scales and shifts, (B, 1, 4 width); None: the norms as they are.
            past: keys and values (B, heads, places, width of a head), which are written to, and how many places are filled.
            absent: places at which nobody looks, bool (B, T), where all look at all others; None: none looks ahead.
        """
        first, second, third, fourth = (x.new_zeros(1),) * 4 if signal is None else signal.chunk(4, dim=-1)
        x = x + self.dropout(self._attention(normed(x) * (1 + first) + second, past, absent))
        hidden = F.relu(self.widen(normed(x) * (1 + third) + fourth)).square()
        mapped: Tensor = x + self.dropout(self.narrow(hidden))
        return mapped

    def _attention(self, x: Tensor, past: tuple[Tensor, Tensor, int] | None, absent: Tensor | None) -> Tensor:
        parts = self.attend(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)  # (B, heads, T, width of a head)
        if past is not None:
            keys, values, filled = past
            end = filled + x.shape[1]
            keys[:, :, filled:end], values[:, :, filled:end] = key, value
            key, value = keys[:, :, :end], values[:, :, :end]
        mixed: Tensor = self.mix(attended(query, key, value, absent).transpose(1, 2).flatten(2))
        return mixed


def attended(query: Tensor, key: Tensor, value: Tensor, absent: Tensor | None = None) -> Tensor:
    """Return attention (B, heads, T, width of a head) to all places but ``absent`` ones, bool (B, places).

    Without these it is causal, and what comes last of keys and queries stands at the same place.
    """
    ahead = absent is None and query.shape[2] > 1
    if query.device.type != "cpu":
        seen = None if absent is None else ~absent[:, None, None]
        return F.scaled_dot_product_attention(query, key, value, seen, is_causal=ahead)
    # Written out: for some hundred places the fused one takes four times as long on a CPU, most of it in its backward pass.
    weights = query @ key.mT * query.shape[-1] ** -0.5  # (B, heads, T, places)
    if absent is not None:
        weights = weights.masked_fill(absent[:, None, None], -torch.inf)
    elif ahead:
        weights = weights + torch.full(weights.shape[-2:], -torch.inf, dtype=weights.dtype, device=weights.device).triu(1)
    found: Tensor = weights.softmax(dim=-1) @ value
    return found


def normed(x: Tensor) -> Tensor:
    """Bring each place (..., width) to mean 0 and variance 1."""
    return F.layer_norm(x, x.shape[-1:])


class TextEncoder(nn.Module):
    """Texts as vectors: a transformer over groups of characters that all look at each other, and the mean of what comes out.

    A convolution of stride 2 reads `AROUND` characters about every second one, as CANINE shortens texts (Clark et al. 2022,
    section 3.1); from there on as Vaswani et al. 2017 (section 3), with the norms first. It is trained with the network that it
    reads for, from nothing.

    Args:
        characters: number of different tokens.
        length: most characters of a text.
        width: of the stream, and of the vectors.
        layers: number of blocks.
        heads: of attention; divides ``width``.
    """

    AROUND = 5

    def __init__(self, characters: int, length: int, width: int, layers: int, heads: int):
        super().__init__()
        self.length = length
        self.characters = nn.Embedding(characters, width)
        self.groups = nn.Conv1d(width, width, self.AROUND, stride=2, padding=self.AROUND // 2)
        self.positions = nn.Parameter(torch.randn(-(-length // 2), width) / 4)
        self.blocks = nn.ModuleList(Block(width, heads, 0.0, modulated=False) for _ in range(layers))
        self.out = nn.Linear(width, width)

    def forward(self, condition: Tensor) -> Tensor:
        """Read encoded captions as `condgen.conditions.captions.Captions` writes them: (B, width), of mean 0 and variance 1."""
        if not condition.is_floating_point():
            return self.read(condition[:, : self.length])
        first, last, share = torch.split(condition, [self.length, self.length, 1], dim=1)  # on the way from one to another
        return torch.lerp(self.read(first), self.read(last), share)

    def read(self, tokens: Tensor) -> Tensor:
        """Read tokens (B, length)."""
        tokens = tokens.long()
        absent = tokens[:, ::2] == STOP
        stream = self.groups(self.characters(tokens).mT).mT + self.positions  # (B, groups, width)
        for block in self.blocks:
            stream = block(stream, absent=absent)
        there = (~absent)[..., None].to(stream.dtype)
        mean = (normed(stream) * there).sum(1) / there.sum(1)
        return normed(self.out(mean))
