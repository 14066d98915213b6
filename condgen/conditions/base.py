"""The contract of a condition, the condition that is none, and how a network embeds one as a vector."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.conditions.text import from_json, written
from condgen.errors import CondgenError
from condgen.types import PositiveInt

if TYPE_CHECKING:
    from condgen.conditions.attributes import Attributes
    from condgen.conditions.images import ImageCondition


class Condition(ABC):
    """What a sample is conditioned on. Encoded, ``n`` conditions are a tensor (n, ...) that indexes, stacks and shards by rows.

    A network sees it as a vector (`width`, `vector`), as an image (`map_shape`, `map`), or as both.

    What a constructor takes of the data it names: ``classes``, the names of their classes; ``fields``, their attributes
    (`condgen.conditions.fields`); ``words``, that they can be asked for by; ``captions``, of the training part; ``shape``, of a
    sample; ``space``, what a sample is where its shape does not say it.
    """

    classes: list[str]
    """Names of the classes that a user can ask for; empty where there are none."""
    map_shape: tuple[int, int, int] | None = None
    """(C, H, W) of the images that `map` returns; None where there are none. They are made from samples, by `complete`."""
    draws: int = 0
    """Numbers, uniform in [0, 1), that `complete` needs for each sample."""
    image: "ImageCondition | None" = None
    """The condition, or its part, that is an image; None where there is none."""
    told: "Attributes | None" = None
    """Attributes of the data that it tells in a way of its own, by which samples are measured; None: none."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of the vector that `vector` returns."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return what rebuilds this condition without the data: a plain dict with a ``_target_``."""

    @abstractmethod
    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        """Encode what a data set says of its samples: class labels, int64 (N,), and values of its fields, float32 (N, F)."""

    def from_rows(self, labels: Tensor, values: Tensor | None, captions: Sequence[str] | None) -> Tensor:
        """Encode what a data set says of its samples, their captions among it, of which most conditions read none."""
        return self.from_data(labels, values)

    @abstractmethod
    def parse(self, text: str) -> Tensor:
        """Encode what a user wrote, e.g. ``"0-9"`` or ``"frog,ship"``; raises CondgenError on an unknown value."""

    @abstractmethod
    def check(self, condition: Tensor) -> Tensor:
        """Return encoded conditions as they are; raises CondgenError if they are none."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` random conditions; raises CondgenError where they can only be made from samples."""

    @abstractmethod
    def vector(self, condition: Tensor) -> Tensor:
        """Write encoded conditions as float vectors (N, width)."""

    def encoder(self) -> nn.Module | None:
        """Return a new module that learns to write encoded conditions as vectors (N, width); None where `vector` does it."""
        return None

    @abstractmethod
    def every(self) -> Tensor:
        """Return each distinct condition once, for sample grids; one row where there are none to tell apart."""

    @abstractmethod
    def describe(self, condition: Tensor) -> list[str]:
        """Name each of the encoded conditions, for files and captions."""

    def example(self) -> str:
        """Return a condition as a user would write it; "" where it is an image, or nothing."""
        text = self.describe(self.every()[-1:])[0] if self.width else ""
        return text.replace(" ", ",") if "=" in text else text

    def schema(self) -> dict[str, Any]:
        """Return what can be asked for as a JSON schema of an object, with a property for each part that `encode` reads.

        An image stands among the properties, with the size of its map and its kind, though it is handed over beside the rest.
        """
        return {"type": "object", "properties": {}}

    def encode(self, value: Any) -> Tensor:
        """Encode an index, a name, a text such as ``"0-9"`` or ``"digit=3,colour=red"``, or an encoded tensor.

        Also an object such as ``{"digit": 3, "colour": "red"}``, a list of any of these, and either of the two as JSON.

        Raises:
            CondgenError: the value names nothing that this condition knows.
        """
        if isinstance(value, Tensor):
            return self.check(value)
        if isinstance(value, dict):
            return self.parse(written(value))
        if isinstance(value, Sequence) and not isinstance(value, str):
            if not value:
                raise CondgenError("An empty list asks for nothing: leave the condition out to ask for everything.")
            return torch.cat([self.encode(v) for v in value])
        found = from_json(str(value))
        return self.parse(found) if isinstance(found, str) else self.encode(found)

    def ask(self, text: str | None, image: Tensor | None = None) -> Tensor:
        """Encode what a user asks for by a text, by an image, or by both; by neither, `every`.

        Args:
            text: as for `parse`.
            image: a picture, float32 (C, H, W) in [-1, 1] in the space of the samples, or (C + 1, H, W) with its opacity.

        Raises:
            CondgenError: the one is missing or the other too much.
        """
        if image is not None:
            raise CondgenError("This model is not conditioned on an image: leave --image out.")
        return self.every() if text is None else self.encode(text)

    def fill(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        """Draw what encoded conditions leave open; most leave nothing."""
        return condition

    def map(self, condition: Tensor) -> Tensor:
        """Write encoded conditions as images, float32 (N, *map_shape) in [-1, 1]."""
        raise NotImplementedError(f"{type(self).__name__} has no map")

    @property
    def numbers(self) -> int:
        """Numbers, uniform in [0, 1), that `partly` needs for each row."""
        return 0

    def partly(self, condition: Tensor, u: Tensor) -> Tensor:
        """Return encoded conditions (N, ...) in which parts are left out at random, as users leave them out; most have none.

        Args:
            condition: encoded conditions (N, ...).
            u: uniform numbers (N, `numbers`).
        """
        return condition

    def without_hints(self, condition: Tensor) -> Tensor:
        """Return encoded conditions without what gives a part of the sample away, such as its words; most have none of it."""
        return condition

    def complete(self, condition: Tensor, x: Tensor, u: Tensor) -> Tensor:
        """Return encoded conditions with what samples say of themselves, where `map_shape` is not None.

        Args:
            condition: what `from_data` made, (N, ...).
            x: the samples, float32 (N, C, H, W) in [-1, 1].
            u: uniform numbers (N, draws).
        """
        return condition

    def near(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Return encoded conditions (N, ...) whose numbers are moved by ``noise`` (N, width), see `Attributes.near`.

        Raises:
            CondgenError: there are no numbers.
        """
        raise CondgenError("data.vicinity moves numbers, and this condition has none: set data.vicinity=0.")

    def finish(self, samples: Tensor, condition: Tensor) -> Tensor:
        """Return generated ``samples`` (N, *shape) with what their conditions fix, e.g. the known pixels of an image."""
        return samples

    def between(self, first: Tensor, last: Tensor, share: float) -> Tensor:
        """Mix encoded conditions, ``share`` of the way from ``first`` to ``last``: vectors that `vector` takes, too."""
        return torch.lerp(self.vector(first), self.vector(last), share)


def of_data(make: Callable[..., Condition], **facts: Any) -> Condition:
    """Make a condition of what it takes of ``facts`` on the data, see `Condition`."""
    wanted = signature(make).parameters
    return make(**{name: fact for name, fact in facts.items() if name in wanted})


class NoCondition(Condition):
    """Unconditional generation: encoded as (N, 0), so that concatenating it changes nothing."""

    def __init__(self) -> None:
        self.classes = []

    @property
    def width(self) -> int:
        return 0

    def config(self) -> dict[str, Any]:
        return {"_target_": "condgen.conditions.NoCondition"}

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        return torch.empty(len(labels), 0)

    def parse(self, text: str) -> Tensor:
        if not text:
            return self.every()
        raise CondgenError(f"This model is unconditional: it cannot be asked for {text!r}; leave the condition out.")

    def check(self, condition: Tensor) -> Tensor:
        if condition.dim() != 2 or condition.shape[1]:
            raise CondgenError(f"This model is unconditional: encoded conditions are (N, 0), not {tuple(condition.shape)}.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.empty(count, 0)

    def vector(self, condition: Tensor) -> Tensor:
        return condition

    def every(self) -> Tensor:
        return torch.empty(1, 0)

    def describe(self, condition: Tensor) -> list[str]:
        return ["any"] * len(condition)


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
    """Embed a condition as its own vector (B, width): one-hot for a class, nothing for no condition, a caption as it reads."""

    def __init__(self, condition: Condition):
        super().__init__()
        self.condition = condition
        self.width = condition.width
        self.encode = condition.encoder()

    def forward(self, condition: Tensor) -> Tensor:
        vector: Tensor = self.encode(condition) if self.encode else self.condition.vector(condition)
        return vector


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
        self.encode = condition.encoder()

    def forward(self, condition: Tensor) -> Tensor:
        if self.encode:
            read: Tensor = self.encode(condition) @ self.table
            return read
        if condition.dtype == torch.int64:
            return F.embedding(condition, self.table)
        return self.condition.vector(condition) @ self.table
