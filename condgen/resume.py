"""Going on with a run that was stopped, killed or is to be longer."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from condgen.checkpoints import read
from condgen.config import check_stored, plain, sentence
from condgen.errors import CondgenError
from condgen.planning import longer, stored_plan
from condgen.train import train


def resume(directory: Path, overrides: list[str], trust: bool = False) -> str | None:
    """Continue the run in ``directory`` to the same bits as if it had never stopped (CPU, same processes and threads).

    Args:
        directory: a run directory.
        overrides: changes such as ``trainer.max_epochs=40``.
        trust: accept foreign targets in the stored configuration.

    Returns:
        A sentence if the run is finished already and nothing was done.

    Raises:
        CondgenError: no run, a damaged checkpoint, an unknown key, another budget than the planned one, or a
            configuration that names foreign code.
    """
    config = changed(stored(directory, trust), overrides)
    config = relocated(config, config["run"]["dir"], str(directory))
    path = directory / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise CondgenError(f"{directory} has no checkpoints/last.ckpt to go on from: train it anew with condgen train.")
    checkpoint = read(path)
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
    if finished(checkpoint, trainer):
        return f"The run in {directory} is finished (update {step}); {more} would go on with it."
    train(config, directory, path)
    return None


def stored(directory: Path, trust: bool) -> dict[str, Any]:
    """Read the configuration of a run, safely."""
    path = directory / "config.yaml"
    if not path.is_file():
        raise CondgenError(f"{directory} is not a run directory: it has no config.yaml.")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CondgenError(f"{path} could not be read: it is damaged, or holds more than plain values.") from error
    if not isinstance(config, dict) or not {"run", "trainer", "data", "model", "loss"} <= config.keys():
        raise CondgenError(f"{path} is not a configuration of condgen's.")
    check_stored(config, path, trust)
    return config


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
            raise CondgenError(f"Unknown key {key!r} in the run's configuration: {sentence(error)}") from error
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
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    max_epochs, max_steps = trainer.get("max_epochs") or -1, trainer.get("max_steps", -1)
    stopped = any(state.get("stopped_epoch", 0) > 0 for state in checkpoint["callbacks"].values() if isinstance(state, dict))
    return stopped or 0 < max_epochs <= epochs or 0 < max_steps <= checkpoint["global_step"]
