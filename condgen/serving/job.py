"""A request on its way to its answer."""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

import torch
from torch import Tensor

from condgen.generators.base import BLOCK, Generator
from condgen.origin import Origin
from condgen.randomness import generator as keyed_generator
from condgen.samples import Request, Samples, marked
from condgen.serving.answers import pictures, written
from condgen.serving.messages import Format
from condgen.serving.models import Served
from condgen.serving.packing import shape_of

Report = Callable[[int, int, str], None]
"""Is told how much is done, of how much, in which unit; called from a thread that draws."""
BETWEEN = 0.25
"""Seconds from one preview to the next, at least."""


class Job:
    """A request that was found good.

    Its samples are drawn in parts, as ``condgen sample`` draws them: each part has a random stream of its own.

    Args:
        model: that is asked.
        request: what it is asked for.
        requested: encoded conditions (N, ...), see `condgen.samples.encode`.
        rows: number of conditions.
        names: what each sample was asked for.
        origin: what files say of where they come from; None: nothing.
        form: the format of the answer.
    """

    def __init__(
        self,
        model: Served,
        request: Request,
        requested: Tensor,
        rows: int,
        names: list[str],
        origin: Origin | None = None,
        form: Format = "npz",
    ):
        self.id = secrets.token_hex(8)
        self.model, self.request, self.requested, self.rows, self.names = model, request, requested, rows, names
        self.origin, self.form = origin, form
        self.report: Report = lambda done, total, unit: None
        self.preview: Callable[[int, list[str]], None] | None = None
        """Is shown pictures, PNGs in base64, of samples from a number on, as they are expected to become; None: none are."""
        self.shown, self.final = 0.0, 0
        """When that was last, and how many samples have been shown as they are."""
        self.answer: Future[bytes] = Future()
        """The body of the answer."""
        chosen = model.generator.chosen_sampling(**request.sampling)
        self.kind = model.name, *shape_of(chosen)
        """What decides which sizes of batches compute the same bits."""
        self.options = model.name, *sorted(request.sampling.items())
        """What jobs that are drawn together have in common."""
        self.pace = *self.kind, str(chosen.get("solver"))
        """What jobs have in common whose time is proportional to their `work`."""
        self.steps = int(chosen.get("steps", 1))
        self.parts = torch.split(requested, BLOCK if request.to is None else min(BLOCK, request.count))
        self.part, self.done = 0, 0
        """The part that is drawn, and how many samples of it have been."""
        self.z: Tensor | None = None
        """The latents of that part, once there are some."""
        self.drawn: list[Tensor] = []

    @property
    def size(self) -> int:
        """Samples of the part that is drawn."""
        return len(self.parts[self.part])

    @property
    def left(self) -> int:
        """Samples of that part that are not there yet."""
        return self.size - self.done

    @property
    def work(self) -> int:
        """Steps of single samples that are not made yet."""
        return (len(self.requested) - self.there()) * self.steps

    @property
    def ended(self) -> bool:
        """Whether its answer is there, or will never be."""
        return self.answer.done()

    def next(self, generator: Generator, count: int) -> tuple[Tensor, Tensor]:
        """Return latents and encoded conditions of the next samples, (count, ...) each, under the options of ``generator``."""
        if self.z is None:
            seed = self.request.seed
            if self.request.to is None:
                self.z = generator.noise(self.size, keyed_generator(seed, "sample", self.part))
            else:
                z = generator.latents(1, keyed_generator(seed, "class interpolation"))
                self.z = z.expand(self.size, *z.shape[1:])
        here = slice(self.done, self.done + count)
        return self.z[here], self.parts[self.part][here]

    def tell(self, count: int, step: int, steps: int) -> None:
        """Report that ``step`` of ``steps`` were made with the next ``count`` samples."""
        if count == len(self.requested):
            self.report(step, steps, "steps")
        else:
            self.report(self.there() + count * step // steps, len(self.requested), "samples")

    def show(self, expected: Callable[[], Tensor] | None = None) -> None:
        """Preview the samples that are new, and what the next ones are ``expected`` to become, (B, *shape)."""
        if self.preview is not None and time.monotonic() > self.shown + BETWEEN:
            samples = torch.cat([*self.drawn, *([expected()] if expected else [])])
            self.preview(self.final, pictures(self.model.generator.space, samples[self.final :]))
            self.shown, self.final = time.monotonic(), self.there()

    def there(self) -> int:
        """Return the number of samples that are there."""
        return sum(map(len, self.drawn))

    def take(self, samples: Tensor) -> None:
        """Take the next samples (B, *shape); after the last ones the `answer` is there."""
        self.drawn.append(samples)
        self.done += len(samples)
        if not self.left:
            self.part, self.done, self.z = self.part + 1, 0, None
        if self.part == len(self.parts):
            self.finish()
        else:
            self.report(self.there(), len(self.requested), "samples")
            self.show()

    def finish(self) -> None:
        """Write the answer, unless it has ended."""
        if self.ended:
            return
        try:
            values = marked(torch.cat(self.drawn), self.request)
            samples = Samples(self.model.generator, self.requested, values, self.names, self.rows, self.origin)
            content = written(samples, self.form, {"id": self.id, "seed": self.request.seed})
        except Exception as error:  # such as too little memory
            self.fail(error)
            return
        with suppress(InvalidStateError):  # of one that was cancelled meanwhile
            self.answer.set_result(content)

    def fail(self, error: BaseException) -> None:
        """End it without an answer, unless it has ended."""
        if self.ended:
            return
        with suppress(InvalidStateError):
            self.answer.set_exception(error)
