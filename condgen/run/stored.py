"""Runs on disk: whose a file is, and how runs are named and told apart by their configurations."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condgen.config.build import check_stored
from condgen.config.reading import read_plain
from condgen.errors import CondgenError
from condgen.run.legacy import converted_config

TELLING = ("model", "loss", "data", "condition", "trainer")
"""Where runs are told apart first."""
MOST = 3
"""Settings that a label shows at most, if fewer tell the runs apart."""
APART = ("run", "paths", "logger", "extras")
"""What does not tell runs apart: where they lie and what they say."""
Identity = tuple[str, tuple[tuple[str, str], ...]]
"""A run's name and settings: equal for repetitions of one run with other seeds."""


@dataclass(frozen=True)
class Run:
    """A run as its ``config.yaml`` describes it.

    Attributes:
        name: ``run.name``, by default the recipe's.
        settings: dotted keys and values without seeds, the run's own folder and loggers.
        seeds: every seed that decides the weights; different for repetitions with another seed.
    """

    name: str
    settings: tuple[tuple[str, str], ...]
    seeds: tuple[tuple[str, str], ...]

    @property
    def identity(self) -> Identity:
        """Equal for repetitions of one run."""
        return self.name, self.settings

    @property
    def order(self) -> tuple[int, str]:
        """Sorts seeds as numbers."""
        return len(self.seed), self.seed

    @property
    def seed(self) -> str:
        """The seed that the user gave."""
        return dict(self.seeds)["seed"]


def run_of(checkpoint: Path) -> Path | None:
    """Return the directory of the run that wrote a checkpoint; None for one that lies elsewhere, and for an exported folder."""
    directory = checkpoint.resolve().parent.parent
    return directory if checkpoint.is_file() and (directory / "config.yaml").is_file() else None


def find_run(path: Path) -> Run | None:
    """Return the run that the file ``path`` belongs to: that of the nearest folder above with a ``config.yaml``.

    Raises:
        CondgenError: the configuration is damaged.
    """
    for folder in path.absolute().parents:
        if (folder / "config.yaml").is_file():
            return read_run(folder / "config.yaml")
    return None


def stored_config(directory: Path, trust: bool) -> dict[str, Any]:
    """Read the configuration of the run in ``directory``, safely, under today's names.

    Args:
        directory: the run directory.
        trust: accept foreign targets.

    Raises:
        CondgenError: there is no run, or its configuration is damaged or names foreign code.
    """
    path = directory / "config.yaml"
    if not path.is_file():
        raise CondgenError(f"{directory} is not a run directory: it has no config.yaml.")
    try:
        config = read_plain(path)
    except (OSError, ValueError) as error:
        raise CondgenError(f"{path} could not be read: it is damaged, or holds more than plain values.") from error
    if not isinstance(config, dict) or not {"run", "trainer", "data", "model", "loss"} <= config.keys():
        raise CondgenError(f"{path} is not a configuration of condgen's.")
    config = converted_config(config)
    check_stored(config, path, trust)
    return config


def read_run(path: Path) -> Run | None:
    """Return the run that a ``config.yaml`` describes, None if it is not condgen's."""
    try:
        config = read_plain(path)
    except (OSError, ValueError) as error:
        raise CondgenError(f"{path} could not be read as the configuration of a run: it is damaged.") from error
    if not isinstance(config, dict) or "seed" not in config or not isinstance(config.get("run"), dict):
        return None
    config = converted_config(config)
    own = str(config.get("paths", {}).get("output_dir"))
    settings, seeds = {}, {}
    for key, value in flatten({name: part for name, part in config.items() if name not in APART}):
        if key.rpartition(".")[2] != "seed":
            settings[key] = value.replace(own, "RUN") if value.startswith(own) else value
        elif not key.startswith("callbacks."):  # callbacks watch: their seeds decide pictures and subsets, not weights
            seeds[key] = value
    name = str(config["run"].get("name") or path.parent.name)
    return Run(name, tuple(settings.items()), tuple(seeds.items()))


def flatten(tree: dict[Any, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted keys and the values of a configuration, as they would be written on a command line."""
    for key, value in tree.items():
        if isinstance(value, list) and any(isinstance(part, dict) for part in value):
            value = dict(enumerate(value))
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def label(runs: Iterable[Run]) -> dict[Identity, str]:
    """Return a label for the identity of each run: its name and, where others share that, the settings that differ."""
    labels = {}
    namesakes: dict[str, set[Identity]] = {}
    for run in runs:
        namesakes.setdefault(run.name, set()).add(run.identity)
    for name, identities in namesakes.items():
        keys, more = telling([dict(settings) for _, settings in identities])
        for identity in identities:
            settings = dict(identity[1])
            parts = [shown(key, settings[key]) for key in keys if key in settings] + ["..."] * more
            labels[identity] = f"{name} ({', '.join(parts)})" if parts else name
    return labels


def telling(settings: list[dict[str, str]]) -> tuple[list[str], bool]:
    """Return the keys by which configurations can be told apart, and whether others differ as well."""
    keys = dict.fromkeys(key for each in settings for key in each)
    differing = [key for key in keys if len({each.get(key) for each in settings}) > 1]
    differing.sort(key=lambda key: [*TELLING, key.partition(".")[0]].index(key.partition(".")[0]))
    if len(differing) <= MOST:
        return differing, False
    chosen: list[str] = []
    for key in differing:
        if kinds(settings, [*chosen, key]) > kinds(settings, chosen):
            chosen.append(key)
    return chosen, len(chosen) < len(differing)


def kinds(settings: list[dict[str, str]], keys: list[str]) -> int:
    """Count the different combinations of values that ``keys`` take."""
    return len({tuple(each.get(key) for key in keys) for each in settings})


def shown(key: str, value: str) -> str:
    """Write one setting for a reader: ``model.latent=32``, ``loss=BCE``."""
    target = key.removesuffix("._target_")
    return f"{key}={value}" if target == key else f"{target}={value.rpartition('.')[2]}"
