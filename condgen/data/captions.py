"""Sentences, in English and Chinese, that say what a digit of `condgen.data.sources.MNISTAttributes` looks like."""

from collections.abc import Sequence
from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from condgen.randomness import generator

WORDINGS = 4
"""Captions of each image: the first says all that it shows, the others leave parts out at times."""
SILENCE = 0.2
"""Probability with which each part is left out of these."""
UPRIGHT = 15.0
"""Degrees up to which a digit is called upright: a third of all are."""
Words = dict[str, tuple[tuple[str, ...], ...]]
"""What there is to say of each part: for each of its values several words that mean the same."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ENGLISH: Words = {
    "digit": tuple(
        zip(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), "0123456789", strict=True)
    ),
    "turned": (
        ("turned to the right", "leaning right", "tilted to the right"),
        ("upright", "standing straight", "not turned"),
        ("turned to the left", "leaning left", "tilted to the left"),
    ),
    "colour": (("red",), ("green",), ("blue",), ("yellow",), ("white",)),
    "pen": (("thin", "fine"), ("medium", "regular"), ("thick", "bold")),
}
CHINESE: Words = {
    "digit": tuple(zip("零一二三四五六七八九", "0123456789", strict=True)),
    "turned": (("向右转", "向右倾斜", "歪向右边"), ("端正", "直立", "没有倾斜"), ("向左转", "向左倾斜", "歪向左边")),
    "colour": (("红色",), ("绿色",), ("蓝色",), ("黄色",), ("白色",)),
    "pen": (("细", "纤细"), ("中等", "适中"), ("粗", "粗壮")),
}
PARTS = tuple(ENGLISH)
DRAWS = 2 + 2 * len(PARTS)
"""Uniform numbers that `caption` needs: language, pattern, and for each part its words and whether it is left out."""


class Wordings(Sequence[str]):
    """Captions of images, `WORDINGS` lines for each, made when they are asked for and always the same.

    Args:
        values: float32 (N, 4), digit, rotation, colour and thickness of each image.
        key: decides the wording, with the place of each image, int64 (N,), among ``total``.
    """

    def __init__(self, values: Tensor, places: Tensor, total: int, *key: int | str):
        self.values, self.places, self.total, self.key = values, places, total, key

    @cached_property
    def _drawn(self) -> tuple[list[list[int]], list[list[list[float]]]]:
        u = torch.rand(self.total, WORDINGS, DRAWS, generator=generator(*self.key, "captions"))[self.places]
        u[:, 0, -len(PARTS) :] = 1.0  # nothing is left out
        return said(self.values).tolist(), u.tolist()

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "Wordings": ...
    def __getitem__(self, row: int | slice) -> "str | Wordings":
        """Return the captions of an image, a line each, or those of several images."""
        if isinstance(row, slice):
            return Wordings(self.values[row], self.places[row], self.total, *self.key)
        values, u = self._drawn
        return "\n".join(caption(values[row], some) for some in u[row])


def said(values: Tensor) -> Tensor:
    """Return what can be said of digit, rotation, colour and thickness (N, 4): numbers of values of `PARTS`, int64 (N, 4)."""
    digit, rotation, colour, thickness = values.unbind(1)
    turned = 1.0 + (rotation > UPRIGHT).float() - (rotation < -UPRIGHT).float()
    return torch.stack([digit, turned, colour, thickness], dim=1).long()


def caption(values: Sequence[int], u: Sequence[float]) -> str:
    """Say the values of `PARTS`, as uniform numbers (`DRAWS`,) choose the words."""
    words, write = (ENGLISH, english) if u[0] < 0.5 else (CHINESE, chinese)
    parts = {}
    for i, part in enumerate(PARTS):
        several = words[part][values[i]]
        parts[part] = several[int(u[2 + i] * len(several))] if u[2 + len(PARTS) + i] >= SILENCE else ""
    return write(int(u[1] * 4), **parts)


def english(pattern: int, digit: str, turned: str, colour: str, pen: str) -> str:
    """Return ``"a thick red three, turned to the left"`` in one of four patterns; what is empty is left out."""
    digit = digit or "digit"
    behind = turned and f", {turned}"
    if pattern == 0:
        return article([pen, colour, digit]) + behind
    if pattern == 1:
        return article([colour, digit]) + (pen and f" with {pen} strokes") + behind
    if pattern == 2:
        return article([pen, digit, colour and f"in {colour}", turned])
    return " ".join(filter(None, [pen, colour, digit, turned]))


def article(words: Sequence[str]) -> str:
    """Return words in a row, those that are empty left out, behind an article."""
    there = [word for word in words if word]
    return " ".join(["an" if there[0] in ("eight", "8") else "a", *there])


def chinese(pattern: int, digit: str, turned: str, colour: str, pen: str) -> str:
    """Return ``"一个粗的红色的三，向左转"`` in one of four patterns; what is empty is left out."""
    digit = digit or "数字"
    if pattern == 0:
        return "一个" + (pen and f"{pen}的") + (colour and f"{colour}的") + digit + (turned and f"，{turned}")
    if pattern == 1:
        return (colour and f"{colour}的") + digit + (pen and f"，笔画{pen}") + (turned and f"，{turned}")
    if pattern == 2:
        return (turned and f"{turned}的") + pen + colour + (digit if digit == "数字" else f"数字{digit}")
    return pen + colour + digit + turned
