"""What is known of a generator for people: its data, their licence, its figures under their protocols, how it was trained.

A card is a plain dict, part of an exported ``config.json``:

    name, family, space                         what it draws
    condition, example, options                 what it can be asked for, and by which sampling options
    data, data_url, data_terms, hub, licence    what it learned from, and under which terms it is passed on
    figures                                     [{metric, name, value, floor, floor_of, baselines, protocol, samples}]
    command, compute, seed                      the training: {updates, minutes, device, precision}
    limits                                      sentences
    parameters, bytes, bits                     of the weights
"""

import json
import math
import shlex
from collections.abc import Iterable, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from hydra.utils import get_class

from condgen.conditions import Condition, Together
from condgen.config.build import is_trusted
from condgen.data.about import About
from condgen.generators.base import Generator
from condgen.metrics.catalogue import METRICS
from condgen.metrics.protocol import SAMPLING
from condgen.metrics.record import Record, read_records
from condgen.run.directory import read_sessions

Card = dict[str, Any]
Figure = dict[str, Any]
"""A figure with its protocol, see above."""
OWN = (
    "privacy.secret",
    "hydra",
    "paths",
    "logger",
    "extras",
    "run.name",
    "run.files",
    "run.threads",
    "trainer.accelerator",
    "trainer.devices",
)
"""Keys of a command line that say where a run ran and what it told, not what it trained."""
OPTIONS = [name for name in SAMPLING if name not in ("weights", "likelihood")]
"""The sampling options that a protocol names."""


def card_of(
    generator: Generator, config: Mapping[str, Any], run: Path | None, step: int, figures: list[dict[str, Any]]
) -> Card:
    """Return the card of a generator, as far as its run tells.

    Args:
        generator: as it will be exported.
        config: of its run, plain dicts; empty where there is none.
        run: its directory.
        step: updates that it was trained for.
        figures: see `figures_of`.
    """
    about = about_data(config)
    source = str(config.get("data", {}).get("source", {}).get("_target_", ""))
    return {
        "family": generator.family,
        "space": f"{generator.space} {type(generator.space).__name__.lower()}",
        "condition": "; ".join(asked_for(generator.condition)),
        "example": generator.condition.example(),
        "options": list(generator.OPTIONS),
        "data": about.name if about else source.rpartition(".")[2] or "unknown",
        "data_url": about.url if about else "",
        "data_terms": about.terms if about else "Whoever exported this knows the terms of the data.",
        "hub": about.hub if about else "",
        "licence": about.licence if about else "unknown",
        "figures": figures,
        "command": command_of(run) if run else "unknown",
        "compute": compute_of(run, config, step),
        "seed": config.get("seed"),
        "limits": guarantees(config),
    }


def guarantees(config: Mapping[str, Any]) -> list[str]:
    """Say what a run's training guarantees of its images; nothing without differential privacy."""
    privacy = config.get("privacy")
    if not privacy:
        return []
    return [
        f"Trained under differential privacy with epsilon {privacy['epsilon']:g} and delta {privacy['delta']:g}: what this "
        "generator tells of any one training image is bounded by that."
    ]


# --- the data ---


def about_data(config: Mapping[str, Any]) -> About | None:
    """Return what a run's data source says of itself; None where it says nothing."""
    target = config.get("data", {}).get("source", {}).get("_target_")
    found = getattr(get_class(target), "about", None) if is_trusted(target) else None
    return found if isinstance(found, About) else None


def evaluation_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nodes ``data`` and ``extractor`` of a run without paths of its machine, where they can do without."""
    found = {}
    for key in ("data", "extractor"):
        if isinstance(node := config.get(key), dict) and complete(found_node := without_paths(node)):
            found[key] = found_node
    return found


def without_paths(node: Any) -> Any:
    """Return a configuration with None in the place of each value that names a file or a folder."""
    if isinstance(node, dict):
        return {key: value if key == "_target_" else without_paths(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_paths(value) for value in node]
    return None if isinstance(node, str) and "/" in node else node


def complete(node: Any) -> bool:
    """Whether no class that a configuration names lacks an argument that it needs."""
    if isinstance(node, list):
        return all(map(complete, node))
    if not isinstance(node, dict):
        return True
    if "_target_" in node:
        if not is_trusted(node["_target_"]):
            return False
        needed = [p.name for p in signature(get_class(node["_target_"])).parameters.values() if p.default is Parameter.empty]
        if any(name in node and node[name] is None for name in needed):
            return False
    return all(map(complete, node.values()))


# --- what can be asked for ---


def asked_for(condition: Condition) -> list[str]:
    """Say what a condition takes, a line for each of its parts."""
    if isinstance(condition, Together):
        return [*asked_for(condition.said), *asked_for(condition.image)]
    if condition.image is not None:
        return [f"image ({condition.image.title})"]
    return [f"{name}: {values(part)}" for name, part in condition.schema()["properties"].items()] or ["nothing"]


def values(part: Mapping[str, Any]) -> str:
    """Say what a part of a condition's schema may be."""
    if "items" in part:
        return f"any of {', '.join(part['items']['enum'])}"
    if "minimum" in part:
        return f"{part['minimum']:g} to {part['maximum']:g}"
    return ", ".join(part["enum"]) if "enum" in part else str(part["description"])


