"""What a sweep leaves in its folder: a table, charts, and what TensorBoard needs to compare the runs."""

import csv
import shlex
import statistics
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condgen.files import replacing, save_png, write_text
from condgen.reporting.charts import number
from condgen.reporting.tables import Cell, Column, escaped, markdown_table
from condgen.sweeps.results import Objective, Row, of_trials

if TYPE_CHECKING:
    import optuna

Group = list[Row]
"""Runs with equal settings and different seeds."""

FRESH = "100,101,102"
"""Seeds that no search has seen, for the figures that are reported."""


def write_grid(folder: Path, rows: Sequence[Row], objective: Objective | None) -> Path:
    """Write ``sweep.md`` and ``sweep.csv``, a line for each setting, best first, and each run's HParams.

    Args:
        folder: the sweep's.
        rows: one for each run.
        objective: orders the settings; None keeps the order of the command line.
    """
    groups: dict[tuple[tuple[str, str], ...], Group] = {}
    for row in rows:
        groups.setdefault(tuple(row.settings.items()), []).append(row)
    ordered = sorted(groups.values(), key=lambda group: badness(group, objective))
    failed = sum(row.state == "failed" for row in rows)
    lines = [f"# Sweep of {len(rows)} runs" + f", {failed} of them failed" * bool(failed), ""]
    lines += markdown_table(columns(ordered, objective, "runs"))
    lines += [
        "",
        "Mean ± sample standard deviation over seeds, at each run's best checkpoint; each run has a folder of its name.",
    ]
    return write_all(folder, lines, ordered, rows)


def write_study(
    folder: Path,
    study: "optuna.Study",
    trials: "Sequence[optuna.trial.FrozenTrial]",
    objectives: Sequence[Objective],
    shared: Sequence[str],
) -> Path:
    """Write table, charts (``history.png``, ``importances.png``, ``parallel.png``, ``front.png``) and HParams of a study.

    Args:
        folder: the sweep's.
        study: has at least one complete trial.
        trials: those that count.
        objectives: one or two.
        shared: overrides of all trials.
    """
    rows = of_trials(trials, objectives, folder)
    ordered = [[row] for row in sorted(rows, key=lambda row: badness([row], objectives[0]))]
    best = [str(trial.number) for trial in study.best_trials]
    pictures = draw(folder, study, rows, objectives, best)
    states = [row.state for row in rows]
    kept = " ".join(shlex.quote(override) for override in shared if not override.startswith(("hparams_search=", "seed=")))
    chosen = next(row for row in rows if row.name in best)
    settings = " ".join(shlex.quote(f"{key}={value}") for key, value in chosen.settings.items())
    lines = [
        f"# Study {escaped(study.study_name)}: {len(rows)} trials",
        "",
        ", ".join(f"{states.count(state)} {state}" for state in ("finished", "pruned", "failed"))
        + f". {'Best' if len(objectives) == 1 else 'Beaten by none in both objectives'}: trial {', '.join(best)}.",
        "",
        *markdown_table(columns(ordered, objectives[0], "trial", best)),
        "",
        "The best of many trials is partly luck. On seeds that the search has not seen, it and the default:",
        "",
        f"    {' '.join(f'condgen train --multirun {kept} {settings} seed={FRESH}'.split())}",
        f"    {' '.join(f'condgen train --multirun {kept} seed={FRESH}'.split())}",
        "",
        *(f"![{name}]({name})" for name in pictures),
    ]
    return write_all(folder, lines, ordered, rows)


def draw(
    folder: Path, study: "optuna.Study", rows: Sequence[Row], objectives: Sequence[Objective], best: Sequence[str]
) -> list[str]:
    """Write the charts that a study has enough trials for, and return their names."""
    from condgen.sweeps.charts import front_chart, history_chart, importance_chart, parallel_chart

    pictures = {"history.png": history_chart(rows, objectives), "parallel.png": parallel_chart(rows, objectives[0])}
    if importances := weigh(study, objectives):
        pictures["importances.png"] = importance_chart(importances)
    if len(objectives) == 2:
        pictures["front.png"] = front_chart(rows, objectives, best)
    for name, picture in pictures.items():
        save_png(folder / name, picture)
    return list(pictures)


def weigh(study: "optuna.Study", objectives: Sequence[Objective]) -> dict[str, dict[str, float]]:
    """Return the importance of each setting for each objective; nothing where too few trials differ."""
    import optuna

    found = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")  # that low values are better, as here; that the trials are few
        for place, one in enumerate(objectives):
            try:
                target = partial(badness_of, place=place, sign=one.sign)
                found[one.name] = optuna.importance.get_param_importances(study, target=target)
            except (ValueError, RuntimeError):  # fewer than two trials, or all of one value
                return {}
    keys = list(found[objectives[0].name])
    return {name: {key: shares[key] for key in keys} for name, shares in found.items()} if keys else {}


