"""Conditions by meaning: a fixed vector for each name, so that names can be asked for that training never saw."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condgen.conditions.base import Condition
from condgen.conditions.text import class_schema, places
from condgen.errors import CondgenError

MOST_NAMES = 1_000
"""Names that a condition keeps: they are written into each run."""


class Vectors(Condition):
    """A name stands for a fixed vector, such as a word's, and is encoded as it, float32 (N, D).

    What a network learns of the vectors of the data's classes answers for any other vector, too: conditional GANs were
    proposed with this in mind (Mirza and Osindero 2014, sections 1 and 4.2), and recognition without examples rests on it
    (DeViSE, Frome et al. 2013). Vectors are centred and brought to a mean square of 1, by all that are kept.

    Args:
        vectors: ``{name: [numbers]}``, or a file with a line for each: a name and its numbers, separated by commas (.csv) or
            by spaces, as word2vec's and GloVe's text files have them.
        classes: names of the data's classes; each needs a vector.
        also: other names of the file that can be asked for; None: all of them.
    """

    def __init__(
        self,
        vectors: Mapping[str | int, Sequence[float]] | str,
        classes: Sequence[str],
        also: Sequence[str] | None = None,
    ):
        where = vectors if isinstance(vectors, str) else "condition.vectors"
        if not classes:
            raise CondgenError("condition=vector needs a data set with classes; this one has none: choose condition=none.")
        self.classes = [str(name) for name in classes]
        wanted = None if also is None else {*self.classes, *map(str, also)}
        found = read_vectors(Path(vectors), wanted) if isinstance(vectors, str) else {str(k): v for k, v in vectors.items()}
        if missing := [name for name in (*self.classes, *(also or ())) if str(name) not in found]:
            known = ", ".join(list(found)[:8])
            raise CondgenError(
                f"{where} has no vector for {missing[0]!r}, it has those of {known}{', ...' * (len(found) > 8)}."
            )
        self.names = [*self.classes, *(n for n in found if n not in self.classes and (wanted is None or n in wanted))]
        if len(self.names) > MOST_NAMES:
            raise CondgenError(f"{where} has {len(found):,} names: choose at most {MOST_NAMES:,} with condition.also=[...].")
        self.vectors = [[float(value) for value in found[name]] for name in self.names]
        self._table = table(self.names, self.vectors, where)

    @property
    def width(self) -> int:
        return self._table.shape[1]

    def config(self) -> dict[str, Any]:
        vectors = dict(zip(self.names, self.vectors, strict=True))
        return {"_target_": "condgen.conditions.Vectors", "vectors": vectors, "classes": list(self.classes)}

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        return self._table[labels.long()]

    def parse(self, text: str) -> Tensor:
        """Encode names that have a vector, see `condgen.conditions.text.places`."""
        return self._table[places(text, self.names, "{name} has no vector")]

    def schema(self) -> dict[str, Any]:
        return class_schema(self.names)

    def check(self, condition: Tensor) -> Tensor:
        fits = condition.dim() == 2 and condition.shape[1] == self.width and condition.is_floating_point()
        if not fits or not bool(condition.isfinite().all()):
            given = f"{condition.dtype} {tuple(condition.shape)}"
            raise CondgenError(f"Encoded vectors are finite floats (N, {self.width}), not {given}.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw classes of the data, uniformly."""
        return self._table[torch.randint(len(self.classes), (count,), generator=generator)]

    def vector(self, condition: Tensor) -> Tensor:
        return condition

    def every(self) -> Tensor:
        """Return the vector of each name, the data's classes first."""
        return self._table.clone()

    def describe(self, condition: Tensor) -> list[str]:
        """Name each by the nearest vector that has a name."""
        nearest = torch.cdist(condition.float().cpu(), self._table).argmin(1)
        return [self.names[row] for row in nearest.tolist()]


def read_vectors(path: Path, wanted: set[str] | None) -> dict[str, list[float]]:
    """Read the vectors of ``wanted`` names, or of all, from a text file with a line for each.

    A first line with two whole numbers, as word2vec writes it, is passed over.

    Raises:
        CondgenError: the file is none, or a line of it has no numbers; the line is named.
    """
    found: dict[str, list[float]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file) if path.suffix == ".csv" else (line.rstrip().split(" ") for line in file)
            for number, (name, *values) in enumerate((line for line in lines if line), 1):
                if number == 1 and path.suffix != ".csv" and len(values) == 1 and name.isdecimal():
                    continue
                if wanted is not None and name not in wanted:
                    continue
                if name in found:
                    raise CondgenError(f"{path}, line {number}: {name!r} has a vector already.")
                try:
                    found[name] = [float(value) for value in values]
                except ValueError as error:
                    raise CondgenError(f"{path}, line {number}: behind a name there must be numbers ({error}).") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CondgenError(f"condition.vectors={path} cannot be read: {reason}.") from None
    if not found:
        raise CondgenError(f"{path} has no vectors: write a line for each name, such as frog,0.1,-0.3.")
    return found


def table(names: Sequence[str], vectors: Sequence[Sequence[float]], where: str) -> Tensor:
    """Return vectors as float32 (names, D), centred and with a mean square of 1; raises CondgenError where they are none."""
    width = len(vectors[0])
    for name, vector in zip(names, vectors, strict=True):
        if not vector or len(vector) != width:
            raise CondgenError(f"{where}: the vector of {name!r} has {len(vector)} numbers, that of {names[0]!r} {width}.")
        if not all(map(math.isfinite, vector)):
            raise CondgenError(f"{where}: the vector of {name!r} has a number that is not finite.")
    rows = torch.tensor(vectors, dtype=torch.float64)
    rows = rows - rows.mean(0)
    scale = rows.square().mean().sqrt()
    if not scale > 0:
        raise CondgenError(f"{where}: all vectors are the same, so they say nothing.")
    return (rows / scale).float()
