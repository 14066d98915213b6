"""Words that texts can be asked for by: which there are, and which of them each text holds."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from condgen.randomness import generator

CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]+")
"""Characters of scripts that put no space between words."""
LETTERS = re.compile(r"[^\W\d_]{3,}")
RAREST, COMMONEST = 20, 0.4
"""Texts that must hold a word, and the share of them that may."""
COHESION = math.log(4)
"""How much oftener than by chance two characters stand together that are a word: their pointwise mutual information."""


def lexicon(texts: Sequence[str], most: int) -> list[str]:
    """Return the words that most texts hold, at most ``most``, the commonest first.

    Words lie between spaces and punctuation; of Chinese they are single characters, and pairs that stand together at least
    four times as often as by chance (Church & Hanks 1990). A word that hardly any text holds, or nearly each, is left out.
    """
    found: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for text in texts:
        phrases = CHINESE.findall(text)
        letters.update("".join(phrases))
        pairs.update([one + other for phrase in phrases for one, other in pairwise(phrase)])
        found.update(set(candidates(text)))
    rarest = min(RAREST, max(2, len(texts) // 100))
    total, together = sum(letters.values()), sum(pairs.values())

    def coheres(word: str) -> bool:
        if word not in pairs:
            return True
        chance = letters[word[0]] * letters[word[1]] / total**2
        return math.log(pairs[word] / together / chance) >= COHESION

    kept = [word for word, count in found.items() if rarest <= count <= COMMONEST * len(texts) and coheres(word)]
    return sorted(kept, key=lambda word: (-found[word], word))[:most]


def candidates(text: str) -> Iterator[str]:
    """Yield what could be a word of a text: of Chinese single characters and pairs of neighbours."""
    for phrase in CHINESE.findall(text):
        yield from phrase
        yield from (one + other for one, other in pairwise(phrase))
    yield from LETTERS.findall(CHINESE.sub(" ", text).lower())


def given_words(cells: Sequence[str], most: int, places: int) -> tuple[list[str], Tensor]:
    """Return the words between spaces in ``cells``, the commonest ``most``, and which of them each has, int64 (N, places)."""
    given = [cell.split() for cell in cells]
    counts = Counter(word for some in given for word in some)
    words = [word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))][:most]
    number = {word: i for i, word in enumerate(words)}
    sets = torch.full((len(given), places), -1)
    for row, some in enumerate(given):
        mine = list(dict.fromkeys(number[word] for word in some if word in number))[:places]
        sets[row, : len(mine)] = torch.tensor(mine, dtype=torch.int64)
    return words, sets


def chosen_words(texts: Sequence[str], words: Sequence[str], places: int, seed: int) -> Tensor:
    """Return which of ``words`` each text holds, int64 (N, places), -1 in places that stay free.

    Where a text holds more, a part is drawn: longer words first for one half of the places, any for the other.
    """
    number = {word: i for i, word in enumerate(words)}
    table = torch.full((len(texts), places), -1)
    for row, text in enumerate(texts):
        mine = sorted({number[word] for word in candidates(text) if word in number})
        if not mine:
            continue
        order = torch.randperm(len(mine), generator=generator(seed, "words", row)).tolist()
        mine = [mine[i] for i in order]
        longer = [i for i in mine if len(words[i]) > 1][: places // 2]
        picked = (longer + [i for i in mine if i not in longer])[:places]
        table[row, : len(picked)] = torch.tensor(picked)
    return table
