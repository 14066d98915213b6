"""A model's recipe, the plain dicts ``model``, ``loss``, ``condition`` and ``space`` with the seed, and what it builds."""

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


def build_generator(recipe: Recipe) -> Generator:
    """Build the generator alone; raises CondgenError if it cannot be."""
    node = recipe["model"]["generator"]
    arguments = {"space": build("space", recipe["space"]), "condition": build("condition", recipe["condition"])}
    if "loss" in signature(get_class(node["_target_"])).parameters:  # which decides what the outputs of a VAE or a flow mean
        arguments["loss"] = build("loss", recipe["loss"])
    generator = build("model.generator", node | {"_partial_": False}, **arguments)
    if not isinstance(generator, Generator):
        raise CondgenError(f"model.generator must be a condgen.generators.base.Generator, not {type(generator).__name__}.")
    return generator
