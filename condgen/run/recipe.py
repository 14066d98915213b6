"""A model's recipe, the plain dicts ``model``, ``loss``, ``condition`` and ``space`` with the seed, and what it builds."""

from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any

from hydra.utils import get_class

from condgen.config.build import build
from condgen.errors import CondgenError
from condgen.generators.base import Generator

if TYPE_CHECKING:
    from condgen.training.base import Training

Recipe = dict[str, Any]
KEYS = {"model", "loss", "condition", "space", "seed"}


def build_training(recipe: Recipe) -> "Training":
    """Build the training that ``recipe`` describes, its generator included; raises CondgenError if it cannot be."""
    from condgen.training.base import Training  # here: whoever only samples needs no Lightning

    training = build(
        "model",
        recipe["model"],
        space=build("space", recipe["space"]),
        condition=build("condition", recipe["condition"]),
        loss=build("loss", recipe["loss"]),
        seed=recipe["seed"],
    )
    if not isinstance(training, Training):
        raise CondgenError(f"model must be a condgen.training.base.Training, not {type(training).__name__}.")
    training.recipe = recipe
    return training


def build_generator(recipe: Recipe, check: Callable[[Any], None]) -> Generator:
    """Build the generator alone: what only training needs is neither checked nor imported.

    Args:
        recipe: as a checkpoint keeps it.
        check: is given each node before anything of it is imported, and raises what it has against it.

    Raises:
        CondgenError: the generator cannot be built.
    """

    def part(key: str) -> Any:
        check(recipe[key])
        return build(key, recipe[key])

    node = recipe["model"].get("generator") if isinstance(recipe["model"], dict) else None
    check(node)
    if not isinstance(node, dict) or "_target_" not in node:
        raise CondgenError("model.generator is missing: the recipe does not say which class it is.")
    arguments = {"space": part("space"), "condition": part("condition")}
    if "loss" in signature(get_class(node["_target_"])).parameters:  # which decides what the outputs of a VAE or a flow mean
        arguments["loss"] = part("loss")
    generator = build("model.generator", node | {"_partial_": False}, **arguments)
    if not isinstance(generator, Generator):
        raise CondgenError(f"model.generator must be a condgen.generators.base.Generator, not {type(generator).__name__}.")
    return generator
