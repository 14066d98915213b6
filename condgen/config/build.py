"""From configuration to objects: how targets are called, which targets a stored config may name."""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from condgen.errors import CondgenError

TRUSTED = ("condgen.", "torch.nn.", "torch.optim.", "torchvision.transforms.", "albumentations.")
"""Where the classes that a stored config may name have to be defined, unless the user trusts the file."""


def plain(config: DictConfig) -> dict[str, Any]:
    """Resolve all interpolations and return plain dicts and lists."""
    if missing := missing_key(config):
        raise CondgenError(f"{missing} has no value: give {missing}=VALUE.")
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise CondgenError(f"The configuration is incomplete: {sentence(error)}") from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def missing_key(config: DictConfig) -> str | None:
    """Return the first key that has no value, None if all have one."""
    try:
        return min(OmegaConf.missing_keys(config), default=None)
    except OmegaConfBaseException as error:  # an interpolation leads to it
        found = re.search(r"Missing mandatory value: ([\w.]+\w)", str(error))
        return found[1] if found else None


def build(key: str, node: dict[str, Any], **arguments: Any) -> Any:
    """Instantiate the object that ``node`` describes, its parts first, and call it with ``arguments`` too.

    Args:
        key: where ``node`` stands in the configuration, for messages.
        node: a plain dict with a ``_target_``.
        **arguments: what the configuration cannot hold, e.g. the space of the data.

    Raises:
        CondgenError: an argument is unknown, missing or out of range.
    """
    try:
        make: Callable[..., Any] = instantiate(node, _partial_=True, _convert_="all")
        return make(**arguments)
    except CondgenError:
        raise
    except InstantiationException as error:
        if isinstance(error.__cause__, CondgenError):
            raise error.__cause__ from None
        raise CondgenError(f"{key}: {sentence(error.__cause__ or error)}") from error
    except (TypeError, ValueError) as error:
        raise CondgenError(f"{key}: {sentence(error)}") from error


def sentence(error: BaseException) -> str:
    """Return the first line of an error's text as a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(" .:") + "."


def check_stored(config: Any, source: Path, trust: bool = False) -> None:
    """Let a stored config name nothing but condgen's classes, torch's layers and optimizers, and transforms of images.

    What counts is where a class is defined, not the path under which it can be reached (``condgen.x.os.system``).

    Args:
        config: plain dicts and lists.
        source: the file they come from, for the message.
        trust: the user vouches for the file; nothing is checked.

    Raises:
        CondgenError: another target, or an interpolation, which a resolved config does not contain.
    """
    if trust:
        return
    if isinstance(config, dict):
        if "_target_" in config and not is_trusted(config["_target_"]):
            raise CondgenError(
                f"{source} names the target {config['_target_']!r}, which is neither condgen's nor a layer or optimizer of "
                "torch; if you trust the file, pass --trust."
            )
        for value in config.values():
            check_stored(value, source)
    elif isinstance(config, (list, tuple)):
        for value in config:
            check_stored(value, source)
    elif isinstance(config, str) and "${" in config:
        raise CondgenError(f"{source} contains the interpolation {config!r}; if you trust the file, pass --trust.")


def is_trusted(target: Any) -> bool:
    """Whether ``target`` is the dotted path of a class that is defined under one of the trusted packages."""
    if not isinstance(target, str) or not target.startswith(TRUSTED):
        return False
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return isinstance(found, type) and f"{found.__module__}.".startswith(TRUSTED)
