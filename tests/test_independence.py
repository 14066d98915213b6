"""What must not know of what: networks, losses and models never see the extractors that score them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import condgen

ROOT = Path(condgen.__file__).parent


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("package", ["nets", "losses", "generators", "training", "data"])
def test_what_trains_does_not_import_what_measures(package: str) -> None:
    """A generator trained on the features that score it would be scored by what it was trained on."""
    found = {module for path in (ROOT / package).rglob("*.py") for module in imported(path)}
    assert not {module for module in found if module.startswith(("condgen.metrics", "condgen.callbacks", "torchmetrics"))}


@pytest.mark.parametrize("package", ["nets", "losses"])
def test_networks_and_losses_stand_alone(package: str) -> None:
    own = {module for path in (ROOT / package).rglob("*.py") for module in imported(path) if module.startswith("condgen.")}
    allowed = (
        "condgen.conditions",
        "condgen.augment",
        "condgen.spaces",
        "condgen.errors",
        "condgen.types",
        f"condgen.{package}",
    )
    assert not {module for module in own if not module.startswith(allowed)}
