"""Generators whose samples can be guided: their condition was dropped at times in training (Ho & Salimans 2022)."""

from collections.abc import Mapping
from typing import Any

from condgen.errors import CondgenError
from condgen.generators.base import Generator


class Guided(Generator):
    """A generator with the sampling option ``guidance``, 1 for none."""

    condition_dropout: float
    """Probability with which the condition was dropped in training."""

    @property
    def guidable(self) -> bool:
        """Whether there is a condition, and it was dropped at times in training."""
        return bool(self.condition.width or self.condition.map_shape is not None) and self.condition_dropout > 0

    def sampling_schema(self) -> dict[str, Any]:
        """See `Generator.sampling_schema`; guidance is there where samples can be guided."""
        schema = super().sampling_schema()
        if not self.guidable:
            del schema["properties"]["guidance"]
        return schema

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """Refuse guidance where no null was trained."""
        if sampling.get("guidance", 1) == 1 or self.guidable:
            return
        if not self.condition.width and self.condition.map_shape is None:
            raise CondgenError("guidance compares samples with and without a condition, and this model is unconditional.")
        raise CondgenError(
            "guidance needs a model that was trained without its condition too: this one has "
            "model.generator.condition_dropout=0."
        )
