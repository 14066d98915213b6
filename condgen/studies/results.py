"""From answers to figures: shares with their intervals, next to what guessing would give, as a table, a file and a record."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from condgen.files import save_png, write_json
from condgen.metrics.catalogue import METRICS
from condgen.metrics.intervals import Count, wilson
from condgen.metrics.protocol import Protocol
from condgen.metrics.record import Record, add_record, as_stored
from condgen.reporting.charts import confusion_chart
from condgen.reporting.tables import Cell, Column, text_table
from condgen.studies.answers import read_people
from condgen.studies.trials import Study

NAMES = {
    (False, "real"): "hype",
    (False, "condition"): "people-class",
    (False, "both"): "hype+class",
    (True, "real"): "2afc",
    (True, "condition"): "2afc-condition",
    (True, "both"): "2afc+condition",
}
"""What takes the extractor's place in a protocol, by whether pictures are compared in pairs and by what is asked."""
INTERVAL = "Wilson's score interval of 95 %, answers taken as independent"
UNCLASSED = "No rows for classes: pictures of this model are not of any."
Counts = dict[str, list[Count]]
"""Of how many answers how many count, by metric: of all trials, then of each class."""


def counted(study: Study, answers: Sequence[str]) -> Counts:
    """Count one person's ``answers``, in the order of `Study.slots`; metrics without an answer are left out."""
    found: Counts = {}
    for (number, question), answer in zip(study.slots, answers, strict=False):
        trial, right = study.trials[number], answer == study.right(number, question)
        for metric in metrics_of(study, question, trial.key):
            counts = found.setdefault(metric, [(0, 0)] * (1 + len(study.classes)))
            hit = right if metric not in ("hype", "hype_fake", "hype_real") else not right
            for place in {0, trial.label + 1 if study.classes else 0}:
                k, n = counts[place]
                counts[place] = k + hit, n + 1
    return {metric: found[metric] for metric in METRICS if metric in found}


def metrics_of(study: Study, question: str, key: str) -> list[str]:
    """Return the metrics that an answer to ``question`` is counted into, of a trial with this key."""
    if study.paired:
        return ["preference" if question == "real" else "preference_condition"]
    if question == "real":
        return ["hype", "hype_fake" if key == "generated" else "hype_real"]
    return ["human_accuracy" if key == "generated" else "human_accuracy_real"]


def together(people: Sequence[Counts]) -> Counts:
    """Add the counts of several people."""
    found: Counts = {}
    for counts in people:
        for metric, own in counts.items():
            known = found.get(metric, [(0, 0)] * len(own))
            found[metric] = [(a + k, b + n) for (a, b), (k, n) in zip(known, own, strict=True)]
    return {metric: found[metric] for metric in METRICS if metric in found}


def chance(study: Study, metric: str) -> float:
    """Return what guessing would give."""
    return 1 / len(study.classes) if metric.startswith("human_accuracy") else 0.5


def confusion(study: Study, people: dict[str, list[str]]) -> list[list[int]] | None:
    """Count which class people see in generated images, (K, K + 1) as in `Record`; None where they are not asked."""
    if study.paired or study.question == "real":
        return None
    counts = [[0] * (len(study.classes) + 1) for _ in study.classes]
    for answers in people.values():
        for (number, question), answer in zip(study.slots, answers, strict=False):
            if question == "condition" and study.trials[number].key == "generated":
                counts[study.trials[number].label][study.classes.index(answer)] += 1
    return counts if any(map(sum, counts)) else None


def record_of(study: Study, people: dict[str, list[str]]) -> Record:
    """Return the answers of all people as figures under the protocol of the study."""
    counts = together([counted(study, answers) for answers in people.values()])
    model, *others = study.models
    shown = len(study.trials)
    protocol = Protocol(
        extractor=NAMES[study.paired, study.question],
        sha256="",
        reference=others[0].name if others else study.split,
        data=others[0].weights if others else study.data,
        real=sum(trial.key != "generated" for trial in study.trials),
        generated=shown if others else sum(trial.key == "generated" for trial in study.trials),
        resize="none",
        seed=study.seed,
        weights=model.average,
        **model.sampling,
        trials=shown,
    )
    shares = {metric: [k / n if n else float("nan") for k, n in found] for metric, found in counts.items()}
    return Record(
        protocol,
        {metric: values[0] for metric, values in shares.items()},
        per_class={metric: values[1:] for metric, values in shares.items() if study.classes},
        classes=study.classes,
        confusion=confusion(study, people),
        source=model.source,
        step=model.step,
        baselines={"chance": {metric: chance(study, metric) for metric in counts}},
        counts={metric: found[0] for metric, found in counts.items()},
        class_counts={metric: found[1:] for metric, found in counts.items() if study.classes},
        people=len(people),
    )


