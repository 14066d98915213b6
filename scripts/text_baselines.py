"""Bits per character that compressors and n-grams need for the held-out part of texts: what a language model has to beat.

    python scripts/text_baselines.py songci data.source.file=songci.jsonl.gz [split=test]

All read the same characters as the model: one that is unknown to it is the same sign here, and the end of each text counts as a
character. Compressors get the training texts first, and what the held-out ones add is counted. The n-gram model is
interpolated modified Kneser-Ney (Chen & Goodman 1999, section 4.1.3); the last line gives it the tune as a first symbol.
"""

import argparse
import bz2
import gzip
import lzma
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from condgen.config.build import build
from condgen.config.compose import by_choices
from condgen.data import DataModule
from condgen.metrics.text import kinds
from condgen.resume import changed
from condgen.tokens import Tokens

END = "\n"


class KneserNey:
    """Interpolated modified Kneser-Ney over characters.

    Args:
        texts: sequences of symbols, the stop among them.
        order: symbols of the longest n-gram.
        size: number of all symbols, among which what is left over is shared.
    """

    def __init__(self, texts: Iterable[Sequence[str]], order: int, size: int):
        self.order, self.size = order, size
        counts: list[dict[tuple[str, ...], dict[str, int]]] = [defaultdict(lambda: defaultdict(int)) for _ in range(order)]
        for text in texts:
            for i, symbol in enumerate(text):
                counts[order - 1][tuple(text[max(0, i - order + 1) : i])][symbol] += 1
        for n in range(order - 1, 0, -1):  # lower orders count the different symbols before
            for context, following in counts[n].items():
                shorter = context[1:] if len(context) == n else None
                for symbol, count in following.items():
                    if shorter is None:  # at the start of a text: nothing stands before it
                        counts[n - 1][context][symbol] += count
                    else:
                        counts[n - 1][shorter][symbol] += 1
        self.tables = [self._discounted(table) for table in counts]

    def _discounted(
        self, table: dict[tuple[str, ...], dict[str, int]]
    ) -> dict[tuple[str, ...], tuple[dict[str, float], float]]:
        """Return of each context the discounted shares of symbols, and what is left for lower orders."""
        often = [sum(count == k for following in table.values() for count in following.values()) for k in (1, 2, 3, 4)]
        share = often[0] / max(1, often[0] + 2 * often[1])
        discount = [0.0] + [max(0.0, k - (k + 1) * share * often[k] / max(1, often[k - 1])) for k in (1, 2, 3)]
        found = {}
        for context, following in table.items():
            total = sum(following.values())
            shares = {symbol: (count - discount[min(count, 3)]) / total for symbol, count in following.items()}
            found[context] = shares, 1 - sum(shares.values())
        return found

    def probability(self, context: tuple[str, ...], symbol: str) -> float:
        """Return p(symbol | context)."""
        chance = 1 / self.size
        for n in range(self.order):
            if n > len(context):
                break
            known = self.tables[n].get(context[len(context) - n :])
            if known is not None:
                chance = known[0].get(symbol, 0.0) + known[1] * chance
        return chance

    def bits(self, texts: Iterable[Sequence[str]], skip: int = 0) -> float:
        """Return the bits that texts take, without the first ``skip`` symbols of each."""
        return -sum(
            math.log2(self.probability(tuple(text[max(0, i - self.order + 1) : i]), text[i]))
            for text in texts
            for i in range(skip, len(text))
        )


def compressed(compress: Callable[[bytes], bytes], train: str, held: str) -> float:
    """Return the bits that held-out texts add to compressed training texts."""
    return 8.0 * (len(compress((train + held).encode())) - len(compress(train.encode())))


def main() -> None:
    """Print bits per character of each baseline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a choice of data=, such as songci")
    parser.add_argument("keys", nargs="*", help="KEY=VALUE of conf/data.yaml's data, and split=test or val")
    parser.add_argument("--order", type=int, default=5, help="symbols of the longest n-gram")
    given = parser.parse_args()
    split = next((key.split("=")[1] for key in given.keys if key.startswith("split=")), "test")
    config, deep = by_choices("evaluate", [f"data={given.data}", *(key for key in given.keys if not key.startswith("split="))])
    data: DataModule = build("data", changed(config, deep)["data"])
    space = data.space
    assert isinstance(space, Tokens)
    parts = {"train": data.train, "held": getattr(data, split)}
    texts = {name: space.texts(part.images) for name, part in parts.items()}
    total = sum(len(text) + 1 for text in texts["held"])
    print(f"{given.data}: {len(texts['train']):,} training texts, {len(texts['held']):,} of {split}, {total:,} characters")
    train, held = (END.join(texts[name]) + END for name in ("train", "held"))
    for name, compress in {"gzip": lambda b: gzip.compress(b, 9), "bzip2": bz2.compress, "xz": lzma.compress}.items():
        print(f"{name:32} {compressed(compress, train, held) / total:.3f}")
    stopped = {name: [[*text, END] for text in some] for name, some in texts.items()}
    for order in range(2, given.order + 1):
        model = KneserNey(stopped["train"], order, space.size)
        print(f"{f'Kneser-Ney, order {order}':32} {model.bits(stopped['held']) / total:.3f}", flush=True)
    told = {name: kinds(part, data.condition) for name, part in parts.items()}
    named = {name: [[f"<{kind}>", *text, END] for text, kind in zip(texts[name], told[name], strict=True)] for name in parts}
    model = KneserNey(named["train"], given.order, space.size)
    print(f"{'the same, told the tune at first':32} {model.bits(named['held'], 1) / total:.3f}")


if __name__ == "__main__":
    main()
