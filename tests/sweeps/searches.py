"""A search for tests: its command, its objective, and what lies in its study."""

import math
from pathlib import Path
from typing import Any

import optuna

from condgen.sweeps import study as studies

SEARCH = ("train", "--multirun", "hydra/sweeper=optuna", "experiment=none", "model=cvae_mlp", "hydra.sweeper.minimize=val/loss")
BETA, LATENT = "model.beta=tag(log,interval(0.1,10))", "model.generator.latent=int(interval(2,9))"
SPACE: Any = {"a": optuna.distributions.FloatDistribution(0, 1)}
"""What the searches that run nothing look through."""


def bowl(config: dict[str, Any]) -> float:
    """An objective whose best beta is 1."""
    return math.log(config["model"]["beta"]) ** 2 + 0.1


def trials_in(root: Path, name: str = "search") -> list[optuna.trial.FrozenTrial]:
    (file,) = (root / "outputs").glob(f"*/{name}/study.db")
    storage = studies.open_storage(f"sqlite:///{file}")
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def states(root: Path) -> list[str]:
    return [trial.state.name for trial in trials_in(root)]