def write_results(folder: Path, study: Study) -> str:
    """Count the answers in ``folder``, write ``results.json``, and the figures beside the others of the run; return a table.

    Raises:
        CondgenError: a line of a file of answers cannot be, or nothing can be written.
    """
    people = read_people(folder, study)
    record = record_of(study, people)
    own = {person: counted(study, answers) for person, answers in people.items()}
    stored = {
        "quality": [as_stored(record)] if people else [],
        "interval": INTERVAL,
        "note": "" if study.classes else UNCLASSED,
        "shares": shares(study, record.counts),
        "classes": [
            {"class": name, "shares": shares(study, {m: found[i] for m, found in record.class_counts.items()})}
            for i, name in enumerate(study.classes)
        ],
        "people": [
            {"person": person, "answers": len(people[person]), "shares": shares(study, {m: c[0] for m, c in counts.items()})}
            for person, counts in own.items()
        ],
    }
    write_json(folder / "results.json", stored)
    place = place_in_run(folder, study)
    known = place / "study.json" if place else None
    if people and place and known and known.is_file() and known.read_bytes() == (folder / "study.json").read_bytes():
        add_record(place / "metrics.json", record)
        if record.confusion:
            save_png(place / "people.png", confusion_chart(record.confusion, record.classes))
    return table(study, people, record, own)


def place_in_run(folder: Path, study: Study) -> Path | None:
    """Return where the run of the model keeps the figures of the study in ``folder``, None where there is no run.

    A copy of ``study.json`` is put there when a study is made, and figures follow only where it is: a study that somebody else
    has sent writes nothing outside its folder.
    """
    model = study.models[0]
    identity = hashlib.sha256((folder / "study.json").read_bytes()).hexdigest()[:8]
    name = re.sub(r"[^\w.+]+", "-", f"{model.source}-{record_of(study, {}).protocol.name}-{identity}")
    return folder / model.run / "evaluation" / name if model.run else None


def shares(study: Study, counts: dict[str, Count]) -> dict[str, dict[str, Any]]:
    """Return shares of answers with their intervals, as plain values; those of no answer are left out."""
    found = {}
    for metric, (k, n) in counts.items():
        low, high = wilson((k, n))
        if n:
            found[metric] = {"share": k / n, "low": low, "high": high, "count": k, "of": n, "chance": chance(study, metric)}
    return found


def table(study: Study, people: dict[str, list[str]], record: Record, own: dict[str, Counts]) -> str:
    """Return shares, intervals and chance as lines of text: of all answers, of each class, of each person."""
    width = shutil.get_terminal_size((1000, 24)).columns  # what is no terminal has no width
    given, asked = sum(map(len, people.values())), len(study.slots)
    who = f"{len(people)} {'person' if len(people) == 1 else 'people'}"
    lines = [f"{record.protocol.name}: {given:,} answers of {who}, {asked:,} are asked of each"]
    if not people:
        return lines[0]
    rows = {METRICS[metric].title: (count, chance(study, metric)) for metric, count in record.counts.items()}
    columns = [
        Column("", [Cell(title) for title in rows]),
        Column("share", [share(count) for count, _ in rows.values()], number=True),
        Column("answers", [Cell(str(n)) for (_, n), _ in rows.values()], number=True),
        Column("chance", [Cell(f"{value:.3f}") for _, value in rows.values()], number=True),
    ]
    lines += ["", *text_table(columns, width)]
    if study.classes:
        lines += block("class", study.classes, record.class_counts, width)
    else:
        lines += [UNCLASSED]
    if len(people) > 1:
        metrics = {metric: [counts.get(metric, [(0, 0)])[0] for counts in own.values()] for metric in record.counts}
        lines += block("person", list(own), metrics, width)
    return "\n".join([*(line.rstrip() for line in lines), f"[ ]: {INTERVAL}"])


def block(head: str, names: list[str], found: dict[str, list[Count]], width: int) -> list[str]:
    """Return a table with a row for each name and a column for each metric."""
    columns = [Column(METRICS[metric].title, list(map(share, counts)), number=True) for metric, counts in found.items()]
    return text_table([Column(head, list(map(Cell, names))), *columns], width)


def share(count: Count) -> Cell:
    """Write a share with its interval."""
    k, n = count
    low, high = wilson(count)
    return Cell(f"{k / n:.3f}", f" [{low:.3f}, {high:.3f}]") if n else Cell()