# --- figures ---


def figures_of(run: Path, step: int, kind: str, sampling: Mapping[str, Any]) -> list[Figure]:
    """Return the figures that a run has of the weights after an update, drawn with these options: of test data, else of val.

    Raises:
        CondgenError: a file with figures is damaged.
    """
    records = [record for path in sorted(run.glob("evaluation/*/metrics*.json")) for record in read_records(path)]
    own = [record for record in records if (record.step, record.protocol.weights) == (step, kind)]
    own = [record for record in own if all(getattr(record.protocol, name) == sampling.get(name) for name in OPTIONS)]
    test = [record for record in own if record.protocol.reference == "test"]
    largest = {r.protocol.extractor: r for r in sorted(test or own, key=lambda record: record.protocol.generated)}
    found = [row for record in largest.values() for row in rows(record)]
    return found or from_training(run, step)


def rows(record: Record) -> list[Figure]:
    """Return the figures of a measurement, each with its protocol, its floor and what trivial answers get."""
    found = []
    for metric, value in record.figures.items():
        if not math.isfinite(value):
            continue
        row: Figure = {"metric": metric, "name": METRICS[metric].title, "value": rounded(value)}
        if math.isfinite(floor := record.floors.get(metric, math.nan)):
            row |= {"floor": rounded(floor), "floor_of": record.floors_of}
        if baselines := {name: rounded(known[metric]) for name, known in record.baselines.items() if metric in known}:
            row["baselines"] = baselines
        found.append(row | {"protocol": record.protocol.name, "samples": record.protocol.generated})
    return found


def from_training(run: Path, step: int) -> list[Figure]:
    """Return the figures that a run wrote of an update while it trained, on validation data and without floors."""
    try:
        found = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        summary = next(found[which] for which in ("best", "last") if found[which]["step"] == step)
        named = [(key.split("/", 2), value) for key, value in summary.items() if key.startswith("quality/")]
        return [
            {"metric": metric, "name": METRICS[metric].title, "value": rounded(value), "protocol": protocol}
            | {"samples": found["protocols"][protocol]["generated"]}
            for (_, metric, protocol), value in named
            if metric in METRICS and math.isfinite(value)
        ]
    except (OSError, ValueError, KeyError, TypeError, StopIteration):  # no figures, or damaged ones
        return []


def rounded(value: float) -> float:
    """Keep five digits, more than a figure is worth."""
    return float(f"{value:.5g}")


# --- the training ---


def command_of(run: Path) -> str:
    """Return the command that trained a run, without what belongs to its machine; a path is shortened to its name."""
    sessions = read_sessions(run)
    first, *later = [shared(session.get("overrides") or []) for session in sessions] or [[]]
    if not sessions:
        return "unknown"
    again = [shlex.join(["condgen", "resume", "RUN", *overrides]) for overrides in later if overrides]
    return "; ".join([shlex.join(["condgen", "train", *first]), *again])


def shared(overrides: Iterable[str]) -> list[str]:
    """Return the overrides that mean the same elsewhere."""
    kept = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not key.lstrip("+~").startswith(OWN):
            kept.append(f"{key}{equals}{Path(value).name if '/' in value and not value.startswith(('[', '{')) else value}")
    return kept


def compute_of(run: Path | None, config: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return how long a run trained, evaluations counted, and on what, as far as it is known."""
    sessions = read_sessions(run) if run else []
    seconds = [session["wall_seconds"] for session in sessions if session.get("wall_seconds") is not None]
    last = sessions[-1] if sessions else {}
    device = str(last.get("device", "unknown"))
    return {
        "updates": step,
        "minutes": round(sum(seconds) / 60, 1) if seconds and len(seconds) == len(sessions) else None,
        "device": f"{device}, threads: {last.get('threads')}" if device.startswith("cpu") else device,
        "precision": config.get("trainer", {}).get("precision"),
    }
