"""Several tasks for one network: edges, a hole, colours; which of them, the condition says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.conditions.base import Condition, of_data
from condgen.conditions.images import ImageCondition
from condgen.conditions.text import pieces, unquoted
from condgen.errors import CondgenError


class Tasks(ImageCondition):
    """One of several conditions that are images: in training the task is drawn for each sample, in sampling it is asked for.

    Encoded as float32 (N, C + K, H, W): the task's map, with empty channels up to those of the largest, and a plane for each of
    the K tasks, 1 for the one that is meant and -1 for the others. One network for many image tasks, told apart by its input,
    is that of Palette (Saharia et al. 2022, section 5.5).

    Args:
        tasks: the conditions by name, or what makes them of the shape.
        shape: (C, H, W) of the samples.
        only: the task that is always taken, to measure it alone; None: one for each sample, uniformly.
    """

    comparable = False  # maps of different tasks

    def __init__(
        self,
        tasks: Mapping[str, ImageCondition | Callable[..., ImageCondition]],
        shape: Sequence[int],
        only: str | None = None,
    ):
        self.tasks: dict[str, ImageCondition] = {}
        for name, task in tasks.items():
            made = task if isinstance(task, Condition) else of_data(task, shape=shape)
            if not isinstance(made, ImageCondition) or isinstance(made, Tasks):
                raise CondgenError(f"condition.tasks.{name} must be a condition that is an image, such as edges or inpaint.")
            self.tasks[str(name)] = made
        if len(self.tasks) < 2:
            raise CondgenError("condition.tasks needs at least two tasks: for one, choose its own condition.")
        self.choose(only, "condition.only")
        self._largest = max(task.channels for task in self.tasks.values())
        self.draws = 1 + max(task.draws for task in self.tasks.values())
        super().__init__(shape)

    def choose(self, only: str | None, key: str) -> None:
        """Always take one task from now on, or draw it again (None); raises CondgenError, naming ``key``, for one unknown."""
        if only is not None and only not in self.tasks:
            raise CondgenError(f"{key}={only} is none of the tasks {', '.join(self.tasks)}.")
        self.only = only

    @property
    def channels(self) -> int:
        return self._largest + len(self.tasks)

    @property
    def title(self) -> str:
        return "tasks: " + "; ".join(task.title for task in self._chosen().values())

    def config(self) -> dict[str, Any]:
        return super().config() | {
            "tasks": {name: task.config() for name, task in self.tasks.items()},
            "only": self.only,
        }

    def example(self) -> str:
        return next(iter(self._chosen()))

    def schema(self) -> dict[str, Any]:
        schema = super().schema()
        task = {"type": "string", "enum": list(self.tasks), "title": "task"}
        return schema | {"properties": {"task": task} | schema["properties"], "required": ["task", "image"]}

    def _chosen(self) -> dict[str, ImageCondition]:
        return self.tasks if self.only is None else {self.only: self.tasks[self.only]}

    def make(self, x: Tensor, u: Tensor) -> Tensor:
        """Make the maps of samples (N, *shape), the task of each by its first number, the rest by the others."""
        chosen = self._chosen()
        which = (u[:, 0] * len(chosen)).long().clamp(max=len(chosen) - 1)
        made = ((name, task.make(x, u[:, 1 : 1 + task.draws])) for name, task in chosen.items())
        return torch.stack([self._padded(name, shown) for name, shown in made])[which, torch.arange(len(x), device=x.device)]

    def _padded(self, name: str, shown: Tensor) -> Tensor:
        """Add to a task's maps (N, C, H, W) the channels that they lack, and the planes that say which task it is."""
        said = torch.full((len(self.tasks),), -1.0, dtype=shown.dtype, device=shown.device)
        said[list(self.tasks).index(name)] = 1
        planes = said[None, :, None, None].expand(len(shown), -1, *shown.shape[2:])
        return torch.cat([F.pad(shown, (0, 0, 0, 0, 0, self._largest - shown.shape[1])), planes], dim=1)

    def named(self, text: str) -> list[str]:
        """Read ``"edges"``, ``"edges,inpaint"`` or ``"task=edges|inpaint"``."""
        parts = [unquoted(part) for part in pieces(text.strip().removeprefix("task=").replace("|", ","), ",")]
        if unknown := [part for part in parts if part not in self.tasks]:
            raise CondgenError(f"Unknown task {unknown[0]!r}: this model knows {', '.join(self.tasks)}.")
        return parts

    def parse(self, text: str) -> Tensor:
        self.named(text)
        raise CondgenError("This model needs an image to start from beside the task: give --image FILE.")

    def ask(self, text: str | None, image: Tensor | None = None) -> Tensor:
        """Encode a picture for the tasks that a text names, in this order; without a text for all."""
        names = self.named(text) if text else list(self.tasks)
        if image is None:
            raise CondgenError("This model needs an image to start from: give --image FILE.")
        return torch.cat([self._padded(name, self.tasks[name].of_picture(image[None])) for name in names])

    def _which(self, condition: Tensor) -> list[int]:
        """Return the place of the task of each encoded condition."""
        places: list[int] = condition[:, self._largest :, 0, 0].argmax(1).tolist()
        return places

    def describe(self, condition: Tensor) -> list[str]:
        """Name the task of each."""
        return [list(self.tasks)[place] for place in self._which(condition)]

    def finish(self, samples: Tensor, condition: Tensor) -> Tensor:
        finished = samples.clone()
        places = torch.tensor(self._which(condition), device=samples.device)
        for i, task in enumerate(self.tasks.values()):
            rows = places == i
            finished[rows] = task.finish(samples[rows], condition[rows, : task.channels]).to(samples.dtype)
        return finished

    def guesses(self, condition: Tensor) -> dict[str, Tensor]:
        """The guesses of the task that is the only one; where there are several, none fits all."""
        return {} if self.only is None else self.tasks[self.only].guesses(condition[:, : self.tasks[self.only].channels])
