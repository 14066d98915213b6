"""The model card of an exported generator: Markdown below the YAML front matter that model hubs read.

(Mitchell et al. 2019; https://huggingface.co/docs/hub/model-cards)
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from condgen.generators.sampling import OPTIONS
from condgen.metrics.catalogue import METRICS
from condgen.reporting.tables import Cell, Column, escaped, markdown_table


def model_card(config: Mapping[str, Any]) -> str:
    """Return the card of an exported generator, of which ``config`` is its ``config.json``."""
    card = config["card"]
    front = yaml.safe_dump(front_matter(card), sort_keys=False, allow_unicode=True, width=120)
    sections = {
        "How to use": usage(card),
        "Conditions": "\n".join(f"- {escaped(line)}" for line in card["condition"].split("; ")),
        "Sampling options": options(config),
        "Data": data(card),
        "Licence": licence(card),
        "Figures": figures(card),
        "Limits": "\n".join(f"- {line}" for line in limits(card)),
        "Training": training(card),
        "Files": files(config),
    }
    kind = f"A {card['family']} that draws {card['space']}"
    head = f"---\n{front}---\n\n# {card['name']}\n\n{kind}, trained on {escaped(card['data'])} with condgen.\n"
    return head + "".join(f"\n## {title}\n\n{text.strip()}\n" for title, text in sections.items() if text)


def front_matter(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a hub indexes: licence, library, task, tags, data, and figures as a model index."""
    conditional = card["condition"] != "nothing"
    task = "image-to-image" if "image (" in card["condition"] else "unconditional-image-generation"
    task = task if card["space"].endswith("images") else ""
    measured = card["figures"]
    found: dict[str, Any] = {"license": card["licence"], "library_name": "condgen"}
    found |= {"pipeline_tag": task} if task else {}
    found["tags"] = ["condgen", card["family"].lower().replace(" ", "-"), *(["conditional-generation"] if conditional else [])]
    found |= {"datasets": [card["hub"]]} if card["hub"] else {}
    if measured:
        found["metrics"] = list(dict.fromkeys(row["metric"] for row in measured))
        dataset = {"name": card["data"], "type": card["hub"] or card["data"]}
        results = [{"task": {"type": task or "other"}, "dataset": dataset, "metrics": [indexed(row) for row in measured]}]
        found["model-index"] = [{"name": card["name"], "results": results}]
    return found


