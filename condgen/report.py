"""``condgen report``: all that a run left behind on one page, which opens offline in any browser.

Reads top to bottom: `write_report` gathers the sections, each of which leaves out what the run does not have.
"""

import base64
import contextlib
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from condgen.config.reading import read_plain
from condgen.errors import CondgenError
from condgen.files import save_png, write_text
from condgen.metrics.attributes import listed
from condgen.metrics.catalogue import METRICS
from condgen.metrics.intervals import Count, wilson
from condgen.metrics.record import Record, read_records
from condgen.reporting.charts import curves_chart, read_curves

CAPTIONS = {
    "samples": "Generated samples",
    "confusion": "Class that was asked for against class that the extractor recognizes",
    "people": "Class that was asked for against class that people saw",
    "neighbours": "Generated samples, each followed by the training images nearest to it in feature space, nearest first",
    "latents": "From one latent to another; along a row the class is the same",
    "classes": "From each class to the next at a fixed latent, by mixing their one-hot vectors",
}
"""What the pictures beside a record show, in their order on the page; others follow under their own names."""

GRID = "left real samples, right generated ones; or left what these start from, then they, right the real ones"
"""What a sample grid of the training shows."""

CHARTS = ("confusion", "people", "curves")
"""Pictures that are shown as they are; in all others the pixels of samples are to be seen, and small ones are enlarged."""

BETTER = {"higher": "higher", "lower": "lower", "one": "near 1"}

CONTENT = 1080
"""Width of the page in CSS pixels."""

MANY_CLASSES = 20
"""Classes beyond which a table of them is folded away."""

STYLE = f"""
body {{ margin: 2.5rem auto; max-width: {CONTENT}px; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; color: #1f2933;
  background: #fff; }}
h1 {{ font-size: 1.7rem; margin: 0; }}
h2 {{ font-size: 1.25rem; margin: 2.6rem 0 0.6rem; padding-bottom: 0.3rem; border-bottom: 1px solid #d5dae0; }}
p, dl, figcaption, caption, td small {{ color: #52606d; }}
table {{ border-collapse: collapse; margin: 0.8rem 0; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.28rem 1.4rem 0.28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e4e7eb; }}
th {{ font-weight: 600; }}
.number {{ text-align: right; white-space: nowrap; }}
td small {{ display: block; max-width: 46rem; }}
dl {{ display: flex; flex-wrap: wrap; gap: 0.1rem 1.3rem; margin: 0.6rem 0; font-size: 0.87rem; }}
dt, dd {{ display: inline; margin: 0; }}
dd {{ color: #1f2933; overflow-wrap: anywhere; }}
figure {{ display: inline-block; margin: 0.8rem 1.5rem 0.8rem 0; max-width: 100%; vertical-align: top; }}
figcaption {{ font-size: 0.87rem; margin-bottom: 0.3rem; }}
img {{ max-width: 100%; height: auto; display: block; }}
img.pixels {{ image-rendering: pixelated; }}
details {{ margin: 0.8rem 0; }}
summary {{ cursor: pointer; font-weight: 600; }}
pre {{ background: #f5f7fa; padding: 1rem; overflow-x: auto; font-size: 0.82rem; }}
"""


