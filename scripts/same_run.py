"""What a run leaves behind, as far as it has to be the same bits whenever the run was stopped and gone on with."""

import csv
import json
from pathlib import Path
from typing import Any

import torch

PLANNED = ("minutes", "steps", "every", "made_at")
"""What of a plan decides the run; the rest is the speed that was measured."""


def outcome(directory: Path) -> dict[str, Any]:
    """Read everything in a run's directory that has to be the same, bit for bit."""
    checkpoint = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    with (directory / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if v and not k.startswith("speed/")} for row in csv.DictReader(file)]
    return {
        "weights and averages": checkpoint["state_dict"],
        "optimizers": checkpoint["optimizer_states"],
        "counts": checkpoint["counts"] | {"step": checkpoint["global_step"], "epoch": checkpoint["epoch"]},
        "losses": checkpoint["losses"],
        "best": {k: v for c in checkpoint["callbacks"].values() for k, v in c.get("best", {}).items()},
        "plan": plan_of(checkpoint),
        "metrics.csv": [row for row in rows if row.keys() != {"step"}],
        "metrics.json": json.loads((directory / "metrics.json").read_text()),
        "state": json.loads((directory / "status.json").read_text())["state"],
    }


def plan_of(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a checkpoint's plan decides, None where it has no plan."""
    plan = checkpoint["callbacks"].get("Planner", {}).get("plan")
    return {name: plan[name] for name in PLANNED} if plan else None


def difference(one: Any, other: Any, where: str = "") -> str:
    """Return where two nested values first differ, tensors bit for bit, and how; empty where they are the same."""
    if type(one) is not type(other):
        return f"{where}: {type(one).__name__} and {type(other).__name__}"
    if isinstance(one, torch.Tensor):
        return "" if torch.equal(one, other) else f"{where} differs"
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{where}: {sorted(map(str, one.keys() ^ other.keys()))} in one alone"
        return next(filter(None, (difference(one[key], other[key], f"{where}/{key}") for key in one)), "")
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return f"{where}: {len(one)} and {len(other)}"
        pairs = enumerate(zip(one, other, strict=True))
        return next(filter(None, (difference(a, b, f"{where}/{i}") for i, (a, b) in pairs)), "")
    return "" if one == other else f"{where}: {one} and {other}"


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names under which two outcomes differ."""
    return [name for name in one if difference(one[name], other[name])]


def assert_same(one: Any, other: Any) -> None:
    """Compare nested values bit for bit, and name the first difference."""
    found = difference(one, other)
    assert not found, found
