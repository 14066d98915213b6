"""What a run leaves behind, as far as it has to be the same bits whenever the run was stopped and gone on with."""

import csv
import json
from pathlib import Path
from typing import Any

import torch


def outcome(directory: Path) -> dict[str, Any]:
    """Read everything in a run's directory that has to be the same, bit for bit."""
    checkpoint = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    with (directory / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if v and not k.startswith("speed/")} for row in csv.DictReader(file)]
    return {
        "weights": checkpoint["state_dict"],
        "optimizers": checkpoint["optimizer_states"],
        "counts": checkpoint["counts"],
        "losses": checkpoint["losses"],
        "best": {k: v for c in checkpoint["callbacks"].values() for k, v in c.get("best", {}).items()},
        "step": checkpoint["global_step"],
        "epoch": checkpoint["epoch"],
        "metrics.csv": [row for row in rows if row.keys() != {"step"}],
        "metrics.json": json.loads((directory / "metrics.json").read_text()),
        "state": json.loads((directory / "status.json").read_text())["state"],
    }


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Compare nested values bit for bit, and name the first difference."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), f"{where} differs"
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}/{i}")
    else:
        assert one == other, f"{where}: {one} != {other}"
