"""Exported generators: folders of weights and plain text, read without running code, and those that ship as ``zoo:NAME``."""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

from condgen.errors import CondgenError

CONFIG, WEIGHTS, README = "config.json", "model.safetensors", "README.md"
"""The files of an exported generator: how to build it, its weights, its model card."""
FORMAT = 1
"""The layout of `CONFIG`; a greater number is of a newer condgen."""
ZOO = Path(__file__).parents[1] / "zoo"
"""Where the generators lie that ship with condgen, an exported folder each."""
SCHEME = "zoo:"
"""How the name of a shipped generator begins where a model is asked for."""
PREFIXES = {"ema": "ema.average.", "raw": "generator."}
"""Where a checkpoint has weights of either kind."""


def shipped() -> list[str]:
    """Return the names of the generators that ship with condgen."""
    return sorted(path.parent.name for path in ZOO.glob(f"*/{CONFIG}"))


def shipped_folder(name: str) -> Path:
    """Return the folder of the generator that ships as ``name``, without or with ``zoo:`` before it.

    Raises:
        CondgenError: there is none.
    """
    name, names = name.removeprefix(SCHEME), shipped()
    if name in names:
        return ZOO / name
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
    there = f"did you mean {' or '.join(near)}" if near != names else f"there are {', '.join(names) or 'none'}"
    raise CondgenError(f"No generator ships as {SCHEME}{name}: {there}; condgen zoo lists them.")


def is_exported(path: Path) -> bool:
    """Whether ``path`` is a folder that ``condgen export`` has written."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Read how an exported generator is built, and its card.

    Returns:
        ``format``, ``condgen`` (the version that wrote it), ``generator``, ``space``, ``condition`` and perhaps ``loss``, plain
        dicts with a ``_target_``; ``sampling``, options by name; ``weights``: ``sha256``, ``kind`` ("ema" or "raw"), ``dtype``;
        ``step``; ``evaluation``: the nodes ``data`` and ``extractor`` where they are known; and ``card``, see
        `condgen.exporting.card`.

    Raises:
        CondgenError: it is damaged, or of a newer condgen.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version = config["format"]
        parts = [config[key] for key in ("generator", "space", "condition", "sampling", "weights", "card", "evaluation")]
        whole = all(isinstance(part, dict) for part in parts) and isinstance(version, int) and isinstance(config["step"], int)
        whole = whole and {type(value) for value in config["sampling"].values()} <= {int, float, str}
        whole = whole and config["weights"]["kind"] in PREFIXES and isinstance(config["weights"]["sha256"], str)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CondgenError(f"{path} could not be read as the description of an exported generator: it is damaged.") from error
    if isinstance(version, int) and version > FORMAT:
        raise CondgenError(f"{folder} was exported by a newer condgen ({config.get('condgen')}): update this one.")
    if not whole:
        raise CondgenError(f"{path} could not be read as the description of an exported generator: it is damaged.")
    return dict(config)


def read_exported(folder: Path) -> dict[str, Any]:
    """Read an exported generator as a checkpoint is read: plain values and tensors, what `condgen.run.checkpoint.read` returns.

    Raises:
        CondgenError: it is damaged: a file cannot be read, or the weights are not those that were exported.
    """
    import safetensors.torch  # here: whoever only lists what ships needs no torch
    from safetensors import SafetensorError

    config, path = read_config(folder), folder / WEIGHTS
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != config["weights"]["sha256"]:
            raise CondgenError(f"{path} is damaged: its sha256 is not the one in {CONFIG}.")
        tensors = safetensors.torch.load(content)
    except (OSError, SafetensorError) as error:
        raise CondgenError(f"{path} could not be read as weights: it is damaged or cut short.") from error
    prefix = PREFIXES[config["weights"]["kind"]]
    recipe = {"model": {"generator": config["generator"]}} | {k: config.get(k) for k in ("space", "condition", "loss")}
    return {
        "condgen": recipe | {"seed": 0},
        "state_dict": {prefix + name: tensor for name, tensor in tensors.items()},
        "global_step": config["step"],
        "sampling": config["sampling"],
        "card": config["card"],
    }
