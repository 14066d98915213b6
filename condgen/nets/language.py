"""A small causal transformer of characters, told its condition by a prefix and by modulation.

    p(x | c) = prod_t p(x_t | x_<t, c)

Norms come before attention and MLP (GPT-2, Radford et al. 2019); they have no weights of their own, and the condition sets
their scale and shift (adaptive layer norm, Peebles & Xie 2023, section 3.2), from where the network starts as one without a
condition. Words that are asked for stand in front of the text, each at one place: the sum of its characters' embeddings.
Where a character stands is told thrice: in the text, since the last punctuation mark, and after how many of these.

A pointer may raise the logit of what comes next of each word that is asked for and not yet written, by as much as the stream
says at each place: a word is copied, as by See et al. 2017 (section 2.2), who mix distributions where this one adds logits.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions import Condition, Keywords, LearnedEmbedding
from condgen.conditions.transformer import Block, normed
from condgen.errors import CondgenError
from condgen.tokens import STOP, Tokens
from condgen.types import BelowOne, PositiveInt

FARTHEST, MOST_MARKS = 40, 64
"""Characters since a mark, and marks, beyond which places are not told apart."""
LETTERS = 4
"""Characters of a word by which it is known."""


@dataclass
class Memory:
    """What sampling keeps of the texts so far.

    Attributes:
        keys: of each block, (B, heads, places, width of a head).
        values: the same.
        signals: scales and shifts of each block, (B, 1, 4 width).
        filled: how many places are.
        text: characters so far.
        since: of each text characters since its last mark, int64 (B,).
        marks: and its number of marks, int64 (B,).
        words: that are asked for, (B, asked, LETTERS + 1), as `CausalTransformer.spell` returns them.
        tail: last characters of each text, (B, LETTERS).
        written: which words are written, bool (B, asked).
    """

    keys: list[Tensor]
    values: list[Tensor]
    signals: list[Tensor]
    filled: int
    text: int
    since: Tensor
    marks: Tensor
    words: Tensor
    tail: Tensor
    written: Tensor


class CausalTransformer(nn.Module):
    """The logits of the next character, for all characters of texts at once, or for one after the other with a memory.

    Args:
        condition: what can be asked for: words (`Keywords`) by a prefix, all else by modulation.
        space: the characters.
        width: of the stream.
        layers: number of blocks.
        heads: of attention; divides ``width``.
        dropout: of what each part of a block adds to the stream.
        pointer: raise the logits of words that are asked for and not yet written.
    """

    def __init__(
        self,
        condition: Condition,
        space: Tokens,
        width: PositiveInt = 256,
        layers: PositiveInt = 4,
        heads: PositiveInt = 4,
        dropout: BelowOne = 0.0,
        pointer: bool = False,
    ):
        super().__init__()
        if width % heads:
            raise CondgenError(f"model.generator.network.heads={heads} must divide width={width}.")
        if condition.map_shape is not None:
            raise CondgenError("A language model cannot start from an image: choose a condition that is none.")
        self.condition, self.length, self.width, self.heads = condition, space.length, width, heads
        said = condition.said if isinstance(condition, Keywords) else condition
        self.saying = LearnedEmbedding(said, width)
        self.hear = nn.Linear(self.saying.width, width)
        self.characters = nn.Embedding(space.size, width)
        self.positions = nn.Embedding(space.length, width)
        self.since = nn.Embedding(FARTHEST, width)
        self.after = nn.Embedding(MOST_MARKS, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(space.size))
        self.register_buffer("is_mark", space.marks, persistent=False)
        self.asked = 0
        self.point = nn.Linear(width, 1) if pointer and isinstance(condition, Keywords) else None
        if isinstance(condition, Keywords):
            self.asked = condition.asked
            spelled = Tokens(space.vocabulary, LETTERS).tokens(["", *condition.words])
            self.register_buffer("spelled", spelled, persistent=False)
            self.letters = nn.Embedding(LETTERS, width)
            self.nothing = nn.Parameter(torch.zeros(width))
        self._start(layers)

    def _start(self, layers: int) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, Block) and block.modulate is not None
            nn.init.zeros_(block.modulate.weight)
            for last in (block.mix, block.narrow):
                nn.init.normal_(last.weight, std=0.02 / (2 * layers) ** 0.5)

    # --- the condition ---

    def signals(self, condition: Tensor, dropped: Tensor) -> list[Tensor]:
        """Return what the condition (B, ...) says to each block, (B, 1, 4 width); to ``dropped`` rows, bool (B,), nothing."""
        said = self.condition.sayings(condition) if isinstance(self.condition, Keywords) else condition
        heard = F.silu(self.hear(self.saying(said) * ~dropped[:, None]))
        return [block.modulate(heard)[:, None] for block in self.blocks]  # type: ignore[operator]

    def prefix(self, condition: Tensor, dropped: Tensor) -> Tensor:
        """Return the words that are asked for, (B, asked, width); free places come last."""
        spelled = self.spell(condition, dropped)[..., :-1]
        if not self.asked:
            return self.characters.weight.new_empty(condition.shape[0], 0, self.width)
        letters = (self.characters(spelled) + self.letters.weight) * (spelled != STOP)[..., None]
        found: Tensor = letters.sum(2) + self.nothing * (spelled[..., :1] == STOP)
        return found

    def spell(self, condition: Tensor, dropped: Tensor) -> Tensor:
        """Return the characters of the words that are asked for, then `STOP`: int64 (B, asked, LETTERS + 1)."""
        if not isinstance(self.condition, Keywords):
            return torch.empty(condition.shape[0], 0, LETTERS + 1, dtype=torch.int64, device=condition.device)
        words = self.condition.sets(condition).masked_fill(dropped[:, None], -1)
        words = words.sort(dim=1, descending=True).values[:, : self.asked]  # (B, asked)
        return F.pad(self.spelled[words + 1], (0, 1), value=STOP)  # type: ignore[index]

    def pointed(self, x: Tensor, condition: Tensor, dropped: Tensor) -> Tensor | None:
        """Return what comes next of each word at each place of texts (B, T), (B, T, asked), for `logits`; see `following`."""
        if self.point is None:
            return None
        before = F.pad(x[:, :-1], (LETTERS, 0), value=STOP)
        letter, done = following(before.unfold(1, LETTERS, 1), self.spell(condition, dropped))
        return letter.masked_fill(done.int().cummax(dim=1).values.bool(), STOP)

    # --- all at once ---

    def forward(self, x: Tensor, condition: Tensor, dropped: Tensor) -> Tensor:
        """Return the stream (B, T, width) from which `logits` predicts each character of texts (B, T), after those before it.

        Args:
            x: tokens, int64 (B, T).
            condition: encoded conditions (B, ...).
            dropped: of which nothing is told, bool (B,).
        """
        before = F.pad(x[:, :-1], (1, 0), value=STOP)
        place = torch.arange(x.shape[1], device=x.device)
        mark = self.is_mark[before]  # type: ignore[index]
        last = torch.where(mark, place, 0).cummax(dim=1).values
        stream = self.embedded(before, place.expand_as(x), place - last, mark.cumsum(1))
        stream = torch.cat([self.prefix(condition, dropped), stream], dim=1)
        for block, signal in zip(self.blocks, self.signals(condition, dropped), strict=True):
            stream = block(stream, signal)
        return normed(stream[:, self.asked :])

    def embedded(self, tokens: Tensor, place: Tensor, since: Tensor, marks: Tensor) -> Tensor:
        """Embed tokens, and where they stand, all int64 (B, T)."""
        where = self.positions(place) + self.since(since.clamp(max=FARTHEST - 1)) + self.after(marks.clamp(max=MOST_MARKS - 1))
        embedded: Tensor = self.dropout(self.characters(tokens) + where)
        return embedded

    def logits(self, stream: Tensor, pointed: Tensor | None = None) -> Tensor:
        """Predict from the stream (N, width), and what a pointer shows (N, asked), where there is one: (N, tokens)."""
        logits = F.linear(stream, self.characters.weight, self.bias)
        if pointed is None or self.point is None:
            return logits
        raised = (self.point(stream) * (pointed != STOP)).to(logits.dtype)  # (N, asked)
        return logits.scatter_add(1, pointed, raised)

    # --- one after the other ---

    def start(self, condition: Tensor, dropped: Tensor) -> Memory:
        """Return a memory that has taken in the prefix."""
        prefix, signals = self.prefix(condition, dropped), self.signals(condition, dropped)
        shape = (len(prefix), self.heads, self.asked + self.length, self.width // self.heads)
        keys, values = ([prefix.new_zeros(shape) for _ in self.blocks] for _ in range(2))
        for i, block in enumerate(self.blocks if self.asked else []):
            prefix = block(prefix, signals[i], (keys[i], values[i], 0))
        counts = torch.zeros(len(prefix), dtype=torch.int64, device=prefix.device)
        words = self.spell(condition, dropped)
        tail = counts[:, None].expand(-1, LETTERS)
        return Memory(keys, values, signals, self.asked, 0, counts, counts, words, tail, words[..., 0] < 0)

    def next(self, tokens: Tensor, memory: Memory) -> Tensor:
        """Return the logits (B, tokens) of what follows ``tokens``, int64 (B,), and remember these."""
        mark = self.is_mark[tokens]  # type: ignore[index]
        memory.since = torch.where(mark | (memory.text == 0), 0, memory.since + 1)
        memory.marks = memory.marks + mark
        place = torch.full_like(tokens, memory.text)
        stream = self.embedded(tokens[:, None], place[:, None], memory.since[:, None], memory.marks[:, None])
        for i, block in enumerate(self.blocks):
            stream = block(stream, memory.signals[i], (memory.keys[i], memory.values[i], memory.filled))
        memory.filled, memory.text = memory.filled + 1, memory.text + 1
        memory.tail = torch.cat([memory.tail[:, 1:], tokens[:, None]], dim=1)
        letter, done = following(memory.tail[:, None], memory.words)
        memory.written = memory.written | done[:, 0]
        return self.logits(normed(stream[:, 0]), letter[:, 0].masked_fill(memory.written, STOP))


def following(tails: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Return what comes next of each word after texts that end so, int64 (B, T, words), and whether one ends there, bool.

    Args:
        tails: the last characters of texts, int64 (B, T, LETTERS).
        words: their characters, then `STOP`, int64 (B, words, LETTERS + 1).
    """
    words = words[:, None]  # (B, 1, words, LETTERS + 1)
    letter = words[..., 0].expand(-1, tails.shape[1], -1)
    done = torch.zeros_like(letter, dtype=torch.bool)
    for n in range(1, LETTERS + 1):
        begun = (tails[:, :, None, LETTERS - n :] == words[..., :n]).all(-1) & (words[..., n - 1] != STOP)
        over = words[..., n] == STOP
        done = done | (begun & over)
        letter = torch.where(begun & ~over, words[..., n], letter)
    return letter, done
