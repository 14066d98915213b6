"""Each room of condgen depends only on rooms below it, in Python and through what YAML names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import condgen
from condgen.config.folder import conf_dir

ROOT = Path(condgen.__file__).parent
GROUND = {"errors", "types", "spaces", "spectral", "audio", "waveforms", "tokens", "randomness", "images", "files", "listening"}
ANSWERS = {"origin", "samples", "watermark"}
"""Files at the top that verbs stand on, and rooms that hand samples out."""
BELOW = {
    "conditions": GROUND,
    "augment": GROUND,
    "config": GROUND,
    "losses": GROUND | {"conditions"},
    "nets": GROUND | {"conditions"},
    "generators": GROUND | {"conditions", "losses", "nets"},
    "reporting": GROUND | {"generators"},
    "data": GROUND | {"conditions", "augment"},
    "training": GROUND | {"conditions", "augment", "losses", "nets", "generators", "data"},
    "run": GROUND | {"config", "reporting", "generators", "training"},
    "metrics": GROUND | {"conditions", "augment", "nets", "generators", "data", "config", "reporting", "run"},
    "downstream": GROUND | {"augment", "nets", "generators", "data", "reporting", "run", "metrics"},
    "exporting": GROUND | {"conditions", "generators", "config", "data", "reporting", "run", "metrics"},
    "zoo": GROUND | {"reporting", "run"},
    "studies": GROUND | {"metrics", "reporting"},
    "callbacks": GROUND | {"data", "generators", "training", "run", "metrics"},
    "sweeps": GROUND | {"config", "reporting", "run", "metrics", "callbacks"},
    "serving": GROUND | ANSWERS | {"conditions", "generators", "reporting", "run"},
}
"""Each room with what it may import. What trains is not among those that may import ``metrics``: a generator trained on the
features that score it would be scored by what it was trained on."""
NAMED = {
    "augment": {"augment"},
    "benefit.yaml": {"nets"},
    "auxiliary": {"losses"},
    "callbacks": {"callbacks"},
    "condition": {"conditions"},
    "data": {"data", "augment", "audio"},
    "discriminator_augment": {"augment"},
    "experiment": {"augment", "training", "waveforms"},
    "extractor": {"metrics"},
    "hydra": {"sweeps"},
    "logger": {"run"},
    "loss": {"losses", "metrics"},  # shipped classifiers; a run refuses to train on the one that measures it
    "model": {"conditions", "generators", "losses", "nets", "training", "run"},  # a trained generator, which teaches
    "privacy": {"training"},
    "prior": {"conditions", "generators"},
    "regularizer": {"augment", "losses"},
}
"""Groups of conf/ with the rooms whose classes their files name."""


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"condgen.{alias.name}" for alias in node.names) if node.module == "condgen" else [node.module]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def rooms(modules: Iterator[str]) -> set[str]:
    """Return the rooms, or files at the top, that modules of condgen lie in."""
    return {module.split(".")[1] for module in modules if module.startswith("condgen.")}


def test_every_room_is_listed() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(BELOW)
    assert all(found <= GROUND | ANSWERS | set(BELOW) and room not in found for room, found in BELOW.items())


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert rooms(imported(path)) <= BELOW[room] | {room}, path


def test_the_ground_stands_on_nothing() -> None:
    for name in GROUND:
        assert rooms(imported(ROOT / f"{name}.py")) <= GROUND, name


def test_answers_stand_below_the_verbs() -> None:
    for name in ANSWERS:
        assert rooms(imported(ROOT / f"{name}.py")) <= GROUND | ANSWERS | {"conditions", "generators", "reporting"}, name


def test_only_what_measures_imports_torchmetrics() -> None:
    users = {
        path.parent.name for path in ROOT.rglob("*.py") if any(module.startswith("torchmetrics") for module in imported(path))
    }
    assert users == {"metrics"}


def test_no_circle() -> None:
    left = dict(BELOW)
    while bottom := [room for room, below in left.items() if not below & left.keys()]:
        for room in bottom:
            del left[room]
    assert not left


def test_yaml_names_only_rooms_of_its_group() -> None:
    for path in conf_dir().rglob("*.yaml"):
        targets = re.findall(r"_target_: *condgen\.(\w+)", path.read_text(encoding="utf-8"))
        assert set(targets) <= NAMED.get(path.relative_to(conf_dir()).parts[0], set()), path