def indexed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a figure as a model index has it; its name tells the protocol, without which it would mean nothing."""
    return {"type": row["metric"], "name": f"{row['name']} ({row['protocol']})", "value": row["value"]}


def usage(card: Mapping[str, Any]) -> str:
    """Show how samples are drawn, in a shell and in Python."""
    image = "image (" in card["condition"]
    start = "recording.wav" if "image (log-mel" in card["condition"] else "photo.png"
    said = f" --condition {shlex.quote(card['example'])}" if card["example"] else ""
    given = [json.dumps(card["example"], ensure_ascii=False)] if card["example"] else []
    shell = f"condgen sample .{said}{f' --image {start}' if image else ''} --count 8 --out samples.png"
    call = ", ".join([*given, "count=8", *([f'image="{start}"'] if image else [])])
    return (
        f"In this folder, or with its path in the place of the dot:\n\n```bash\npip install condgen\n{shell}\n```\n\n"
        f'```python\nimport condgen\n\nmodel = condgen.load(".")\nmodel.show({call}).save("samples.png")\n```\n'
    )


def options(config: Mapping[str, Any]) -> str:
    """List the sampling options with their defaults."""
    chosen = config["sampling"]
    names = config["card"].get("options", [])
    lines = [
        f"- `{name}`: {OPTIONS[name].description} Default: {chosen.get(name, 'none')}." for name in names if name in OPTIONS
    ]
    return "\n".join(lines) or "None: the condition says it all."


def data(card: Mapping[str, Any]) -> str:
    """Say what it was trained on."""
    where = f" ({card['data_url']})" if card["data_url"] else ""
    return f"Trained on {escaped(card['data'])}{where}. {card['data_terms']}"


def licence(card: Mapping[str, Any]) -> str:
    """Say under which terms the weights are passed on."""
    if card["licence"] == "unknown":
        return "The licence of these weights is unknown: it depends on the terms of the data, see above."
    return f"These weights are passed on under `{card['licence']}`, the licence of the data or one that its exporter chose."


def figures(card: Mapping[str, Any]) -> str:
    """Return a table of figures for each protocol, with floors and trivial answers beside them."""
    if not card["figures"]:
        return "None were measured with these weights and sampling options: `condgen evaluate` does."
    parts = []
    for protocol in dict.fromkeys(row["protocol"] for row in card["figures"]):
        found = [row for row in card["figures"] if row["protocol"] == protocol]
        texts = [Column("metric", [Cell(row["name"]) for row in found])]
        numbers = {"samples": [row["value"] for row in found], "real images": [row.get("floor") for row in found]}
        for name in dict.fromkeys(name for row in found for name in row.get("baselines", {})):
            numbers[name] = [row.get("baselines", {}).get(name) for row in found]
        if not any(value is not None for value in numbers["real images"]):
            del numbers["real images"]
        texts += [
            Column(title, [Cell(cell(v, r)) for v, r in zip(c, found, strict=True)], True) for title, c in numbers.items()
        ]
        count = f"{found[0]['samples']:,} samples"
        parts.append("\n".join([f"Protocol `{protocol}`, {count}:", "", *markdown_table(texts)]))
    kinds = " or ".join(dict.fromkeys(row.get("floor_of", "training images") for row in card["figures"] if "floor" in row))
    floors = f"The column of real images is what {kinds} get in the place of samples: what a perfect generator would reach."
    return "\n\n".join([*parts, *([floors] if kinds else []), *([card["half"]] if "half" in card else [])])


def cell(value: float | None, row: Mapping[str, Any]) -> str:
    """Write a figure as its metric is written everywhere."""
    return "" if value is None else f"{value:{METRICS[row['metric']].format}}"


def limits(card: Mapping[str, Any]) -> list[str]:
    """Return what nobody should expect of it: what its figures say, and what its exporter knows."""
    found = {row["metric"]: row for row in card["figures"]}
    lines = [f"It draws {card['space']} like those of its training data, and nothing else."]
    if row := found.get("label_accuracy"):
        floor = f"; of real images {1 - row['floor']:.1%}" if "floor" in row else ""
        lines.append(f"Of its samples {1 - row['value']:.1%} are read as another class than the one asked for{floor}.")
    if row := found.get("nearest"):
        lines.append(
            f"Samples lie {row['value']:.2f} times as far from the nearest training image as unseen real images do; "
            "nobody has looked at each of them."
        )
    lines.append(f"The figures are of one training with one seed ({card['seed']}).")
    return [*lines, *card["limits"]]


def training(card: Mapping[str, Any]) -> str:
    """Say how it was trained, and what that took."""
    compute = card["compute"]
    minutes = f"{compute['minutes']:g} minutes, evaluations counted" if compute["minutes"] else "a time that is unknown"
    return (
        f"```bash\n{card['command']}\n```\n\n{compute['updates']:,} updates up to these weights. The whole run took {minutes}, "
        f"on {compute['device']}, in precision {compute['precision']}."
    )


def files(config: Mapping[str, Any]) -> str:
    """Say what the weights are, so that damage can be told."""
    card, weights = config["card"], config["weights"]
    average = "moving averages over the training" if weights["kind"] == "ema" else "those of the last update"
    return (
        f"`model.safetensors` holds {card['parameters']:,} parameters in {card['bits']} bits ({average}), "
        f"{card['bytes'] / 1e6:.2f} MB, sha256 `{weights['sha256']}`. `config.json` says how the generator is built; "
        f"neither holds code. Written by condgen {config['condgen']}."
    )
