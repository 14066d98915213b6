"""What came of the runs of a sweep: their settings and the metrics of their best checkpoints."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from condgen.errors import CondgenError
from condgen.metrics.catalogue import METRICS

if TYPE_CHECKING:
    import optuna

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Row:
    """One run of a sweep.

    Attributes:
        name: its folder's, the number of the job.
        settings: what was varied, without the seed, as on the command line.
        seed: the seed, if that was varied too.
        values: metrics ``val/`` and ``quality/`` of the best checkpoint, all finite; none of a run that failed.
        state: "finished", "failed" or "pruned".
        folder: the run directory.
    """

    name: str
    settings: dict[str, str]
    seed: str | None
    values: dict[str, float]
    state: str
    folder: Path


@dataclass(frozen=True)
class Objective:
    """A metric by its full name, and which way is better."""

    name: str
    direction: Direction

    @property
    def sign(self) -> int:
        """What makes smaller better."""
        return 1 if self.direction == "minimize" else -1


def of_jobs(results: Sequence[JobReturn]) -> tuple[list[Row], Objective | None]:
    """Return a row for each job of a grid, and the metric that orders them: the objective that was named, or a common one."""
    chosen = [dict(override.partition("=")[::2] for override in result.overrides or []) for result in results]
    varied = {key for one in chosen for key in one if len({other.get(key) for other in chosen}) > 1}
    rows, named = [], None
    for result, overrides in zip(results, chosen, strict=True):
        assert result.hydra_cfg is not None
        folder = Path(OmegaConf.select(result.hydra_cfg, "hydra.runtime.output_dir"))
        done = result.status == JobStatus.COMPLETED
        settings = {key: value for key, value in overrides.items() if key in varied and key != "seed"}
        seed = overrides["seed"] if "seed" in varied else None
        rows.append(Row(folder.name, settings, seed, best_of(folder) if done else {}, "finished" if done else "failed", folder))
        named = named or objective_of(result.cfg)
    return rows, named or common_objective(rows)


def objective_of(config: Any) -> Objective | None:
    """Return the metric that a configuration names: what a sweep asks for, or what decides the best checkpoint."""
    asked = OmegaConf.select(config, "run.objective")
    name = asked if isinstance(asked, str) else asked[0] if asked else None
    monitor = OmegaConf.select(config, "callbacks.checkpoint.monitor")
    if not name and not monitor:
        return None
    if name in (None, monitor):
        return Objective(monitor, "maximize" if OmegaConf.select(config, "callbacks.checkpoint.mode") == "max" else "minimize")
    return Objective(str(name), direction_of(str(name)))


def common_objective(rows: Sequence[Row]) -> Objective | None:
    """Return a metric that all runs with metrics have: FID, else the validation loss, else any; None if there is none."""
    measured = [row.values for row in rows if row.values]
    names = [name for name in (measured[0] if measured else {}) if all(name in values for values in measured)]
    names.sort(key=lambda name: (not name.startswith("quality/fid/"), name != "val/loss"))
    return Objective(names[0], direction_of(names[0])) if names else None


def direction_of(name: str) -> Direction:
    """Return which way a metric is better; losses are better small."""
    metric = METRICS.get(name.split("/")[1]) if name.startswith("quality/") else None
    return "maximize" if metric and metric.better == "higher" else "minimize"


def best_of(folder: Path) -> dict[str, float]:
    """Read the metrics of a run's best checkpoint; nothing where the run wrote none.

    Raises:
        CondgenError: the file is damaged.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        return {}
    try:
        best = json.loads(path.read_text(encoding="utf-8"))["best"]
        numbers = {name: float(value) for name, value in best.items() if name.startswith(("val/", "quality/"))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CondgenError(f"{path} could not be read as the metrics of a run: it is damaged.") from error
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def of_trials(trials: "Sequence[optuna.trial.FrozenTrial]", objectives: Sequence[Objective], folder: Path) -> list[Row]:
    """Return a row for each finished trial of a study whose runs lie in ``folder``."""
    from condgen.sweeps.space import written

    states = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
    rows = []
    for trial in trials:
        if trial.state.name not in states:
            continue
        place = folder / str(trial.number)
        settings = {key: written(value) for key, value in trial.params.items()}
        finished = trial.state.name == "COMPLETE"
        told = {one.name: value for one, value in zip(objectives, trial.values, strict=True)} if finished else {}
        values = told | best_of(place) | told if finished else {}
        rows.append(Row(str(trial.number), settings, None, values, states[trial.state.name], place))
    return rows