def badness_of(trial: "optuna.trial.FrozenTrial", place: int, sign: int) -> float:
    """Return an objective of a complete trial, such that lower is better."""
    value: float = sign * trial.values[place]
    return value


def write_all(folder: Path, lines: Sequence[str], groups: Sequence[Group], rows: Sequence[Row]) -> Path:
    """Write the Markdown, the CSV and the HParams, and return the Markdown's path."""
    from condgen.run.loggers import write_hparams

    write_csv(folder / "sweep.csv", groups)
    write_text(folder / "sweep.md", "\n".join(lines).rstrip() + "\n")
    for row in rows:
        if row.values and row.folder.is_dir():
            write_hparams(row.folder, row.settings | ({"seed": row.seed} if row.seed is not None else {}), row.values)
    return folder / "sweep.md"


def badness(group: Group, objective: Objective | None) -> tuple[bool, float]:
    """Sort good settings first, by their mean over seeds, and those without the objective last."""
    values = [row.values[objective.name] for row in group if objective and objective.name in row.values]
    return not values, (objective.sign * statistics.mean(values)) if objective and values else 0.0


def columns(groups: Sequence[Group], objective: Objective | None, title: str, best: Sequence[str] = ()) -> list[Column]:
    """Return the columns of the table: the runs, their settings, the best of the objective, each metric.

    Args:
        groups: the rows of the table.
        objective: comes first; the best value over seeds has a column where there are several seeds.
        title: of the first column.
        best: names of the runs to be marked.
    """
    best = best or [row.name for row in groups[0]]
    marked = [group[0].name in best for group in groups]
    found = [
        Column(
            title, [Cell(" ".join(row.name for row in group), best=mark) for group, mark in zip(groups, marked, strict=True)]
        )
    ]
    for key in keys_of(groups):
        found.append(Column(key, [Cell(rounded(group[0].settings.get(key, ""))) for group in groups]))
    if any(row.state != "finished" for group in groups for row in group):
        found.append(Column("state", [Cell(", ".join(dict.fromkeys(row.state for row in group))) for group in groups]))
    if objective and any(len(group) > 1 for group in groups):
        cells = [Cell(f"{top:.4g}" if (top := best_value(group, objective)) is not None else "") for group in groups]
        found.append(Column(f"best {objective.name}", cells, number=True))
    for name in metrics_of(groups, objective):
        found.append(Column(name, [spread(group, name) for group in groups], number=True))
    return found


def rounded(text: str) -> str:
    """Shorten a number of many digits; all of them stand in the CSV and in the commands."""
    value = number(text) if len(text) > 8 else None
    return text if value is None else f"{value:.4g}"


def keys_of(groups: Sequence[Group]) -> list[str]:
    """Return the keys that were varied."""
    return list(dict.fromkeys(key for group in groups for row in group for key in row.settings))


def metrics_of(groups: Sequence[Group], objective: Objective | None = None) -> list[str]:
    """Return the names of all metrics, the objective's first."""
    names = list(dict.fromkeys(name for group in groups for row in group for name in row.values))
    return sorted(names, key=lambda name: objective is None or name != objective.name)


def best_value(group: Group, objective: Objective) -> float | None:
    """Return the best value over the seeds."""
    values = [row.values[objective.name] for row in group if objective.name in row.values]
    return min(values, key=lambda value: objective.sign * value) if values else None


def spread(group: Group, name: str) -> Cell:
    """Return mean and sample standard deviation over the seeds."""
    values = [row.values[name] for row in group if name in row.values]
    if not values:
        return Cell()
    return Cell(f"{statistics.mean(values):.4g}", f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else "")


def write_csv(path: Path, groups: Sequence[Group]) -> None:
    """Write a line for each setting: its runs, settings, states, and of each metric count, mean, deviation, least and most."""
    keys, names = keys_of(groups), metrics_of(groups)
    parts = ("n", "mean", "std", "min", "max")
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["runs", "seeds", *keys, "states", *(f"{name} {part}" for name in names for part in parts)])
        for group in groups:
            line: list[Any] = [" ".join(row.name for row in group), " ".join(row.seed for row in group if row.seed)]
            line += [group[0].settings.get(key, "") for key in keys] + [" ".join(row.state for row in group)]
            for name in names:
                values = [row.values[name] for row in group if name in row.values]
                deviation = statistics.stdev(values) if len(values) > 1 else ""
                line += (
                    [len(values), statistics.mean(values), deviation, min(values), max(values)] if values else [0, *[""] * 4]
                )
            writer.writerow(line)
