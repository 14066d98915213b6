"""Types of configured values: what a constructor's annotation says, `condgen.config.validate` holds the configuration to.

A range stands in the annotation (``width: PositiveInt``), so that no constructor refuses by hand what a type can refuse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Len, Lt, MinLen, Predicate


@dataclass(frozen=True)
class Says:
    """What an annotated value is, in a user's words, where its type alone would not say it well."""

    text: str
    many: str = ""
    """The same of several."""


PositiveInt = Annotated[int, Ge(1)]
"""A number of things of which there must be one."""
Count = Annotated[int, Ge(0)]
"""A number of things of which there may be none."""
OddInt = Annotated[
    PositiveInt, Predicate(lambda number: number % 2 == 1), Says("an odd number of at least 1", "odd numbers of at least 1")
]
"""A size with a middle."""
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
"""A share, or a probability."""
PositiveShare = Annotated[float, Gt(0), Le(1)]
Inside = Annotated[float, Gt(0), Lt(1)]
"""A share that is neither nothing nor all."""
BelowOne = Annotated[float, Ge(0), Lt(1)]
"""Such as the decay of an average."""
Widths = Annotated[Sequence[PositiveInt], MinLen(1)]
"""Channels or units of each layer."""
Shape = Annotated[Sequence[PositiveInt], Len(3, 3), Says("[channels, height, width], whole numbers of at least 1")]
"""Channels, height and width of an image."""
Name = Annotated[str | int, Says("a name", "names")]
"""A name; YAML reads one of digits as a number."""
