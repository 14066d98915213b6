"""Runs that are killed, gone on with, and compared with the same runs undisturbed.

    uv run python scripts/kill_runs.py --count 100 --seed 0

A run of every family and under every kind of limit is killed at a random moment of its computing or at a named place, and
resumed; a third is killed again while it resumes. It has to end as one that nobody killed, bit for bit: weights, averages,
optimizers, counts, losses, metrics. All happens in forks of one process, where nothing runs at an exit.

A budget of minutes is planned on a clock that only batches and evaluations move, so that two plans can be equal. What is
promised: once a plan is made it is kept, and the run ends as the undisturbed one. Killed before that, it plans anew.
"""

import argparse
import csv
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from warm import forked, warm

from condgen.callbacks import plan
from condgen.callbacks.checkpoint import Checkpoint
from condgen.callbacks.evaluation import Evaluation
from condgen.callbacks.plan import Planner
from condgen.training.base import Training

COMMON = (
    "trainer=cpu",
    "run.threads=1",
    "data.classes=[0,1]",
    "data.batch_size=8",
    "trainer.limit_train_batches=5",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=3",
    "callbacks.samples=null",
    "callbacks.evaluation.metrics=[fid]",
    "callbacks.evaluation.samples=100",
    "callbacks.evaluation.every_epochs=2",
    "callbacks.evaluation.final=[fid]",
    "callbacks.evaluation.final_samples=100",
    "model.options.ema=0.9",
    "model.options.decay={_target_: condgen.training.schedules.Linear, start: 0.2, end: 0.1}",
)
FAMILIES = {
    "gan": (
        "model=cgan_mlp",
        "model.alternation.discriminator_steps=2",
        "+model.regularizers.r1={_target_: condgen.losses.regularizers.R1, every: 3}",
    ),
    "vae": ("model=cvae_mlp", "model.kl_warmup=9"),
    "flow_matching": ("model=flow_matching", "model.generator.network.widths=[8,8]", "model.generator.steps=1"),
    "glow": ("model=glow", "model.generator.network.steps=[1,1]", "model.generator.network.fine.width=4"),
}
LIMITS = {
    "epochs": ("trainer.max_epochs=2", "trainer.limit_train_batches=1.0", "data.batch_size=2048"),
    "limited epochs": ("trainer.max_epochs=4",),
    "steps": ("trainer.max_epochs=-1", "trainer.max_steps=8"),
    "steps at an epoch's end": ("trainer.max_epochs=-1", "trainer.max_steps=10", "trainer.limit_train_batches=10"),
    "both": ("trainer.max_epochs=3", "trainer.max_steps=100"),
    "budget": ("run.budget_minutes=0.1", "trainer.limit_train_batches=13"),
}
BATCH, EVALUATION = 0.1, 0.2
"""Seconds that each takes on the clock of a planned run; all else takes none."""


# --- where runs are killed ---


