"""Writes a generator as a folder that loads anywhere condgen is installed: weights, a plain description, a model card."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from condgen.errors import CondgenError
from condgen.exporting.readme import model_card
from condgen.files import filling, write_json, write_text
from condgen.generators.base import Generator
from condgen.run.exported import CONFIG, FORMAT, README, WEIGHTS


def write_folder(
    out: Path,
    generator: Generator,
    recipe: Mapping[str, Any],
    *,
    kind: str,
    step: int,
    half: bool,
    card: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> None:
    """Write ``model.safetensors``, ``config.json`` and ``README.md`` into a new folder: all of them, or nothing.

    Args:
        out: a folder that is empty, or not there yet.
        generator: as it was loaded, with the sampling options that it will have by default.
        recipe: of its checkpoint, plain dicts.
        kind: of its weights, "ema" or "raw".
        step: updates that it was trained for.
        half: write the parameters in 16 bits; statistics and counters stay as they are.
        card: see `condgen.exporting.card.card_of`; its name, size, and number of parameters are written here.
        evaluation: the nodes ``data`` and ``extractor`` that measure it.

    Raises:
        CondgenError: a weight that 16 bits cannot hold, a path of this machine in the recipe, or a place that cannot be used.
    """
    weights = save(tensors(generator, half))
    sizes = {"parameters": sum(p.numel() for p in generator.parameters()), "bytes": len(weights), "bits": 16 if half else 32}
    card = {"name": out.resolve().name} | dict(card) | sizes
    config = {
        "format": FORMAT,
        "condgen": version("condgen"),
        **parts(generator, recipe),
        "sampling": generator.sampling,
        "weights": {"sha256": hashlib.sha256(weights).hexdigest(), "kind": kind, "dtype": "float16" if half else "float32"},
        "step": step,
        "evaluation": dict(evaluation),
        "card": card,
    }
    with filling(out) as folder:
        (folder / WEIGHTS).write_bytes(weights)
        write_json(folder / CONFIG, config)
        write_text(folder / README, model_card(config))


def tensors(generator: Generator, half: bool) -> dict[str, Tensor]:
    """Return the state dict, each tensor with memory of its own; with ``half`` the parameters as float16."""
    parameters = {name for name, _ in generator.named_parameters(remove_duplicate=False)}
    found = {}
    for name, tensor in generator.state_dict().items():
        narrow = half and name in parameters
        found[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        if narrow:
            found[name] = found[name].to(torch.float16)
            if not bool(found[name].isfinite().all()):
                raise CondgenError(f"--half: the weights {name} exceed 65,504, the most that 16 bits hold; leave --half out.")
    return found


def parts(generator: Generator, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what rebuilds the generator: its node, its space, its condition, and its loss where its constructor takes one."""
    node = {key: value for key, value in recipe["model"]["generator"].items() if key != "_partial_"}
    found = {"generator": node, "space": generator.space.config(), "condition": generator.condition.config()}
    if "loss" in signature(type(generator)).parameters:
        found["loss"] = recipe["loss"]
    for key in ("generator", "loss"):
        require_no_path(found.get(key), "model.generator" if key == "generator" else key)
    return found


def require_no_path(node: Any, where: str) -> None:
    """Refuse a description that names a file of this machine, which nobody else has; raises CondgenError."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        require_no_path(value, f"{where}.{key}")
    if isinstance(node, str) and Path(node).is_absolute():
        raise CondgenError(f"{where}={node} is a path of this machine, which an exported generator cannot depend on.")
