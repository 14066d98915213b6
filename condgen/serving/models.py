"""The models that a server has: loaded once, described as the API does, each under a name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from condgen.conditions import ClassLabel, NoCondition
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.run.checkpoint import load
from condgen.samples import digest_of
from condgen.serving.messages import Limits, Model, Space
from condgen.spaces import Viewed

CHECKPOINTS = {"checkpoints", "best", "last"}
"""What names of files say nothing of their model."""


@dataclass(frozen=True)
class Served:
    """A model under its name.

    Attributes:
        name: by which requests choose it.
        generator: itself, in eval mode.
    """

    name: str
    generator: Generator

    @cached_property
    def sampling(self) -> dict[str, Any]:
        """JSON schema of the sampling options; `standing` is left out, which changes a model for everybody who asks it."""
        schema = self.generator.sampling_schema()
        schema["properties"].pop("standing", None)
        return schema

    @property
    def quick(self) -> bool:
        """Whether conditions are encoded at once: classes are, while ranges of numbers become many and images are decoded."""
        return isinstance(self.generator.condition, ClassLabel | NoCondition)

    @cached_property
    def weights(self) -> str:
        """SHA-256 of the weights, which nothing changes while they are served."""
        return digest_of(self.generator)

    def described(self, limits: Limits) -> Model:
        """Return what the API says of it."""
        generator, card = self.generator, self.generator.card
        space = generator.space
        return Model(
            name=self.name,
            family=generator.family,
            space=Space(
                kind=type(space).__name__.lower(),
                shape=list(space.shape),
                view=list(space.view.shape) if isinstance(space, Viewed) else None,
                file=space.suffix.removeprefix("."),
            ),
            condition=generator.condition.schema(),
            sampling=self.sampling,
            limits=limits,
            card=card,
            figures=list((card or {}).get("figures") or []),
            weights=self.weights,
        )


def load_models(sources: Sequence[str], trust: bool = False) -> dict[str, Served]:
    """Load models by their names: of their cards, else of their folders, or as ``NAME=SOURCE`` says.

    Raises:
        CondgenError: one cannot be loaded, or two have one name.
    """
    models: dict[str, Served] = {}
    for source in sources:
        given, separator, place = source.partition("=")
        if not separator or Path(source).exists():
            given, place = "", source
        generator: Generator = load(place, trust)
        name = given or str((generator.card or {}).get("name") or named(place))
        if name in models:
            raise CondgenError(f"Two models would be called {name}: give one a name of its own, NAME={place}.")
        models[name] = Served(name, generator)
    return models


def named(source: str) -> str:
    """Return a name for a model without a card: of ``zoo:NAME`` the name, of a file or a folder that of the run's folder."""
    path = Path(source.removeprefix("zoo:")).absolute()
    while path.stem in CHECKPOINTS and path.parent != path:
        path = path.parent
    return path.stem if path.suffix == ".ckpt" else path.name
