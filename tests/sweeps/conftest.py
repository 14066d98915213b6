"""Runs of searches that do nothing but give their objective."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from condgen.sweeps import summary

Fake = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Return ``fake(objective)``: runs do nothing but ``objective(config)``; it returns a list of what they were given."""

    def put(objective: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
        configs: list[dict[str, Any]] = []

        def train(config: dict[str, Any], directory: Path, **more: Any) -> Any:
            configs.append(config)
            value = objective(config)
            asked = config["run"]["objective"] or []
            names, values = ([asked] if isinstance(asked, str) else asked), (value if isinstance(value, tuple) else (value,))
            metrics = {name: number for name, number in zip(names, values, strict=False) if number is not None}
            (directory / "metrics.json").write_text(json.dumps({"best": metrics | {"step": 2, "train/loss": 1.0}}))
            return value

        monkeypatch.setattr(import_module("condgen.train"), "train", train)
        monkeypatch.setattr(summary, "draw", lambda *study: [])  # takes longer than all else
        return configs

    return put
