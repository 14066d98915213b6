"""What a search may try, in Hydra's words: ``choice(..)``, ``range(..)``, ``interval(..)``, ``int(..)``, ``tag(log,..)``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from condgen.errors import CondgenError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Space = dict[str, "BaseDistribution"]
"""What is searched: dotted keys and the values to draw from."""


def split(params: Mapping[str, Any], arguments: list[str], loader: ConfigLoader) -> tuple[Space, list[str]]:
    """Return what is searched, and the overrides that all trials share.

    Args:
        params: ``hydra.sweeper.params``.
        arguments: the command line, which wins where both name a key.
        loader: Hydra's, for ``glob(...)``.

    Raises:
        CondgenError: nothing is searched, the seed is, or a range is empty.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(
        [*(f"{key}={value}" for key, value in params.items()), *arguments]
    )
    overrides = {override.get_key_element(): override for override in parsed}
    space = {key: distribution(key, override) for key, override in overrides.items() if override.is_sweep_override()}
    if not space:
        raise CondgenError("Nothing to search: write KEY=interval(LOW,HIGH) or KEY=choice(A,B), or hparams_search=NAME.")
    if "seed" in space:
        raise CondgenError("A search does not choose the seed: sweep the best settings with --multirun seed=0,1,2 afterwards.")
    return space, [str(override.input_line) for key, override in overrides.items() if key not in space]


def distribution(key: str, override: Override) -> "BaseDistribution":
    """Turn a sweep of Hydra's into a distribution of Optuna's; ``int(interval(2,9))`` has whole numbers, 9 among them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            low, high, log = cast(float, value.start), cast(float, value.end), "log" in value.tags
            if {type(low), type(high)} == {int}:
                return IntDistribution(int(low), int(high), log=log)
            return FloatDistribution(low, high, log=log)
        if isinstance(value, RangeSweep):
            numbers, log = sorted(value.range()), "log" in value.tags
            if all(isinstance(number, int) for number in numbers):
                return IntDistribution(int(numbers[0]), int(numbers[-1]), log=log, step=abs(int(value.step)))
            return FloatDistribution(numbers[0], numbers[-1], log=log, step=abs(value.step))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise CondgenError(f"{override.input_line} leaves nothing to search: {str(error).rstrip('.')}.") from error


def written(value: Any) -> str:
    """Write a drawn value as an override's right-hand side."""
    return value if isinstance(value, str) else repr(value)


def example(space: Space) -> list[str]:
    """Return one point of the space as overrides, to try whether its keys exist."""
    points = {key: getattr(drawn, "choices", None) or (getattr(drawn, "low", None),) for key, drawn in space.items()}
    return [f"{key}={written(values[0])}" for key, values in points.items()]
