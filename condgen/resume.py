"""Going on with a run that was stopped, killed or is to be longer."""

import json
import logging
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from condgen.config.build import plain, sentence
from condgen.config.renamed import new_name
from condgen.config.validate import check
from condgen.errors import CondgenError
from condgen.run.checkpoint import read, upgrade
from condgen.run.directory import read_sessions, stored_status
from condgen.run.legacy import converted_config
from condgen.run.plan import longer, stored_plan
from condgen.run.precision import taking
from condgen.run.stored import stored_config
from condgen.train import Outcome, train
from condgen.training.counts import Counts

log = logging.getLogger("condgen")

PLACES = ("directory", "save_dir", "dir", "log_dir", "root_dir")
"""What arguments of loggers are called that say where files are written."""


def resume(directory: Path, overrides: list[str], trust: bool = False, source: str = "last") -> str | None:
    """Continue the run in ``directory`` to the same bits as if it had never stopped (CPU, same processes and threads).

    Args:
        directory: a run directory.
        overrides: changes such as ``trainer.max_epochs=40``.
        trust: accept foreign targets in the stored configuration.
        source: the checkpoint to go on from, "last" or "best".

    Returns:
        A sentence if the run is finished already and nothing was done.

    Raises:
        CondgenError: no run, a damaged checkpoint, an unknown key, another budget than the planned one, a configuration that
            was changed in the file alone, or one that names foreign code.
    """
    before = stored_config(directory, trust)
    refuse_unsaid(directory, before, overrides)
    config = relocated(changed(before, overrides), before["paths"]["output_dir"], str(directory))
    check(config)
    if not trust:
        require_own_places(config, directory)
    path = directory / "checkpoints" / f"{source}.ckpt"
    refuse_missing(directory, path)
    if path.is_file() and upgrade(path):
        log.info("%s was written by condgen 0.1 and is converted; the old one lies beside it.", path)
    if not path.is_file():  # killed before its first checkpoint
        train(config, directory, overrides=overrides, afresh=False)
        return None
    if message := over(directory, read(path), config):
        return message
    train(config, directory, path, overrides=overrides)
    return None


def refuse_missing(directory: Path, path: Path) -> None:
    """Refuse to go on from a checkpoint that is not there, unless the run was killed before its first; raises CondgenError."""
    others = sorted(one.name for one in path.parent.glob("*.ckpt"))
    if path.is_file() or not (others or (directory / "metrics.json").exists() or path.stem == "best"):
        return
    there = f"there {'is' if len(others) == 1 else 'are'} {', '.join(others)}" if others else "there is no other checkpoint"
    hint = (
        f"condgen resume {directory} --from best goes on from that"
        if "best.ckpt" in others
        else "put it back from a copy, or train anew into another folder"
    )
    raise CondgenError(f"{path} is missing and nothing was changed: {there}; {hint}.")


def require_own_places(config: dict[str, Any], directory: Path) -> None:
    """Refuse loggers of a stored configuration that would write outside the run; raises CondgenError."""
    home = directory.resolve()
    for name, node in (config.get("logger") or {}).items():
        for key in PLACES:
            place = node.get(key) if isinstance(node, dict) else None
            if isinstance(place, str) and not (home / place).resolve().is_relative_to(home):
                raise CondgenError(
                    f"{directory / 'config.yaml'} lets logger.{name}.{key} write to {place}, outside the run; if you trust the "
                    "file, pass --trust."
                )


def go_on(config: dict[str, Any], directory: Path, overrides: list[str]) -> Outcome:
    """Continue the run of a job that Slurm has started again, with the settings of its first start.

    Raises:
        CondgenError: the directory's run has other settings.
    """
    before = stored_config(directory, trust=True)  # compared, not built
    config = taking(config, before["trainer"].get("precision"))
    if names := differences(before, config):
        raise CondgenError(
            f"{directory} holds a run with another {listed(names)} than this job asks for: condgen resume {directory} goes on "
            "with it as it is, or with what you name behind."
        )
    path = directory / "checkpoints" / "last.ckpt"
    checkpoint = read(path) if path.is_file() else None
    if checkpoint and (message := over(directory, checkpoint, config)):
        log.info("%s", message)
        return outcome_of(directory, config)
    return train(config, directory, path if checkpoint else None, overrides=overrides, afresh=False)


