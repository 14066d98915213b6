"""The contract of a generator: what a run leaves behind, and all that the outside world uses of it.

A generator is a plain module. It knows its space, its condition and its sampling options, and needs no trainer, no
discriminator and no metric to draw samples.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL.Image import Image as Picture
from torch import Tensor, nn

from condgen.conditions import Condition
from condgen.errors import CondgenError
from condgen.generators.sampling import OPTIONS, check_option, truncated
from condgen.images import read_picture, to_picture
from condgen.randomness import generator as keyed_generator
from condgen.spaces import Space, Viewed
from condgen.tokens import Tokens

BLOCK = 250
"""Samples drawn at a time. Each block has a random stream of its own, so neither memory nor processes decide what is drawn."""

PIXELS = BLOCK * 32 * 32
"""Pixels made at a time: a block of images of 128 pixels a side would take tens of gigabytes within a wide network."""


class Generator(nn.Module, ABC):
    """A conditional generator: latents and encoded conditions in, samples out.

    Args:
        space: what a sample is.
        condition: what can be asked for.
    """

    family: ClassVar[str] = "generator"
    """What the field calls generators of this kind."""
    OPTIONS: ClassVar[tuple[str, ...]] = ("truncation", "temperature")
    """The sampling options that `set_sampling` takes."""
    MAKES: ClassVar[tuple[type[Space], ...] | None] = None
    """Spaces whose samples the family can make; None: all of numbers, so no texts."""

    def __init__(self, space: Space, condition: Condition):
        super().__init__()
        require_made(type(self), space)
        self.space = space
        self.condition = condition
        self.defaults: dict[str, Any] = {}
        """How samples are drawn unless something else is asked for, by sampling option."""
        self.sampling: dict[str, Any] = {}
        """How samples are drawn now, by sampling option; figures name it."""
        self.on_step: Callable[[int, int, Callable[[], Tensor]], None] | None = None
        """Called between the steps of a sampler that has some: how many are done, how many there are, and what returns the
        samples (B, *shape) that the next ones are expected to lead to."""
        self.card: dict[str, Any] | None = None
        """What is known of it: name, family, data, licence, figures, command, ...; None where it was not exported."""

    # --- what a family decides ---

    @abstractmethod
    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` latents (count, ...) on the CPU with ``generator``."""

    @abstractmethod
    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        """Turn latents (B, ...) into samples (B, *shape), one for each encoded condition (B, ...).

        Here, B has to be taken from a tensor's ``shape``: ``len`` would fix it in an exported graph.
        """

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """Refuse sampling options that this generator cannot follow; raises CondgenError."""

    @property
    def density(self) -> str | None:
        """What `likelihood` is of: "levels", the 256 of each pixel, or "bits", pixels drawn black or white; None: nothing."""
        return None

    def likelihood(self, x: Tensor, condition: Tensor, stream: torch.Generator, draws: int) -> dict[str, Tensor]:
        """Return how likely real samples are, where there is a `density`, in eval mode and without gradients.

        Args:
            x: samples (B, *shape), as in a batch.
            condition: encoded conditions (B, ...).
            stream: a CPU generator for whatever is drawn.
            draws: how many times noise is drawn for each sample, where a bound is tightened by it.

        Returns:
            Values (B,) by the names in `condgen.metrics.catalogue.LIKELIHOODS`: nats, or bits per dimension.
        """
        raise NotImplementedError(f"A {type(self).__name__} has no likelihood.")

    # --- sampling ---

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def set_sampling(self, **options: float | str | None) -> None:
        """Decide how samples are drawn from now on; an option that is None or left out has its default.

        Args:
            truncation: bound of the normal noise, in standard deviations: smaller gives better samples that differ less.
            temperature: factor of the noise.
            standing: number of batches of 250 samples over which batch norm's statistics are measured anew (GANs).
            guidance: scale of classifier-free guidance; 1 is none.
            steps: number of steps of the ODE solver.
            solver: name of the ODE solver.
            top_k: number of the likeliest characters among which the next one is drawn.
            top_p: probability that these have together.

        Raises:
            CondgenError: this family has no such option, or the value cannot be.
        """
        chosen = self.chosen_sampling(**options)
        self.sampling = {name: value for name, value in chosen.items() if (name, value) != ("guidance", 1)}  # that is none

    def chosen_sampling(self, **options: float | str | None) -> dict[str, Any]:
        """Return every option that decides how samples would be drawn, given or by default; see `set_sampling`."""
        given = {name: value for name, value in options.items() if value is not None}
        for name in given:
            if name not in self.OPTIONS:
                has = f"it has {', '.join(self.OPTIONS)}" if self.OPTIONS else "it has no sampling options"
                raise CondgenError(f"A {type(self).__name__} cannot be sampled with {name}: {has}.")
        chosen = self.defaults | given
        for name, value in chosen.items():
            check_option(name, value)
        self.check_sampling(chosen)
        return chosen

    def trained_state(self) -> dict[str, Tensor]:
        """Return the weights as they were trained, whatever a sampling option has made of them."""
        return self.state_dict()

    def sampling_schema(self) -> dict[str, Any]:
        """Return the sampling options of this generator as a JSON schema of an object, with defaults and useful ranges."""
        properties = {name: OPTIONS[name].schema(self.defaults.get(name)) for name in self.OPTIONS}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def draw(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        """Generate one sample (B, *shape) for each encoded condition (B, ...), with noise from the CPU ``generator``."""
        return self.render(self.noise(len(condition), generator), condition)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the latents (count, ...) of samples on the CPU with ``generator``, as the sampling options say."""
        z = self.latents(count, generator)
        if "truncation" in self.sampling:
            z = truncated(z, self.sampling["truncation"])
        return z * float(self.sampling.get("temperature", 1.0))

    def render(self, z: Tensor, condition: Tensor) -> Tensor:
        """Turn latents (B, ...) into finished samples (B, *shape), one for each encoded condition (B, ...).

        Of images that are larger than 32x32 some are made at a time, unless that takes several steps, which are told of all.
        """
        shape = self.space.shape
        large = len(shape) == 3 and "steps" not in self.sampling
        size = max(1, min(BLOCK, PIXELS // (shape[1] * shape[2]))) if large else BLOCK
        if size >= BLOCK:
            return self.condition.finish(self.decode(z.to(self.device), condition), condition)
        pieces = zip(torch.split(z.to(self.device), size), torch.split(condition, size), strict=True)
        return torch.cat([self.condition.finish(self.decode(some, wanted), wanted) for some, wanted in pieces])

    def sample(
        self, condition: Any = None, count: int = 1, *, seed: int = 0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Generate ``count`` samples for each condition, in eval mode.

        Args:
            condition: a class index or name, a text like ``"0-9"`` or ``"digit=3,colour=red"``, a list of these, or encoded
                conditions (N, ...); None asks for every class (for nothing, where the generator is unconditional).
            count: samples for each condition.
            seed: the same seed gives the same samples, whatever the number of processes.
            generator: a CPU generator that is used instead of ``seed``.

        Returns:
            (N * count, *space.shape) on the generator's device; those of one condition lie together.
        """
        blocks = torch.split(self.requested(condition, count, seed), BLOCK)
        return torch.cat([self.sample_block(i, block, seed, generator) for i, block in enumerate(blocks)])

    def show(
        self, condition: Any = None, count: int | None = None, *, image: str | Path | None = None, seed: int = 0
    ) -> Picture:
        """Draw samples as one picture, which a notebook shows and ``save`` writes to a file.

        Args:
            condition: see `sample`.
            count: samples for each condition; None: as many as look well.
            image: a file to start from, for a generator that needs one.
            seed: see `sample`.

        Returns:
            Of images a grid, a row for each condition where there are several, in which what a sample starts from comes first;
            of points a scatter with a colour for each condition.

        Example:
            ``model.show("0-9", count=8).save("digits.png")``
        """
        if image is None and condition is not None:
            wanted = self.condition.encode(condition)
        else:
            wanted = self.condition.ask(condition, None if image is None else read_picture(image, self.space))
        conditions = self.requested(wanted, count or self.space.layout(len(wanted))[0], seed)
        return to_picture(self.picture(self.sample(conditions, seed=seed), conditions, len(wanted)))

    def picture(self, samples: Tensor, conditions: Tensor, rows: int) -> Tensor:
        """Arrange samples (rows * n, *shape) of encoded conditions (rows * n, ...) as `show` does, uint8 (3, H, W)."""
        samples, space = samples.cpu(), self.space
        if self.condition.image is not None and isinstance(space, Viewed):
            samples, space = space.viewed(samples), space.view
            ours = samples.view(rows, -1, *samples.shape[1:])
            theirs = self.starts(conditions.cpu()).reshape(ours.shape)[:, :1]
            samples = torch.cat([theirs, ours], dim=1).flatten(0, 1)
        return space.grid(samples, space.layout(rows, len(samples) // rows)[1])

    def starts(self, conditions: Tensor) -> Tensor:
        """Return the images (N, *view.shape) that samples for encoded ``conditions`` start from; what is unknown is grey."""
        assert isinstance(self.space, Viewed)
        channels = self.space.view.shape[0]
        return self.condition.map(conditions)[:, :channels].expand(-1, channels, -1, -1)

    def requested(self, condition: Any = None, count: int = 1, seed: int = 0) -> Tensor:
        """Return the encoded conditions (N * count, ...) for which `sample` draws: what a user leaves open is drawn too."""
        if count < 1:
            raise CondgenError(f"count must be at least 1, not {count}.")
        encoded = self.condition.ask(None) if condition is None else self.condition.encode(condition)
        return self.condition.fill(encoded.repeat_interleave(count, dim=0), keyed_generator(seed, "condition"))

    @torch.inference_mode()
    def sample_block(self, index: int, condition: Tensor, seed: int, generator: torch.Generator | None = None) -> Tensor:
        """Generate block ``index`` of what `sample` would, for its encoded conditions (at most `BLOCK`, ...)."""
        with evaluating(self):
            return self.draw(condition.to(self.device), generator or keyed_generator(seed, "sample", index))


def require_made(family: type[Generator], space: Space) -> None:
    """Refuse samples of a space that the family cannot make; raises CondgenError."""
    if isinstance(space, family.MAKES or object) and (family.MAKES or not isinstance(space, Tokens)):
        return
    kind = "text" if isinstance(space, Tokens) else type(space).__name__.lower()
    remedy = "set model=language" if isinstance(space, Tokens) else "set data=text, or another model"
    raise CondgenError(f"The data give {kind} and a {family.family} makes none: {remedy}.")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and each back into its own mode afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
