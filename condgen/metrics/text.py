"""The figures of texts: what a language model pays for held-out ones, and what its samples do of what they were asked for.

Samples are asked for the attributes of held-out texts, and for none to three of the words that these hold. Each figure stands
beside that of the held-out texts in the place of samples.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.conditions import Condition, Keywords
from condgen.data import DataModule
from condgen.data.tables import Part
from condgen.errors import CondgenError
from condgen.generators.base import BLOCK, evaluating
from condgen.generators.language import LanguageGenerator, counts
from condgen.metrics.catalogue import TEXT
from condgen.metrics.kept import fingerprint
from condgen.metrics.protocol import Protocol
from condgen.metrics.record import Record
from condgen.randomness import generator
from condgen.tokens import Tokens, sentences

PAUSES = "、 "
"""Marks that end no phrase: editions of one form differ in them."""
ASKED = 3
"""Words that a sample is asked for at most."""
READ = 32
"""Held-out texts that are read at a time."""
COPIED = 8
"""Characters in a row that count as copied where a training text holds them."""
LIKELIHOOD = ("bits_per_char", "bits_per_char_untold")
"""Figures that need no samples."""
Form = tuple[int, ...]
"""Number of letters in each phrase of a text."""


@dataclass(frozen=True)
class Asked:
    """What a text was asked for.

    Attributes:
        kind: value of the first attribute, such as the tune; None where that is open.
        words: that it is to hold.
    """

    kind: int | None
    words: tuple[str, ...]


def form(text: str) -> Form:
    """Return the number of letters of each phrase; a phrase ends at punctuation, but not at `PAUSES`."""
    lengths = [0]
    for letter in text:
        if letter.isalnum() or letter == "□":
            lengths[-1] += 1
        elif letter not in PAUSES and lengths[-1]:
            lengths.append(0)
    return tuple(lengths if lengths[-1] else lengths[:-1])


def grams(text: str, n: int) -> Iterator[str]:
    """Yield each ``n`` characters in a row of a text."""
    return (text[start : start + n] for start in range(len(text) - n + 1))


def letters(text: str) -> str:
    """Return a text without punctuation and spaces."""
    return "".join(letter for letter in text if letter.isalnum())


class TextFigures:
    """Counts what texts do, against those that a model learned from.

    Args:
        train: the training texts.
        kinds: of each the value of the first attribute, None where it is open.
    """

    def __init__(self, train: Sequence[str], kinds: Sequence[int | None]):
        self.train = train
        self.forms: dict[int, set[Form]] = {}
        for text, kind in zip(train, kinds, strict=True):
            if kind is not None:
                self.forms.setdefault(kind, set()).add(form(text))

    def figures(self, texts: Sequence[str], asked: Sequence[Asked]) -> dict[str, float]:
        """Return the figures of texts; those that do not apply are not there.

        ``form_obeyed``: share of texts whose `form` some training text of their kind has. ``keywords_present``: share of the
        words asked for that are there. ``distinct_2``: different pairs of letters over all of them (Li et al. 2016, section
        4.4), which falls with the number of texts. ``repetition``: share of a text's pairs of letters that it held before.
        ``copied_8grams``: share of eight characters in a row that stand in a training text.
        """
        found: dict[str, float] = {}
        known = [(text, one.kind) for text, one in zip(texts, asked, strict=True) if one.kind in self.forms]
        if known:
            found["form_obeyed"] = mean(form(text) in self.forms[kind] for text, kind in known if kind is not None)
        if wanted := [word in text for text, one in zip(texts, asked, strict=True) for word in one.words]:
            found["keywords_present"] = mean(wanted)
        pairs = [[one + other for one, other in pairwise(letters(text))] for text in texts]
        if total := sum(map(len, pairs)):
            found["distinct_2"] = len({pair for some in pairs for pair in some}) / total
            found["repetition"] = sum(len(some) - len(set(some)) for some in pairs) / total
        held = [gram for text in texts for gram in grams(text, COPIED)]
        if held:
            looked_for = set(held)
            copied = {gram for text in self.train for gram in grams(text, COPIED) if gram in looked_for}
            found["copied_8grams"] = mean(gram in copied for gram in held)
        return found


def mean(values: Iterable[bool]) -> float:
    """Return the share of what is true."""
    listed = list(values)
    return sum(listed) / len(listed)


class TextEvaluator:
    """Measures a language model against one split of its data.

    Args:
        data: the data; samples of theirs are texts.
        split: "val" or "test".
        seed: decides the samples' noise and the words that they are asked for.
    """

    def __init__(self, data: DataModule, split: Literal["val", "test"], seed: int = 0):
        if not isinstance(data.space, Tokens):
            raise CondgenError(f"The model makes texts and the data are {type(data.space).__name__.lower()}: choose its own.")
        self.data, self.space, self.split, self.seed = data, data.space, split, seed
        self.part: Part = getattr(data, split)
        self.counted = TextFigures(self.texts(data.train), kinds(data.train, data.condition))

    def texts(self, part: Part, rows: Tensor | None = None) -> list[str]:
        """Return the texts of ``rows`` of a part, or all."""
        return self.space.texts(part.images if rows is None else part.table.images[part.rows[rows]])

    def rows(self, count: int) -> Tensor:
        """Return which held-out texts say what ``count`` samples are asked for, int64 (count,)."""
        return torch.arange(count) % len(self.part)

    def requests(self, model: LanguageGenerator, rows: Tensor) -> tuple[Tensor, list[Asked]]:
        """Return the conditions (N, ...) that samples for ``rows`` are asked for, encoded, and in words."""
        condition = model.condition
        encoded = self.data.encode(self.part, rows, condition)
        values = kinds(self.part, condition, rows)
        if not isinstance(condition, Keywords):
            return encoded, [Asked(value, ()) for value in values]
        u = torch.full((len(rows), condition.numbers), 0.999)  # no attribute is left out
        stream = generator(self.seed, "asked")
        u[:, len(condition.attributes)] = (rows % (ASKED + 1) + 0.5) / (condition.asked + 1)  # none to three words
        u[:, len(condition.attributes) + 1 :] = torch.rand(len(rows), condition.places, generator=stream)
        encoded = condition.partly(encoded, u)
        words = [tuple(condition.words[word] for word in row if word >= 0) for row in condition.sets(encoded).tolist()]
        return encoded, [Asked(value, some) for value, some in zip(values, words, strict=True)]

    @torch.inference_mode()
    def bits(self, model: LanguageGenerator) -> dict[str, float]:
        """Return bits per character of the held-out texts, stops counted, told their attributes, and told nothing."""
        loss, sums, total = partial(F.cross_entropy, reduction="none"), dict.fromkeys(LIKELIHOOD, 0.0), 0
        with evaluating(model):
            order = counts(self.part.images).argsort(stable=True)  # texts of like length together: few places are empty
            for rows in torch.split(order, READ):
                x = self.part.table.images[self.part.rows[rows]].long().to(model.device)
                condition = self.data.encode(self.part, rows, model.condition).to(model.device)
                for name, nats in zip(sums, model.told_and_untold(x, condition, loss), strict=True):
                    sums[name] += nats.double().sum().item() / math.log(2)
                total += int(counts(x).sum())
        return {name: value / total for name, value in sums.items()}

    def sample(self, model: LanguageGenerator, conditions: Tensor) -> list[str]:
        """Draw a text for each encoded condition (N, ...)."""
        blocks = enumerate(torch.split(conditions, BLOCK))
        return [text for i, block in blocks for text in self.space.texts(model.sample_block(i, block, self.seed))]

    def floors(self, rows: Tensor, asked: Sequence[Asked]) -> tuple[dict[str, float], dict[str, float]]:
        """Return the figures of the held-out texts, and of others of their kind in their place: what chance would hold."""
        real = self.counted.figures(self.texts(self.part, rows), asked)
        return real, self.counted.figures(self.texts(self.part, self.exchanged(asked)), asked)

    def record(
        self,
        model: LanguageGenerator,
        count: int,
        *,
        metrics: Sequence[str],
        weights: str,
        source: str,
        step: int | None,
    ) -> tuple[Record, list[str]]:
        """Measure a model by ``count`` samples, and return the figures and the samples, each under what it was asked for.

        Args:
            model: what is measured, as it is set to sample.
            count: how many samples.
            metrics: names in `condgen.metrics.catalogue.TEXT`.
            weights: see `Protocol`.
            source: see `Record`.
            step: see `Record`.
        """
        rows = self.rows(count)
        conditions, asked = self.requests(model, rows)
        drawn = self.sample(model, conditions) if set(metrics) - set(LIKELIHOOD) else []
        figures = self.counted.figures(drawn, asked) if drawn else {}
        floors, chance = self.floors(rows, asked) if drawn else ({}, {})
        figures |= self.bits(model) if set(metrics) & set(LIKELIHOOD) else {}
        protocol = Protocol(
            extractor="characters",
            sha256="",
            reference=self.split,
            data=fingerprint(self.part),
            real=len(self.part),
            generated=count,
            resize="none",
            seed=self.seed,
            weights=weights,
            **model.sampling,
        )
        record = Record(
            protocol,
            {name: figures[name] for name in metrics if name in figures},
            {name: floors[name] for name in metrics if name in floors},
            source=source,
            step=step,
            baselines={"another": {name: chance[name] for name in metrics if name in chance}},
            floors_of=f"the {self.split} texts themselves",
        )
        said = model.condition.describe(conditions) if drawn else []
        return record, [f"# {name}\n" + "\n".join(sentences(text)) for name, text in zip(said, drawn, strict=True)]

    def exchanged(self, asked: Sequence[Asked]) -> Tensor:
        """Return for each request the next held-out text of its kind, int64 (N,); itself where there is no other."""
        following: list[int] = list(range(len(asked)))
        last: dict[int | None, int] = {}
        for row in [*range(len(asked)), *range(len(asked))]:  # twice, so that the last one of a kind is followed by the first
            kind = asked[row].kind
            following[last.get(kind, row)] = row
            last[kind] = row
        return torch.tensor(following) % len(self.part)


def kinds(part: Part, condition: Condition, rows: Tensor | None = None) -> list[int | None]:
    """Return the values of a part's first attribute, None where one is open or there is no attribute."""
    places = part.rows if rows is None else part.rows[rows]
    if part.table.values is None or not (isinstance(condition, Keywords) and condition.attributes):
        return [None] * len(places)
    return [None if value != value else int(value) for value in part.table.values[places, 0].tolist()]


def wanted(suite: str | Sequence[str]) -> list[str]:
    """Return the names of the figures that are asked for; raises CondgenError for one that texts do not have."""
    names = [*TEXT] if suite == "all" else [suite] if isinstance(suite, str) else list(suite)
    for name in names:
        if name not in TEXT:
            raise CondgenError(f"There is no metric {name!r} of texts; there are {', '.join(TEXT)}.")
    return names
