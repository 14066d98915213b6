"""Images to start from: edges, an image with a hole, a grey one. Each is made from the sample that is to be found again."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.conditions.base import Condition
from condgen.errors import CondgenError
from condgen.images import LUMA
from condgen.types import Inside, NonNegative, Shape


class ImageCondition(Condition):
    """An image that `complete` makes from a sample, encoded as float32 (N, *map_shape) in [-1, 1].

    Args:
        shape: (C, H, W) of the samples.
    """

    comparable = True
    """Whether two of these that are near each other, pixel by pixel, are of samples that are alike."""

    def __init__(self, shape: Sequence[int]):
        if len(shape) != 3:
            raise CondgenError(
                "A condition that is an image needs images, and these samples are none: choose another condition, or a model "
                "that brings one, model=gan_points."
            )
        self.classes = []
        self.image = self
        self.shape = tuple(int(n) for n in shape)
        self.map_shape = (self.channels, self.shape[1], self.shape[2])

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of the map."""

    @abstractmethod
    def make(self, x: Tensor, u: Tensor) -> Tensor:
        """Make the map (N, *map_shape) of samples x (N, *shape), with uniform numbers u (N, draws)."""

    @property
    def width(self) -> int:
        return 0

    @property
    def title(self) -> str:
        """What this is, for protocols: "inpaint, hole 0.5, centred False"."""
        settings = [f"{key} {value}" for key, value in self.config().items() if key not in ("_target_", "shape")]
        return ", ".join([type(self).__name__.lower(), *settings])

    def config(self) -> dict[str, Any]:
        return {"_target_": f"condgen.conditions.{type(self).__name__}", "shape": list(self.shape)}

    def schema(self) -> dict[str, Any]:
        kind, (channels, height, width) = type(self).__name__.lower(), self.shape
        image: dict[str, Any] = {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "image/png",
            "title": "image",
        }
        image |= {"kind": kind, "size": [height, width], "channels": channels}
        return {"type": "object", "properties": {"image": image}, "required": ["image"]}

    def from_data(self, labels: Tensor, values: Tensor | None = None) -> Tensor:
        """Labels say nothing: (N, 0), until `complete` has seen the samples."""
        return torch.empty(len(labels), 0)

    def complete(self, condition: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return self.make(x, u)

    def parse(self, text: str) -> Tensor:
        raise CondgenError(f"This model is asked by an image, not by {text!r}: give --image FILE.")

    def ask(self, text: str | None, image: Tensor | None = None) -> Tensor:
        if text:
            return self.parse(text)
        if image is None:
            raise CondgenError("This model needs an image to start from: give --image FILE.")
        return self.of_picture(image[None])

    def of_picture(self, image: Tensor) -> Tensor:
        """Make the map of a user's pictures (N, C, H, W), perhaps with an opacity after the colours."""
        return self.make(image[:, : self.shape[0]], torch.full((len(image), self.draws), 0.5, device=image.device))

    def check(self, condition: Tensor) -> Tensor:
        if tuple(condition.shape[1:]) != self.map_shape or not condition.is_floating_point():
            given = f"{condition.dtype} {tuple(condition.shape)}"
            raise CondgenError(f"Encoded images are float (N, {', '.join(map(str, self.map_shape or ()))}), not {given}.")
        return condition

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        raise CondgenError("A condition that is an image cannot be drawn at random: take those of the data.")

    def vector(self, condition: Tensor) -> Tensor:
        return condition.new_empty(condition.shape[0], 0)

    def map(self, condition: Tensor) -> Tensor:
        return condition

    def example(self) -> str:
        return ""

    def every(self) -> Tensor:
        return torch.empty(0, *(self.map_shape or ()))

    def describe(self, condition: Tensor) -> list[str]:
        return ["image"] * len(condition)

    def guesses(self, condition: Tensor) -> dict[str, Tensor]:
        """Return trivial answers (N, *shape) to encoded conditions, by name: baselines that know no other image."""
        return {}

    def between(self, first: Tensor, last: Tensor, share: float) -> Tensor:
        return torch.lerp(first, last, share)


class Photo(ImageCondition):
    """The sample itself, (N, C, H, W): what is to be changed.

    Args:
        shape: (C, H, W) of the samples.
    """

    @property
    def channels(self) -> int:
        return self.shape[0]

    def make(self, x: Tensor, u: Tensor) -> Tensor:
        return x


class Edges(ImageCondition):
    """Where brightness changes: 1 on an edge and -1 elsewhere, (N, 1, H, W), by Sobel's operator.

    Args:
        shape: (C, H, W) of the samples.
        threshold: change of brightness from one pixel to the next above which there is an edge, in a range of 2.
    """

    channels = 1

    def __init__(self, shape: Shape, threshold: NonNegative = 0.15):
        super().__init__(shape)
        self.threshold = threshold

    def config(self) -> dict[str, Any]:
        return super().config() | {"threshold": self.threshold}

    def make(self, x: Tensor, u: Tensor) -> Tensor:
        slope = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device) / 8
        padded = F.pad(grey(x.float()), (1, 1, 1, 1), mode="replicate")
        gradient = F.conv2d(padded, torch.stack([slope, slope.T])[:, None])  # (N, 2, H, W)
        return torch.where(gradient.norm(dim=1, keepdim=True) > self.threshold, 1.0, -1.0)


