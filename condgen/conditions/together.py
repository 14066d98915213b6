"""An image and something said about it, such as a class."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from condgen.conditions.base import Condition, of_data
from condgen.conditions.fields import Field
from condgen.conditions.images import ImageCondition
from condgen.conditions.tasks import Tasks
from condgen.errors import CondgenError


class Together(Condition):
    """A condition that is a vector, and one that is an image; encoded as float32 (N, width + C * H * W), the vector first.

    Args:
        said: the vector's condition, or what makes it from the data.
        image: the image's.
        classes, fields, shape: of the data, see `Condition`.
    """

    def __init__(
        self,
        said: Condition | Callable[..., Condition],
        image: ImageCondition | Callable[..., ImageCondition],
        classes: Sequence[str] = (),
        fields: Mapping[str, Any] | Sequence[Field] = (),
        shape: Sequence[int] = (),
    ):
        facts = {"classes": classes, "fields": fields, "shape": shape}
        self.said, shown = (part if isinstance(part, Condition) else of_data(part, **facts) for part in (said, image))
        wrong = self.said.map_shape or not self.said.width or self.said.encoder()
        if not isinstance(shown, ImageCondition) or isinstance(shown, Tasks) or wrong:
            raise CondgenError("condition: said must be a condition that is a vector, and image one that is an image.")
        self.image: ImageCondition = shown
        self.classes = self.said.classes
        self.map_shape = self.image.map_shape
        self.draws = self.image.draws

    @property
    def width(self) -> int:
        return self.said.width

    def config(self) -> dict[str, Any]:
        target = "condgen.conditions.Together"
        return {"_target_": target, "said": self.said.config(), "image": self.image.config()}

    def schema(self) -> dict[str, Any]:
        said, shown = self.said.schema(), self.image.schema()
        properties = said["properties"] | shown["properties"]
        return {"type": "object", "properties": properties, "required": [*said.get("required", ()), *shown["required"]]}

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        """Encode the vector alone, (N, width), until `complete` has seen the samples."""
        return self.said.vector(self.said.from_data(labels, values))

    def complete(self, condition: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return torch.cat([condition, self.image.make(x, u).flatten(1)], dim=1)

    def parse(self, text: str) -> Tensor:
        raise CondgenError("This model needs an image to start from beside what is said of it: give --image FILE.")

    def ask(self, text: str | None, image: Tensor | None = None) -> Tensor:
        vector = self.said.vector(self.said.ask(text))
        shown = self.image.ask(None, image).flatten(1)
        return torch.cat([vector, shown.expand(len(vector), -1)], dim=1)

    def fill(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        vector = condition[:, : self.width]
        return torch.cat([self.said.fill(vector, generator), condition[:, self.width :]], dim=1)

    def check(self, condition: Tensor) -> Tensor:
        size = self.width + prod(self.map_shape or ())
        if condition.dim() != 2 or condition.shape[1] != size or not condition.is_floating_point():
            given = f"{condition.dtype} {tuple(condition.shape)}"
            raise CondgenError(f"Encoded, a vector and an image together are float (N, {size}), not {given}.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return self.image.draw(count, generator)

    def vector(self, condition: Tensor) -> Tensor:
        return condition[:, : self.width]

    def map(self, condition: Tensor) -> Tensor:
        return condition[:, self.width :].reshape(condition.shape[0], *(self.map_shape or ()))

    def example(self) -> str:
        return self.said.example()

    def every(self) -> Tensor:
        return torch.empty(0, self.width + prod(self.map_shape or ()))

    def describe(self, condition: Tensor) -> list[str]:
        said = self.vector(condition)
        return self.said.describe(said.argmax(1) if self.said.every().dim() == 1 else said)

    def finish(self, samples: Tensor, condition: Tensor) -> Tensor:
        return self.image.finish(samples, self.map(condition))

    def between(self, first: Tensor, last: Tensor, share: float) -> Tensor:
        return torch.lerp(first, last, share)
