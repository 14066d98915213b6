"""The generators that ship with condgen, an exported folder each; ``zoo:NAME`` means one wherever a model is asked for.

``scripts/make_zoo.py`` trains, measures and writes them. Listing them imports nothing heavy.
"""

from typing import Any

from condgen.errors import CondgenError
from condgen.reporting.tables import printable
from condgen.run.exported import README, SCHEME, read_config, shipped, shipped_folder

SHOWN = ("fid", "label_accuracy", "attribute_accuracy", "ssim")
"""The figures that a list shows; a card has all."""


def listing() -> str:
    """Return a paragraph for each generator: what it is, its figures beside those of real images, its licence, its training."""
    paragraphs = [paragraph(name, read_config(shipped_folder(name))) for name in shipped()]
    if not paragraphs:
        raise CondgenError("No generators ship with this copy of condgen: scripts/make_zoo.py makes them.")
    end = f"In brackets: what real images get. condgen sample {SCHEME}NAME draws from one, condgen zoo NAME shows its card."
    return "\n\n".join([*paragraphs, end])


def paragraph(name: str, config: dict[str, Any]) -> str:
    """Return what a list says of one generator."""
    card, sha256 = config["card"], config["weights"]["sha256"]
    found = [row for row in card["figures"] if row["metric"] in SHOWN]
    figures = {
        protocol: ", ".join(figure(row) for row in found if row["protocol"] == protocol)
        for protocol in dict.fromkeys(row["protocol"] for row in found)
    }
    lines = [
        f"{SCHEME}{name}",
        f"  {card['family']}, {card['space']} of {card['data']}; licence: {card['licence']}",
        f"  asked for: {card['condition']}",
        *(f"  {protocol}: {said}" for protocol, said in figures.items()),
        f"  {card['command']}",
        f"  {card['parameters']:,} parameters, {card['bytes'] / 1e6:.2f} MB, sha256 {sha256}",
    ]
    return "\n".join(map(printable, lines))


def figure(row: dict[str, Any]) -> str:
    """Write a figure with what real images, or trivial answers, get."""
    beside = {"": row["floor"]} if "floor" in row else {}
    beside |= {f"{name} ": value for name, value in row.get("baselines", {}).items()}
    known = ", ".join(f"{name}{value:.4g}" for name, value in beside.items())
    return f"{row['name']} {row['value']:.4g}" + (f" ({known})" if known else "")


def card_text(name: str) -> str:
    """Return the model card of a shipped generator, without its YAML; raises CondgenError if none has this name."""
    text = (shipped_folder(name) / README).read_text(encoding="utf-8")
    return "\n".join(map(printable, text.split("---\n", 2)[2].strip().splitlines()))
