"""The generator of a language model: characters one after the other.

    x_t ~ softmax(l_t / T),    l_t = l(x_<t, null) + w (l(x_<t, c) - l(x_<t, null))

with classifier-free guidance of the logits (Sanchez et al. 2023, equation 7, with w for gamma), and among the likeliest tokens
alone where that is asked for: top-k (Fan et al. 2018, section 5.1) and top-p (Holtzman et al. 2020, section 3.1).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.guided import Guided
from condgen.nets.language import CausalTransformer
from condgen.spaces import Space
from condgen.tokens import STOP, UNKNOWN, Tokens
from condgen.types import BelowOne, Positive, PositiveInt, PositiveShare

STRIDE = 32
"""Texts are read in lengths of so many characters: a CPU keeps a compiled product, and memory, for each shape that it met."""


class LanguageGenerator(Guided):
    """A (conditional) distribution of texts.

    Args:
        space: the characters; a text ends at its stop.
        condition: what can be asked for.
        network: makes the transformer from (condition, space).
        condition_dropout: probability with which a condition is dropped in training; 0: samples cannot be guided.
        temperature: of the softmax that characters are drawn from.
        top_k: draw among so many likeliest characters; None: among all.
        top_p: draw among the likeliest characters that together have this probability; None: among all.
        guidance: scale w of classifier-free guidance; 1 for none.
    """

    family = "language model"
    OPTIONS = ("temperature", "top_k", "top_p", "guidance")
    MAKES = (Tokens,)
    space: Tokens

    def __init__(
        self,
        space: Space,
        condition: Condition,
        network: Callable[..., CausalTransformer],
        condition_dropout: BelowOne = 0.1,
        temperature: Positive = 1.0,
        top_k: PositiveInt | None = None,
        top_p: PositiveShare | None = None,
        guidance: Positive = 1.0,
    ):
        super().__init__(space, condition)
        self.network = network(condition=condition, space=space)
        self.condition_dropout = condition_dropout
        given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "guidance": guidance}
        self.defaults = {name: value for name, value in given.items() if value is not None}
        self.set_sampling()

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """Refuse a share above 1, too."""
        super().check_sampling(sampling)
        if sampling.get("top_p", 1) > 1:
            raise CondgenError(f"top_p must be a share of at most 1, not {sampling['top_p']}.")

    # --- how likely a text is ---

    def nats(self, x: Tensor, condition: Tensor, loss: Callable[[Tensor, Tensor], Tensor], dropped: Tensor) -> Tensor:
        """Return the loss of each character of texts, (B, T), 0 behind the stop of each; the longest one fits into T.

        Args:
            x: tokens, int64 (B, length).
            condition: encoded conditions (B, ...).
            loss: of logits (N, tokens) and targets (N,).
            dropped: of which nothing is told, bool (B,).
        """
        counted = counts(x)
        x = x[:, : -(-int(counted.max()) // STRIDE) * STRIDE]
        there = torch.arange(x.shape[1], device=x.device) < counted[:, None]  # (B, T)
        stream = self.network(x, condition, dropped).flatten(0, 1)
        pointed = self.network.pointed(x, condition, dropped)
        logits = self.network.logits(stream, None if pointed is None else pointed.flatten(0, 1))
        return loss(logits, x.flatten()).view(x.shape) * there

    def told_and_untold(self, x: Tensor, condition: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return `nats` of texts that are told what gives no part of them away, and that are told nothing."""
        told, none = self.condition.without_hints(condition), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return self.nats(x, told, loss, none), self.nats(x, told, loss, ~none)

    # --- sampling ---

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw a number, uniform in [0, 1), for each character: which one it becomes, (count, length)."""
        return torch.rand(count, *self.space.shape, generator=generator)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """See `Generator.noise`; temperature acts on the softmax."""
        return self.latents(count, generator)

    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Draw texts, int64 (B, length), with uniform numbers (B, length); all is over when each has its stop."""
        count = z.shape[0]
        scale = float(self.sampling.get("guidance", 1))
        dropped = torch.zeros(count, dtype=torch.bool, device=z.device)
        if scale != 1:
            condition, dropped = torch.cat([condition, condition]), torch.cat([dropped, ~dropped])
        memory = self.network.start(condition, dropped)
        texts = torch.full((count, self.space.length), STOP, device=z.device)
        token = texts[:, 0]
        going = torch.ones(count, dtype=torch.bool, device=z.device)
        for t in range(self.space.length):
            logits = self.network.next(token if scale == 1 else torch.cat([token, token]), memory)
            if scale != 1:
                logits = torch.lerp(logits[count:], logits[:count], scale)
            token = torch.where(going, self.drawn(logits, z[:, t]), STOP)
            texts[:, t] = token
            going &= token != STOP
            if self.on_step is not None:
                self.on_step(t + 1, self.space.length, texts.clone)
            if not bool(going.any()):
                break
        return texts

    def drawn(self, logits: Tensor, u: Tensor) -> Tensor:
        """Draw tokens, int64 (B,), by logits (B, tokens) with uniform numbers (B,); the unknown one never."""
        logits[:, UNKNOWN] = -torch.inf
        logits, order = (logits.float() / float(self.sampling.get("temperature", 1))).sort(dim=1, descending=True)
        chances = logits[:, : self.sampling.get("top_k")].softmax(dim=1).cumsum(dim=1)  # rising
        limit = chances.new_full((len(u),), float(self.sampling.get("top_p", 1)))
        # The nucleus is the fewest tokens whose probabilities sum to at least top_p: what lies above its sum is not drawn.
        last = torch.searchsorted(chances, limit[:, None]).clamp(max=chances.shape[1] - 1)
        wanted = u[:, None] * chances.gather(1, last)
        place = torch.searchsorted(chances, wanted, right=True).clamp(max=last)
        return order.gather(1, place)[:, 0]


def counts(x: Tensor) -> Tensor:
    """Return how many characters of each text (B, length) are predicted, int64 (B,): all, and its stop where it has one."""
    return ((x != STOP).sum(1) + 1).clamp(max=x.shape[1])
