"""Whether a checkpoint belongs to a training: asked before anything is written."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from condgen.config.build import build
from condgen.errors import CondgenError

if TYPE_CHECKING:
    from condgen.training.base import Training


def require_fitting(training: "Training", checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse a checkpoint with which ``training`` cannot go on.

    Args:
        training: freshly built from the configuration.
        checkpoint: the content of the file ``path``.

    Raises:
        CondgenError: other samples, other conditions, another family, or weights of other shapes.
    """
    recipe = checkpoint["condgen"]
    fresh = "leave that as it was, or start a new run with run.finetune=RUN"
    space, before = training.space, build("space", recipe["space"])
    if space.shape != before.shape:
        wanted, given = ("x".join(map(str, one.shape)) for one in (before, space))
        raise CondgenError(f"{path} was trained on samples of {wanted} and the data now give {given}: {fresh}.")
    then, now = lasting(before.config()), lasting(space.config())
    if then != now:
        name = next(key for key in then | now if then.get(key) != now.get(key))
        raise CondgenError(f"{path} was trained on samples of another {name} than the data now give: {fresh}.")
    if recipe["condition"] != training.recipe["condition"]:
        raise CondgenError(
            f"{path} was trained under another condition ({short(recipe['condition'])}) than the data now give "
            f"({short(training.recipe['condition'])}): {fresh}."
        )
    family = type(training).__name__
    if (other := str(recipe["model"]["_target_"]).rpartition(".")[2]) != family:
        raise CondgenError(f"{path} holds a {other} and the run trains a {family}: put the run's own checkpoint back.")
    mine, theirs = training.state_dict(), checkpoint["state_dict"]
    if names := sorted(mine.keys() ^ theirs.keys()):
        raise CondgenError(
            f"{path} does not fit the model: {names[0]} and {len(names) - 1} other weights are only in one of the two; {fresh}."
        )
    for name, tensor in mine.items():
        if tensor.shape != theirs[name].shape:
            wanted, given = ("x".join(map(str, one.shape)) or "1" for one in (tensor, theirs[name]))
            raise CondgenError(f"{path} does not fit the model: {name} is {given} there and {wanted} here; {fresh}.")


def lasting(space: dict[str, Any]) -> dict[str, Any]:
    """Return what of a space's recipe decides what a sample means, without statistics of the data."""
    return {key: value for key, value in space.items() if key not in ("mean", "deviation")}


def short(condition: dict[str, Any]) -> str:
    """Say in a few words what a condition is."""
    kind = str(condition.get("_target_", "")).rpartition(".")[2]
    classes = condition.get("classes")
    return f"{kind}: {', '.join(map(str, classes[:8]))}{', ...' * (len(classes) > 8)}" if classes else kind