class Inpaint(ImageCondition):
    """An image with a rectangular hole: its pixels, 0 in the hole, and a last channel that is 1 where they are known, else -1.

    Args:
        shape: (C, H, W) of the samples.
        hole: sides of the hole as a share of the image's.
        centred: the hole lies in the middle; False puts it anywhere.
    """

    draws = 2
    comparable = False  # holes lie at different places

    def __init__(self, shape: Shape, hole: Inside = 0.5, centred: bool = False):
        super().__init__(shape)
        self.hole, self.centred = hole, centred

    @property
    def channels(self) -> int:
        return self.shape[0] + 1

    def config(self) -> dict[str, Any]:
        return super().config() | {"hole": self.hole, "centred": self.centred}

    def make(self, x: Tensor, u: Tensor) -> Tensor:
        place = torch.full_like(u, 0.5) if self.centred else u
        inside = []
        for axis, side in enumerate(self.shape[1:]):
            size = max(1, round(self.hole * side))
            first = (place[:, axis] * (side - size + 1)).floor()[:, None]  # (N, 1)
            at = torch.arange(side, device=x.device)
            inside.append((at >= first) & (at < first + size))  # (N, side)
        return self.cover(x, ~(inside[0][:, :, None] & inside[1][:, None, :])[:, None])

    def of_picture(self, image: Tensor) -> Tensor:
        """The hole is where the picture is not quite opaque; one that is opaque everywhere gets a hole in its middle."""
        if image.shape[1] > self.shape[0] and bool((image[:, -1] < 1).any()):
            return self.cover(image[:, :-1], image[:, -1:] >= 1)
        return super().of_picture(image)

    def cover(self, x: Tensor, known: Tensor) -> Tensor:
        """Return images (N, C, H, W) without what is not known, bool (N, 1, H, W), and beside them where that is."""
        return torch.cat([x * known, torch.where(known, 1.0, -1.0).to(x.dtype)], dim=1)

    def finish(self, samples: Tensor, condition: Tensor) -> Tensor:
        """Known pixels are as they were, exactly."""
        pixels, known = condition[:, :-1], condition[:, -1:] > 0
        return torch.where(known, pixels, samples.to(pixels.dtype))

    def guesses(self, condition: Tensor) -> dict[str, Tensor]:
        """The hole in the mean colour of what is known."""
        pixels, known = condition[:, :-1], condition[:, -1:] > 0
        mean = (pixels * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1)
        return {"mean fill": mean.expand_as(pixels)}


class Colorize(ImageCondition):
    """The brightness of a colour image, (N, 1, H, W).

    Args:
        shape: (3, H, W).
    """

    channels = 1

    def __init__(self, shape: Sequence[int]):
        if shape[0] != 3:
            raise CondgenError("condition=colorize needs colour images: choose data that have them, or data.channels=3.")
        super().__init__(shape)

    def make(self, x: Tensor, u: Tensor) -> Tensor:
        return grey(x)

    def guesses(self, condition: Tensor) -> dict[str, Tensor]:
        """No colour at all."""
        return {"grey image": condition.expand(-1, 3, -1, -1)}


def grey(x: Tensor) -> Tensor:
    """Return the brightness (N, 1, H, W) of images (N, C, H, W)."""
    if x.shape[1] == 1:
        return x
    return (x * torch.tensor(LUMA, device=x.device, dtype=x.dtype).view(-1, 1, 1)).sum(1, keepdim=True)
