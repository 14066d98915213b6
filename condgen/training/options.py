"""What the training of every family can be told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from condgen.errors import CondgenError
from condgen.spaces import Space
from condgen.tokens import Tokens
from condgen.training.schedules import Schedule
from condgen.types import BelowOne, Count, Positive, PositiveInt

Mode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
"""How torch.compile goes about it."""


@dataclass(frozen=True)
class Options:
    """How the networks of any family are trained.

    Attributes:
        ema: weight of the past in the exponential moving average of the generator, which is validated and sampled from, in
            [0, 1); 0 keeps no average.
        gradient_clip: largest norm of each optimizer's gradients; None clips nothing.
        warmup: updates over which the learning rates grow linearly from 0.
        decay: factor of the learning rates by the share of the training that is over; None leaves them as they are.
        channels_last: keep images and the weights of convolutions in this memory format, which some hardware prefers.
        compile: what torch.compile makes faster, at the price of a slow first step: "networks" (or true, or one of its modes,
            such as "reduce-overhead" for CUDA graphs); or "step", a whole update, with its optimizers and
            average, see `condgen.training.compiled`.
        expects: shape of the samples that the recipe was published for, as (C, H, W); None takes any.
    """

    ema: BelowOne = 0.0
    gradient_clip: Positive | None = None
    warmup: Count = 0
    decay: Schedule | None = None
    channels_last: bool = False
    compile: bool | Literal["networks", "step"] | Mode = False
    expects: Sequence[PositiveInt] | None = None

    def check(self, space: Space) -> None:
        """Refuse samples of another shape than the recipe was published for; raises CondgenError."""
        if self.expects is None or tuple(self.expects) == space.shape:
            return
        wanted, given = ("x".join(map(str, shape)) for shape in (self.expects, space.shape))
        if len(self.expects) != len(space.shape):
            kind = type(space).__name__.lower()
            other = "language" if isinstance(space, Tokens) else "gan_points"
            raise CondgenError(f"This model was published for {wanted} images and the data give {kind}: set model={other}.")
        raise CondgenError(
            f"This model was published for {wanted} images and the data give {given}: set data.image_size={self.expects[-1]} "
            f"data.channels={self.expects[0]}, or model.options.expects=null to train it on {given}."
        )

    @property
    def networks_compiled(self) -> bool:
        """Whether it is the networks that are compiled, each by itself."""
        return bool(self.compile) and self.compile != "step"

    @property
    def compile_mode(self) -> str | None:
        """The mode of torch.compile; None for its default."""
        return self.compile if isinstance(self.compile, str) and self.compile != "networks" else None

    def compiled(self, *networks: nn.Module) -> None:
        """Compile ``networks`` in place, where that is asked for: wrapped, they would get other names in the checkpoint."""
        for network in networks if self.networks_compiled else ():
            network.compile(mode=self.compile_mode)