def over(directory: Path, checkpoint: dict[str, Any], config: dict[str, Any]) -> str | None:
    """Return a sentence if the run is finished; raises CondgenError where its budget was changed after it had been planned."""
    trainer, step = config["trainer"], checkpoint["global_step"]
    more = "a larger trainer.max_steps" if trainer.get("max_steps", -1) > 0 else "a larger trainer.max_epochs"
    if config["run"].get("budget_minutes") is not None:
        plan = stored_plan(checkpoint)
        trainer, more = {"max_epochs": -1, "max_steps": plan.steps if plan else -1}, longer(2 * step)
        if plan and plan.minutes != config["run"]["budget_minutes"]:
            raise CondgenError(
                f"run.budget_minutes={config['run']['budget_minutes']} comes too late: the run is planned for {plan.minutes:g} "
                f"minutes, {plan.steps:,} updates; {more} would let it go on without a plan."
            )
    if not finished(checkpoint, trainer) or stored_status(directory).get("state") != "done":  # killed before its end
        return None
    return f"The run in {directory} is finished (update {step}) and was left as it is; {more} would go on with it."


def outcome_of(directory: Path, config: dict[str, Any]) -> Outcome:
    """Return what a finished run gave to its sweep, from its files."""
    objective = config["run"]["objective"] or stored_status(directory).get("metric") or ""
    best = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))["best"]
    return best.get(objective) if isinstance(objective, str) else tuple(map(best.get, objective))


def refuse_unsaid(directory: Path, before: dict[str, Any], overrides: list[str]) -> None:
    """Refuse a configuration that somebody changed in the file and not on the command line; raises CondgenError."""
    sessions = read_sessions(directory)
    recorded = sessions[-1].get("config") if sessions else None
    if not isinstance(recorded, dict):  # made by an earlier version
        return
    recorded = converted_config(recorded)
    trained = relocated(recorded, recorded["paths"]["output_dir"], before["paths"]["output_dir"])
    said = tuple(override.partition("=")[0] for override in overrides)
    names = [name for name in differences(trained, before) if not any(f"{name}.".startswith(f"{key}.") for key in said)]
    if names:
        raise CondgenError(
            f"{directory / 'config.yaml'} has another {listed(names)} than the run was trained with: put back what "
            f"provenance.json records, or say so with condgen resume {directory} {names[0]}=VALUE."
        )


def differences(one: Any, other: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys in which two configurations differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [prefix]
    one, other = ({str(key): value for key, value in node.items()} for node in (one, other))  # JSON keeps no numbers as keys
    missing = object()
    keys = [*one, *(key for key in other if key not in one)]
    return [
        name
        for key in keys
        for name in differences(one.get(key, missing), other.get(key, missing), f"{prefix}.{key}" if prefix else str(key))
    ]


def listed(names: list[str]) -> str:
    """Name the first few of ``names``."""
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5)


def changed(config: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Apply ``key=value`` overrides; only keys that the configuration has can be changed."""
    tree = OmegaConf.create(config)
    OmegaConf.set_struct(tree, True)
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise CondgenError(f"{override!r} is not an override: write key=value, for example trainer.max_epochs=40.")
        try:
            tree.merge_with_dotlist([override])
        except OmegaConfBaseException as error:
            if new := new_name(key, config):
                raise CondgenError(f"{key} is called {new} today.") from error
            raise CondgenError(f"Unknown key {key!r} in the run's configuration: {sentence(error)}") from error
        except YAMLError as error:
            raise CondgenError(f"{override!r} is not an override: its value is no YAML.") from error
    return plain(tree)


def relocated(value: Any, old: str, new: str) -> Any:
    """Replace the run directory of before by where the directory lies now: it may have been moved or copied."""
    if isinstance(value, dict):
        return {key: relocated(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [relocated(item, old, new) for item in value]
    return new if value == old else value


def finished(checkpoint: dict[str, Any], trainer: dict[str, Any]) -> bool:
    """Whether a run has reached its number of epochs or updates, or was stopped early by its metric."""
    counts = Counts(**checkpoint["counts"])
    max_epochs, max_steps = trainer.get("max_epochs") or -1, trainer.get("max_steps", -1)
    stopped = any(state.get("stopped_epoch", 0) > 0 for state in checkpoint["callbacks"].values() if isinstance(state, dict))
    return stopped or 0 < max_epochs <= counts.epochs or 0 < max_steps <= counts.updates
