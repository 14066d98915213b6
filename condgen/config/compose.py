"""Composition: what the command line or a caller chooses in conf/ becomes one tree; mistakes are answered in a sentence."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from condgen.config.build import sentence
from condgen.config.folder import choices, conf_dir, groups
from condgen.config.renamed import CHOICES, new_name
from condgen.config.sentences import close, shown
from condgen.errors import CondgenError

RECIPE = "experiment=mnist_quick"
"""What a run is that nobody chose anything for."""


def run_name(choices: Mapping[str, str], overrides: Sequence[str]) -> str:
    """Return what a run is called: as its recipe, else as its data and its model; what a sweep varies is left out.

    Args:
        choices: the choice in each group.
        overrides: the command line.
    """
    varied = {group for group, _, value in (str(override).partition("=") for override in overrides) if re.search("[,(]", value)}
    if choices["experiment"] != "none" and "experiment" not in varied:
        return choices["experiment"]
    named = [] if "experiment" in varied else [choices[group] for group in ("data", "model") if group not in varied]
    return "-".join(named) or "sweep"


OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def with_recipe(arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` and, where they choose neither recipe nor data nor model, the recipe of everybody's first run."""
    chosen = any(re.match(r"(experiment|data|model)=", argument) for argument in arguments)
    completing = {"-sc", "--shell-completion"} & set(arguments)
    if chosen or completing:
        return [*arguments]
    # Beside the other overrides: Hydra's parser wants all of them in one place among the options.
    first = next((i for i, argument in enumerate(arguments) if "=" in argument.lstrip("-")), len(arguments))
    return [*arguments[:first], RECIPE, *arguments[first:]]


def refuse_nameless_choices(arguments: Sequence[str]) -> None:
    """Refuse ``group=null``, ``group=[null]`` and ``group=1.5``, over which Hydra stumbles; raises CondgenError."""
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            override = parser.parse_override(argument)
            value = override.value()
        except HydraException:  # explained when all are composed
            continue
        if override.key_or_group not in groups() or isinstance(value, Glob) or (override.is_delete() and value is None):
            continue
        named = value.list if isinstance(value, ChoiceSweep) else value
        for one in named if isinstance(named, list) else [named]:
            parts = one if isinstance(one, list) else [one]
            if not all(isinstance(part, str | QuotedString) for part in parts):
                raise CondgenError(f"{argument} chooses nothing: choose one of {', '.join(choices(override.key_or_group))}.")


@contextlib.contextmanager
def composing(arguments: Sequence[str] = (), name: str = "train") -> Iterator[None]:
    """Let Hydra compose from conf/, and answer mistakes in a sentence; whoever calls may use Hydra too.

    Args:
        arguments: what is composed, and
        name: of which file in conf/, for the sentence about a mistake.

    Raises:
        CondgenError: a choice or a key that does not exist.
    """
    refuse_nameless_choices(arguments)
    try:
        with initialized():
            yield
    except (HydraException, OmegaConfBaseException) as error:
        raise CondgenError(explain(error, arguments, name)) from error


@contextlib.contextmanager
def initialized() -> Iterator[None]:
    """Let Hydra know conf/, and leave its global state as it was."""
    state, config = GlobalHydra.instance(), HydraConfig.instance()
    before = state.hydra, config.cfg
    state.clear()
    try:
        with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
            yield
    finally:
        GlobalHydra.set_instance(state)  # Hydra puts a copy back
        state.hydra, config.cfg = before


def by_choices(verb: str, overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the plain configuration of ``verb`` by the choices among ``overrides``, and those of keys, still to be applied.

    Those of keys wait, since what was chosen nowhere may yet come from a run's own configuration.

    Raises:
        CondgenError: a choice or a key that does not exist.
    """
    deep = [override for override in overrides if "." in override.partition("=")[0]]
    with composing(overrides, verb):
        tree = compose(verb, [override for override in overrides if override not in deep])
    return cast(dict[str, Any], OmegaConf.to_container(tree, resolve=False)), deep


def explain(error: Exception, arguments: Sequence[str] = (), name: str = "train") -> str:
    """Say in one sentence what Hydra found wrong with the command line.

    Args:
        error: Hydra's.
        arguments: the command line.
        name: of the file in conf/ that was composed.
    """
    text = " ".join(str(part) for part in (error, error.__cause__ or ""))
    if match := re.search(r"Could not find '([^/']+(?:/[^/']+)*)/([^/']+)'", text):
        group, choice = match.groups()
        if new := CHOICES.get(f"{group}={choice}"):
            return f"{group}={choice} is called {new} today."
        if (group, choice) == ("hydra/launcher", "joblib"):
            return "hydra/launcher=joblib needs its plugin: pip install 'condgen[sweep]'."
        known = choices(group)
        return f"{group}={choice} does not exist: choose one of {', '.join(known)}{close(choice, known)}."
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match[1]
        tree = composed([one for one in arguments if is_choice(one)], name)
        if new := new_name(key, dict.fromkeys(groups()) | tree):
            return f"{key} is called {new} today."
        known = sorted({*groups(), *leaves(tree)})
        if key in known:
            return f"{key} belongs to what is left out on this command line: put one of the two back."
        return f"Unknown key {key!r}: condgen train --cfg job shows all keys{close(key, known)}; +{key}=... would add it."
    if match := re.search(r"An item is already at '([^']+)'", text):
        return f"{match[1]} is there already: write it without the +."
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.*)'", text):
        key, value = match.groups()
        return f"{key}={value} names several values: write {key}=[{value}] for a list, '{key}=\"{value}\"' for a text."
    said = shown(error.override) if isinstance(error, OverrideParseException) else f"The command line ({sentence(error)[:-1]})"
    return (
        f"{said} was not understood: write GROUP=CHOICE or KEY=VALUE, and a VALUE with other characters than letters, digits "
        "and -./: in quotes, 'KEY=\"VALUE\"'."
    )


def is_choice(argument: str) -> bool:
    """Whether an argument chooses one file in a group."""
    group, _, choice = argument.partition("=")
    return group in groups() and choice in choices(group)


def composed(choices: Sequence[str], name: str) -> dict[str, Any]:
    """Return the tree that ``choices`` make of a file in conf/, interpolations as they are; nothing where they make none."""
    with contextlib.suppress(HydraException, OmegaConfBaseException), initialized():
        return cast(dict[str, Any], OmegaConf.to_container(compose(name, [*choices])))
    return {}


def leaves(node: Any, above: str = "") -> list[str]:
    """Return the dotted keys of plain dicts."""
    if not isinstance(node, dict):
        return [above]
    return [key for name, child in node.items() for key in leaves(child, f"{above}.{name}" if above else str(name))]