def sigkill() -> None:
    """End this process as power failures and schedulers do."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, when: Callable[..., bool] = lambda *arguments: True) -> Callable[[], None]:
    """Kill before ``owner.name`` runs, the first time that ``when`` says so."""

    def install() -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if when(*arguments):
                sigkill()
            return original(*arguments, **options)

        setattr(owner, name, wrapped)

    return install


def after(owner: Any, name: str, when: Callable[..., bool] = lambda *arguments: True) -> Callable[[], None]:
    """Kill after ``owner.name`` has run, the first time that ``when`` says so."""

    def install() -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            if when(*arguments):
                sigkill()
            return result

        setattr(owner, name, wrapped)

    return install


def batch(number: int) -> Callable[..., bool]:
    """True at the ``number``-th batch of a training."""
    return lambda model, *rest: model.counts.batches == number


def time_number(number: int) -> Callable[..., bool]:
    """True at the ``number``-th time, from 0."""
    times = iter(range(10**9))
    return lambda *arguments: next(times) == number


BOUNDARIES: dict[str, Callable[[], None]] = {
    "before the first step": before(Training, "on_train_batch_start"),
    "within an epoch": after(Training, "record", batch(7)),
    "after the last batch of an epoch": after(Training, "record", batch(10)),
    "in validation": before(Training, "fixed_rows"),
    "in an evaluation": before(Evaluation, "measure", time_number(0)),
    "while a checkpoint is written": before(os, "fsync", time_number(6)),
    "right after a checkpoint": after(Checkpoint, "save", time_number(0)),
    "right after the plan": after(Planner, "make"),
    "after the last step": before(Checkpoint, "on_train_end"),
    "in the last evaluation": before(Evaluation, "on_train_end"),
}
MOMENT = "at a random moment"


def moment(seconds: float) -> Callable[[], None]:
    """Let the kernel end this process when it has computed for so many ``seconds``; no handler runs."""

    def install() -> None:
        signal.setitimer(signal.ITIMER_PROF, seconds)

    return install


def clock() -> None:
    """Let only batches and evaluations move the clock that a budget looks at."""
    seconds = [1000.0]
    fake = SimpleNamespace(
        monotonic=lambda: seconds[0], **{name: getattr(time, name) for name in ("time", "localtime", "strftime")}
    )
    for name in ("condgen.callbacks.plan", "condgen.jobs", "condgen.train"):
        import_module(name).__dict__["time"] = fake
    plan.ENDS = 0.0
    start, measure = Training.on_train_batch_start, Evaluation.measure

    def slow_start(self: Any, *arguments: Any) -> None:
        seconds[0] += BATCH
        start(self, *arguments)

    def slow_measure(self: Any, *arguments: Any, **options: Any) -> Any:
        seconds[0] += EVALUATION
        so_far = self.seconds
        record = measure(self, *arguments, **options)
        self.seconds = so_far + EVALUATION
        return record

    Training.on_train_batch_start = slow_start  # type: ignore[method-assign]
    Evaluation.measure = slow_measure  # type: ignore[method-assign]
    Evaluation.rehearse = lambda self, *arguments: (EVALUATION, EVALUATION)  # type: ignore[method-assign]


# --- what has to be the same ---


def outcome(directory: Path) -> dict[str, Any]:
    """Return everything of a run that has to be the same, bit for bit."""
    checkpoint = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    with (directory / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if v and not k.startswith("speed/")} for row in csv.DictReader(file)]
    return {
        "weights and averages": checkpoint["state_dict"],
        "optimizers": checkpoint["optimizer_states"],
        "counts": checkpoint["counts"] | {"global_step": checkpoint["global_step"]},
        "losses": checkpoint["losses"],
        "best": {k: v for c in checkpoint["callbacks"].values() for k, v in c.get("best", {}).items()},
        "plan": checkpoint["callbacks"].get("Planner", {}).get("plan"),
        "metrics.csv": [row for row in rows if len(row) > 1],
        "metrics.json": json.loads((directory / "metrics.json").read_text()),
        "state": json.loads((directory / "status.json").read_text())["state"],
    }


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, tensors bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def differences(whole: Path, run: Path) -> list[str]:
    """Return what differs between two runs."""
    expected, found = outcome(whole), outcome(run)
    return [name for name in expected if not same(expected[name], found[name])]


# --- killing, resuming, comparing ---


@dataclass
class Kill:
    """A run that was killed and gone on with.

    Attributes:
        family: key of FAMILIES.
        limit: key of LIMITS.
        places: where it was killed, the second time while it resumed.
        verdict: "equal", "planned anew" where a budget had no plan yet, or else what is wrong.
    """

    family: str
    limit: str
    places: list[str]
    verdict: str


class Killer:
    """Kills runs in forks of this process, in folders below ``root``."""

    def __init__(self, root: Path):
        self.root = root
        self._whole: dict[tuple[str, str], tuple[Path, float]] = {}

    def undisturbed(self, family: str, limit: str) -> tuple[Path, float]:
        """Return a run that nobody killed, trained once, and the seconds that it computed."""
        if (family, limit) not in self._whole:
            folder = self.root / f"whole-{family}-{limit}".replace(" ", "-").replace("'", "")
            status, seconds = self.command(folder, self.training(family, limit), prepared(limit))
            if status != 0:
                raise RuntimeError(f"{family} under {limit} does not train: {(folder / 'log').read_text()}")
            self._whole[family, limit] = folder / "run", seconds
        return self._whole[family, limit]

    def training(self, family: str, limit: str) -> list[str]:
        """Return the command that trains a family under a limit."""
        return ["train", *COMMON, *FAMILIES[family], *LIMITS[limit], "hydra.run.dir=run"]

    def command(self, folder: Path, words: list[str], before: Callable[[], None]) -> tuple[int, float]:
        """Run a command to its end; return its status as `os.wait4` does, and the seconds that it computed."""
        folder.mkdir(parents=True, exist_ok=True)
        _, status, used = os.wait4(forked(words, folder, folder / "log", before), 0)
        return status, used.ru_utime + used.ru_stime

    def kill(self, name: str, family: str, limit: str, places: list[str], draw: random.Random) -> Kill:
        """Kill a run at ``places``, one after the other, resume it and compare it."""
        whole, seconds = self.undisturbed(family, limit)
        folder, words, hit, planless = self.root / name, self.training(family, limit), [], False
        for place in places:
            strike = moment(draw.uniform(0.02, 0.95) * seconds) if place == MOMENT else BOUNDARIES[place]
            status, _ = self.command(folder, words, lambda strike=strike: (prepared(limit)(), strike()))  # type: ignore[misc]
            if not os.WIFSIGNALED(status):
                if status:
                    return Kill(family, limit, [*hit, place], self.complaint(folder))
                break  # the run ended before, or has no such place
            hit.append(place)
            planless |= limit == "budget" and not planned(folder / "run")
            words = ["resume", "run"]
            if not (folder / "run" / "config.yaml").exists():  # nothing to go on with yet
                shutil.rmtree(folder / "run", ignore_errors=True)
                words = self.training(family, limit)
        if not hit:
            shutil.rmtree(folder)
            return Kill(family, limit, [], "not killed")
        if self.command(folder, words, prepared(limit))[0]:
            return Kill(family, limit, hit, self.complaint(folder))
        verdict = self.compared(folder, whole, planless)
        if verdict in ("equal", "planned anew"):
            shutil.rmtree(folder)
        return Kill(family, limit, hit, verdict)

    def compared(self, folder: Path, whole: Path, planless: bool) -> str:
        """Say how a resumed run compares with the undisturbed one, and what a further resume does."""
        again, _ = self.command(folder, ["resume", "run"], lambda: None)
        if again or "is finished" not in (folder / "log").read_text():
            return f"a further resume: {self.complaint(folder)}"
        different = differences(whole, folder / "run")
        if planless:
            found = outcome(folder / "run")
            kept = found["plan"] is not None and found["counts"]["updates"] == found["plan"]["steps"]
            return "planned anew" if kept and found["state"] == "done" else "no plan was kept"
        return f"other {', '.join(different)}" if different else "equal"

    def complaint(self, folder: Path) -> str:
        """Return the last line that a command said."""
        return ((folder / "log").read_text().strip().splitlines() or ["nothing was said"])[-1]


def prepared(limit: str) -> Callable[[], None]:
    """Return what a child does before a run under ``limit``."""
    return clock if limit == "budget" else lambda: None


def planned(run: Path) -> bool:
    """Whether a run has a checkpoint with a plan."""
    path = run / "checkpoints" / "last.ckpt"
    if not path.is_file():
        return False
    return bool(torch.load(path, weights_only=True)["callbacks"].get("Planner", {}).get("plan"))


def kills(root: Path, seed: int, count: int) -> Iterator[Kill]:
    """Kill ``count`` runs, families and limits in turn, the places drawn from ``seed``."""
    os.environ["CONDGEN_CACHE"] = str(root / "cache")
    # The page would take most of a tiny run's time; it is written after everything that is compared.
    import_module("condgen.train").__dict__["write_report"] = lambda directory: directory / "report.html"
    warm(["train", *COMMON, *FAMILIES["gan"], *LIMITS["steps"], "hydra.run.dir=run"], ["resume", "run"])
    killer, done, number = Killer(root), 0, -1
    pairs = [(family, limit) for limit in LIMITS for family in FAMILIES]
    while done < count:
        number += 1
        draw = random.Random(f"{seed}-{number}")
        family, limit = pairs[done % len(pairs)]
        places = [draw.choice([MOMENT, draw.choice([*BOUNDARIES])]) for _ in range(draw.choice((1, 1, 2)))]
        result = killer.kill(f"kill{number}", family, limit, places, draw)
        if result.verdict != "not killed":
            done += 1
            yield result


def table(results: list[Kill]) -> str:
    """Return the verdicts by family and limit, as Markdown."""
    lines = ["| limit | " + " | ".join(FAMILIES) + " |", "|---|" + "---|" * len(FAMILIES)]
    for limit in LIMITS:
        cells = []
        for family in FAMILIES:
            verdicts = Counter(one.verdict for one in results if (one.family, one.limit) == (family, limit))
            cells.append(", ".join(f"{times} {verdict}" for verdict, times in verdicts.most_common()))
        lines.append(f"| {limit} | " + " | ".join(cells) + " |")
    places = Counter(place for one in results for place in one.places)
    ends = Counter(one.verdict for one in results)
    return "\n".join(
        [
            *lines,
            "",
            "Killed: " + ", ".join(f"{times} {place}" for place, times in places.most_common()),
            f"{len(results)} runs, {sum(places.values())} kills: "
            + ", ".join(f"{times} {verdict}" for verdict, times in ends.most_common()),
        ]
    )


def main() -> None:
    """Kill as many runs as were asked for, and tell how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    root = Path(tempfile.mkdtemp(prefix="condgen-kills-"))
    results = []
    for result in kills(root, options.seed, options.count):
        results.append(result)
        print(
            f"{len(results):4} {result.family:14} {result.limit:24} {' + '.join(result.places)}: {result.verdict}", flush=True
        )
    print(table(results))
    wrong = [one for one in results if one.verdict not in ("equal", "planned anew")]
    print(f"What is wrong lies in {root}" if wrong else "")
    if not wrong:
        shutil.rmtree(root)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