def write_report(run: Path) -> Path:
    """Gather figures, pictures, curves and configuration of ``run`` in its ``report.html``, and the curves in ``curves.png``.

    Args:
        run: a run directory; whatever it lacks is left out.

    Returns:
        The path of the page.

    Raises:
        CondgenError: the directory holds no run, or cannot be written to.
    """
    evaluations = sorted(path.parent for path in run.glob("evaluation/*/metrics.json"))
    if not evaluations and not any((run / name).is_file() for name in ("config.yaml", "metrics.csv", "metrics.json")):
        raise CondgenError(f"{run} is no run directory: it holds neither a config.yaml nor figures to report.")
    config = read_mapping(run / "config.yaml")
    summaries = read_mapping(run / "metrics.json")
    name = f"{pick(config, 'run', 'name') or run.resolve().parent.name}: {run.resolve().name}"
    page = [
        f"<h1>{text(name)}</h1>",
        f"<p>{text(describe(config, summaries))}</p>",
        *(evaluation(folder) for folder in evaluations),
        newest_samples(run / "samples"),
        curves(run),
        last_and_best(summaries),
        configuration(run / "config.yaml"),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{text(name)}</title>'
    body = "\n".join(filter(None, page))
    report = run / "report.html"
    write_text(
        report,
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n",
    )
    return report


# --- sections ---

MODEL = (("model",), ("model", "generator", "network"), ("model", "generator", "decoder"))
"""Where a configuration names the training and its network."""


def describe(config: dict[str, Any], summaries: dict[str, Any]) -> str:
    """Say in one line what was trained on what, for how long."""
    classes = [pick(config, *keys, "_target_") for keys in MODEL]
    source, condition = pick(config, "data", "source", "_target_"), pick(config, "condition", "_target_")
    step, seed = pick(summaries, "last", "step"), config.get("seed")
    facts = [
        *(str(name).rpartition(".")[2] for name in (*classes, source, condition) if name),
        f"{step:,} updates" if isinstance(step, int) else "",
        f"seed {seed}" if seed is not None else "",
    ]
    return " · ".join(filter(None, facts)) or "A run whose configuration is not there any more"


def evaluation(folder: Path) -> str:
    """Show the records in ``folder``, each under its protocol, and the pictures beside them."""
    try:
        records = [part for record in read_records(folder / "metrics.json") for part in measurement(record)]
    except CondgenError as error:
        records = [f"<p>{text(error)}</p>"]
    known = list(CAPTIONS)
    paths = sorted(folder.glob("*.png"), key=lambda path: (known.index(path.stem) if path.stem in known else 99, path.name))
    pictures = [picture(path, CAPTIONS.get(path.stem, path.stem)) for path in paths]
    sounds = [player(path, "Generated sounds, one of each class") for path in sorted(folder.glob("*.wav"))]
    return "\n".join([f"<h2>Evaluation {text(folder.name)}</h2>", *records, *sounds, *pictures])


def measurement(record: Record) -> list[str]:
    """Return the tables of one record, headed by its protocol."""
    stamp = {"measured": record.source, "step": record.step, **record.protocol.stamp()}
    parts = [definitions({key: value for key, value in stamp.items() if value not in (None, "")})]
    if record.floors:
        kind = f"{record.floors_of} in the place of samples"
        parts.append(f"<p>The floor is that of {text(kind)}: what a perfect generator would reach.</p>")
    judged = record.people is not None
    beside = ({} if judged else {"Floor": record.floors}) | record.baselines
    if judged:
        parts.append(f"<p>People: {record.people:,}. Shares of n answers, in brackets Wilson's intervals of 95 %.</p>")
    rows = []
    for metric, value in record.figures.items():
        known = METRICS.get(metric)
        meaning = f"<small>{text(known.meaning)}</small>" if known else ""
        answers = record.counts.get(metric)
        own = figure(value, metric) + interval(answers) + (f" n={answers[1]}" if answers else "")
        others = (figure(found.get(metric), metric) for found in beside.values())
        rows.append((title(metric) + meaning, own, *others, BETTER[known.better] if known else ""))
    parts.append(table(("Metric", "People" if judged else "Generated", *map(text, beside), "Better"), rows))
    if record.protocol.start:
        parts.append("<p>Baselines are trivial answers to the images that samples start from.</p>")
    if record.attributes:
        head, *body = [[text(cell) for cell in line] for line in listed(record.attributes)]
        parts.append("<p>Unseen: combinations of categories that no training image has.</p>" + table(head, body))
    if record.per_class:
        values = zip(*(single(record, metric) for metric in record.per_class), strict=False)
        lines = [(text(name), *row) for name, row in zip(record.classes or count(), values, strict=False)]
        by_class = table(("Class", *map(title, record.per_class)), lines)
        parts.append(fold("Single classes", by_class, folded=len(lines) > MANY_CLASSES))
    return parts


def single(record: Record, metric: str) -> list[str]:
    """Return a metric of each class, with its interval where it is a share of people's answers."""
    values = record.per_class[metric]
    counts = record.class_counts.get(metric, [None] * len(values))
    return [figure(value, metric) + interval(count) for value, count in zip(values, counts, strict=False)]


def newest_samples(folder: Path) -> str:
    """Show the newest sample grid of the training that can be read."""
    grids = (picture(path, f"{path.stem}: {GRID}") for path in sorted(folder.glob("*.png"))[::-1])
    shown = next(filter(None, grids), "")
    sounds = (player(path, f"{path.stem}: a sound of each condition") for path in sorted(folder.glob("*.wav"))[-1:])
    return shown and "\n".join(["<h2>Samples</h2>", *sounds, shown])


def curves(run: Path) -> str:
    """Draw the curves of ``metrics.csv``."""
    path = run / "metrics.csv"
    found = read_curves(path) if path.is_file() else {}
    if not found:
        return ""
    lines = {name: curve for name, curve in found.items() if len(curve[0]) > 1}  # a single point is in the tables
    chart = run / "curves.png"
    save_png(chart, curves_chart(lines or found))
    return f"<h2>Curves</h2>\n{picture(chart, 'All that was logged, against updates; over noisy curves their running mean')}"


def last_and_best(summaries: dict[str, Any]) -> str:
    """List the metrics at the end of the training and at the best checkpoint."""
    columns = [summaries[key] if isinstance(summaries.get(key), dict) else {} for key in ("last", "best")]
    names = [name for name in dict.fromkeys(name for column in columns for name in column) if name != "step"]
    plain = [name for name in names if all(isinstance(column.get(name), (int, float, type(None))) for column in columns)]
    if not plain:
        return ""
    steps = [f", {column['step']:,} updates" if isinstance(column.get("step"), int) else "" for column in columns]
    heads = ("Metric", "Last" + steps[0], "Best" + steps[1])
    rows = [(text(name), *(figure(column.get(name)) for column in columns)) for name in plain]
    return "<h2>Last and best</h2>\n" + table(heads, rows)


def configuration(path: Path) -> str:
    """Fold the configuration away at the end."""
    if not path.is_file():
        return ""
    written = path.read_text(encoding="utf-8", errors="replace")
    return "<h2>Configuration</h2>\n" + fold(path.name, f"<pre>{text(written)}</pre>", folded=True)


# --- parts of a page ---


def text(value: object) -> str:
    """Write a value so that a page shows it as it is."""
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"))


def title(metric: str) -> str:
    """Return the heading of a metric: its own name where nothing is known of it."""
    return text(METRICS[metric].title if metric in METRICS else metric)


def figure(value: float | None, metric: str = "") -> str:
    """Write a figure in its metric's format, else with five digits."""
    if value is None:
        return ""
    return format(value, METRICS[metric].format if metric in METRICS else ".5g") if math.isfinite(value) else "not a number"


def interval(answers: Count | None) -> str:
    """Write how sure a share of answers is; nothing of other figures, and of no answers."""
    low, high = wilson(answers) if answers else (0.0, 0.0)
    return f" [{low:.3f}, {high:.3f}]" if answers and answers[1] else ""


def definitions(pairs: Mapping[str, object]) -> str:
    """Return names with their values, one after the other."""
    parts = (f"<div><dt>{text(k)}</dt> <dd>{text(f'{v:,}' if isinstance(v, int) else v)}</dd></div>" for k, v in pairs.items())
    return "<dl>\n" + "\n".join(parts) + "\n</dl>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; all columns but the first hold numbers. The cells are HTML already."""

    def line(tag: str, cells: Sequence[str]) -> str:
        first, *others = cells
        return f"<tr><{tag}>{first}</{tag}>" + "".join(f'<{tag} class="number">{c}</{tag}>' for c in others) + "</tr>"

    return "<table>\n" + "\n".join([line("th", heads), *(line("td", row) for row in rows)]) + "\n</table>"


def fold(head: str, content: str, folded: bool) -> str:
    """Return ``content`` under a head that unfolds it."""
    return f"<details{'' if folded else ' open'}><summary>{text(head)}</summary>\n{content}\n</details>"


def picture(path: Path, caption: str) -> str:
    """Return a PNG file as part of the page, small ones enlarged by a whole factor; nothing if it cannot be decoded."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            width = image.width
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError:
        return ""
    pixelated = path.stem not in CHARTS
    if pixelated:
        width *= max(1, min(2, CONTENT // width))
    kind = ' class="pixels"' if pixelated else ""
    tag = f'<img{kind} width="{width}" alt="{text(caption)}" src="data:image/png;base64,{data}">'
    return f"<figure><figcaption>{text(caption)}</figcaption>{tag}</figure>"


def player(path: Path, caption: str) -> str:
    """Return a wav file as part of the page, with what plays it; nothing if it cannot be read."""
    try:
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError:
        return ""
    tag = f'<audio controls src="data:audio/wav;base64,{data}"></audio>'
    return f"<figure><figcaption>{text(caption)}</figcaption>{tag}</figure>"


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file; empty where it is absent, damaged or holds something else."""
    found: Any = None
    with contextlib.suppress(OSError, ValueError):
        found = read_plain(path)
    return found if isinstance(found, dict) else {}


def pick(tree: Any, *keys: str) -> Any:
    """Return what lies under ``keys`` in nested dicts, None if it is not there."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
