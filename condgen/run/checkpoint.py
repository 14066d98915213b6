"""Reading checkpoints: safely, and back into a model that samples without its data."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from condgen.config.build import build, check_stored
from condgen.errors import CondgenError
from condgen.training.base import GenerativeModel


def find(path: str | Path) -> Path:
    """Return the checkpoint file that ``path`` means: itself, or the best (else the last) one of a run directory.

    Raises:
        CondgenError: there is none.
    """
    path = Path(path)
    if path.is_dir():
        candidates = [path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        raise CondgenError(f"{path} holds no checkpoint: expected {candidates[0]} or {candidates[1].name} beside it.")
    if not path.is_file():
        raise CondgenError(f"There is no checkpoint {path}: give a .ckpt file or a run directory.")
    return path


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code from it (``weights_only=True``).

    Raises:
        CondgenError: it is damaged, not condgen's, or contains anything but tensors and plain values.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CondgenError(f"{path} was refused: it is no checkpoint, or holds more than tensors and plain values.") from error
    except Exception as error:  # on arbitrary bytes its parsers raise whatever they stumble over
        raise CondgenError(f"{path} could not be read as a checkpoint: it is damaged or cut short.") from error
    if not isinstance(checkpoint, dict) or not {"condgen", "state_dict"} <= checkpoint.keys():
        raise CondgenError(f"{path} is not a checkpoint of condgen's.")
    return checkpoint


def build_model(recipe: dict[str, Any]) -> GenerativeModel:
    """Build the model that ``recipe`` describes: plain dicts ``model``, ``loss``, ``condition``, ``space`` and the seed."""
    model = build(
        "model",
        recipe["model"],
        space=build("space", recipe["space"]),
        condition=build("condition", recipe["condition"]),
        loss=build("loss", recipe["loss"]),
        seed=recipe["seed"],
    )
    if not isinstance(model, GenerativeModel):
        raise CondgenError(f"model must be a GenerativeModel, not {type(model).__name__}.")
    model.recipe = recipe
    return model


def device_of(name: str) -> torch.device:
    """Return the device ``name``; raises CondgenError if it is not here."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise CondgenError(f"--device {name} is not available here: use cpu.") from error


def load(path: str | Path, trust: bool = False) -> GenerativeModel:
    """Load a trained model, on the CPU and in eval mode, ready to ``sample``.

    Args:
        path: a checkpoint, or a run directory (its best checkpoint, else its last).
        trust: accept targets beyond condgen's classes and torch's layers and optimizers; only for files you made.

    Raises:
        CondgenError: no checkpoint, a damaged one, or one that names foreign code.
    """
    path = find(path)
    return restore(read(path), path, trust)


def restore(checkpoint: dict[str, Any], path: Path, trust: bool = False) -> GenerativeModel:
    """Return the trained model in a ``checkpoint`` that was read from ``path``; see `load`."""
    recipe = checkpoint["condgen"]
    if not isinstance(recipe, dict) or not {"model", "loss", "condition", "space", "seed"} <= recipe.keys():
        raise CondgenError(f"{path} does not say which model it holds.")
    check_stored(recipe, path, trust)
    model = build_model(recipe)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise CondgenError(f"The weights in {path} do not fit the model that it describes.") from error
    return model.eval()
