"""Runs that are killed, gone on with, and compared with the same runs undisturbed.

    uv run python scripts/kill_runs.py --count 100 --seed 0

A run of every family and under every kind of limit is killed at a random moment of its computing, before a random change of
its files or at a named place, and resumed; a third is killed again while it resumes. It has to end as one that nobody killed,
bit for bit: weights, averages, optimizers, counts, losses, metrics. All happens in forks of one process, where nothing runs at
an exit.

A budget of minutes is planned on a clock that only batches and evaluations move, so that two plans can be equal. Once a plan is
made it has to be kept. A run that was killed before that plans anew, from its checkpoint: it is then compared with an
undisturbed one that plans the same at the same update.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from clockwork import wind
from same_run import differences, outcome, plan_of
from warm import forked, warm

from condgen.callbacks import plan
from condgen.callbacks.checkpoint import Checkpoint
from condgen.callbacks.evaluation import Evaluation
from condgen.callbacks.plan import Planner
from condgen.files import TEMPORARY
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
EVALUATION = 0.2
"""Seconds that one takes on the clock of a planned run."""


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


CUT = "before the end of a last epoch that is cut short"
BOUNDARIES: dict[str, Callable[[], None]] = {
    "before the first step": before(Training, "on_train_batch_start"),
    "within an epoch": after(Training, "record", batch(7)),
    "after the last batch of an epoch": after(Training, "record", batch(10)),
    "in validation": before(Training, "fixed_rows"),
    "in an evaluation": before(Evaluation, "measure", time_number(0)),
    "while a checkpoint is written": before(os, "fsync", time_number(6)),
    "right after a checkpoint": after(Checkpoint, "save", time_number(0)),
    "right after the plan": after(Planner, "make"),
    CUT: before(Training, "on_train_epoch_end", lambda model: not model.epoch_over),
    "after the last step": before(Checkpoint, "on_train_end"),
    "in the last evaluation": before(Evaluation, "on_train_end"),
}
MOMENT, CHANGE = "at a random moment", "before a random change of a file"


def moment(seconds: float) -> Callable[[], None]:
    """Let the kernel end this process when it has computed for so many ``seconds``; no handler runs."""

    def install() -> None:
        signal.setitimer(signal.ITIMER_PROF, seconds)

    return install


class Changes:
    """Says when a run is about to change a file that a resumed one reads, or to put one into its place: there it is killed.

    Args:
        number: which change, from 0.
    """

    def __init__(self, number: int):
        self.left = number

    def __call__(self) -> None:
        """Watch this process from now on, which nothing can undo."""
        sys.addaudithook(self.see)

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at an event of Python's runtime; pictures and curves decide nothing."""
        appended = event == "open" and arguments[1] == "a" and str(arguments[0]).endswith(".csv")
        placed = event == "os.rename" and str(arguments[0]).endswith(TEMPORARY) and not str(arguments[1]).endswith(".png")
        if appended or placed:
            if self.left == 0:
                sigkill()
            self.left -= 1


def follow(plan_: dict[str, Any]) -> Callable[[], None]:
    """Return what lets a run under a budget plan as another did, at the same update."""

    def install() -> None:
        Planner.enough = lambda self, now: self._step == plan_["made_at"]  # type: ignore[method-assign]
        plan.share_out = lambda *arguments: (plan_["steps"], plan_["every"])

    return install


# --- killing, resuming, comparing ---


@dataclass
class Kill:
    """A run that was killed and gone on with.

    Attributes:
        family: key of FAMILIES.
        limit: key of LIMITS.
        places: where it was killed, the second time while it resumed.
        verdict: "equal", or else what is wrong.
    """

    family: str
    limit: str
    places: list[str]
    verdict: str


class Killer:
    """Kills runs in forks of this process, in folders below ``root``."""

    def __init__(self, root: Path):
        self.root = root
        self._whole: dict[str, tuple[Path, float]] = {}

    def undisturbed(self, family: str, limit: str, as_planned: dict[str, Any] | None = None) -> tuple[Path, float]:
        """Return a run that nobody killed, trained once, and the seconds that it computed; it plans ``as_planned`` if told."""
        key = f"whole-{family}-{limit}-{'-'.join(map(str, (as_planned or {}).values()))}".replace(" ", "-").replace("'", "")
        if key not in self._whole:
            folder = self.root / key
            prepare = [*prepared(limit), *([follow(as_planned)] if as_planned else [])]
            status, seconds = self.command(folder, self.training(family, limit), *prepare)
            if status != 0:
                raise RuntimeError(f"{family} under {limit} does not train: {(folder / 'log').read_text()}")
            self._whole[key] = folder / "run", seconds
        return self._whole[key]

    def training(self, family: str, limit: str) -> list[str]:
        """Return the command that trains a family under a limit."""
        return ["train", *COMMON, *FAMILIES[family], *LIMITS[limit], "hydra.run.dir=run"]

    def command(self, folder: Path, words: list[str], *before: Callable[[], None]) -> tuple[int, float]:
        """Run a command to its end; return its status as `os.wait4` does, and the seconds that it computed."""
        folder.mkdir(parents=True, exist_ok=True)
        _, status, used = os.wait4(forked(words, folder, folder / "log", lambda: [each() for each in before]), 0)
        return status, used.ru_utime + used.ru_stime

    def kill(self, name: str, family: str, limit: str, places: list[str], draw: random.Random) -> Kill:
        """Kill a run at ``places``, one after the other, resume it and compare it."""
        _, seconds = self.undisturbed(family, limit)
        folder, words, hit = self.root / name, self.training(family, limit), []
        plans: list[dict[str, Any] | None] = []
        for place in places:
            within = seconds
            while True:
                status, within = self.command(folder, words, *prepared(limit), strike(place, within, draw))
                if status or hit or place != MOMENT:
                    break
                shutil.rmtree(folder)  # it ended before: what others kept left it less to compute than was thought
            if not os.WIFSIGNALED(status):
                if status:
                    return Kill(family, limit, [*hit, place], self.complaint(folder))
                words = ["resume", "run"]
                break  # the run ended before, or has no such place
            hit.append(place)
            plans.append(planned(folder / "run"))
            words = ["resume", "run"]
            if not (folder / "run" / "config.yaml").exists():  # nothing to go on with yet
                shutil.rmtree(folder / "run", ignore_errors=True)
                words = self.training(family, limit)
        if not hit:
            shutil.rmtree(folder)
            return Kill(family, limit, [], "not killed")
        if self.command(folder, words, *prepared(limit))[0]:
            return Kill(family, limit, hit, self.complaint(folder))
        verdict = self.compared(folder, family, limit, plans)
        if verdict == "equal":
            shutil.rmtree(folder)
        return Kill(family, limit, hit, verdict)

    def compared(self, folder: Path, family: str, limit: str, plans: list[dict[str, Any] | None]) -> str:
        """Say how a resumed run compares with an undisturbed one, and what a further resume does.

        Args:
            folder: holds the run.
            family: of it.
            limit: of it.
            plans: the plan that it had each time when it was killed.
        """
        again, _ = self.command(folder, ["resume", "run"])
        if again or "is finished" not in (folder / "log").read_text():
            return f"a further resume: {self.complaint(folder)}"
        found = outcome(folder / "run")
        if any(kept not in (None, found["plan"]) for kept in plans):
            return "another plan than was made"
        whole = outcome(self.undisturbed(family, limit)[0])
        if None in plans and found["plan"] != whole["plan"]:  # it had to plan anew, from where it was
            whole = outcome(self.undisturbed(family, limit, as_planned=found["plan"])[0])
        different = differences(whole, found)
        return f"other {', '.join(different)}" if different else "equal"

    def complaint(self, folder: Path) -> str:
        """Return the last line that a command said."""
        return ((folder / "log").read_text().strip().splitlines() or ["nothing was said"])[-1]


def strike(place: str, seconds: float, draw: random.Random) -> Callable[[], None]:
    """Return what kills a run at ``place``; undisturbed it computes for ``seconds``."""
    if place == MOMENT:
        return moment(draw.uniform(0.02, 0.95) * seconds)
    return Changes(draw.randrange(40)) if place == CHANGE else BOUNDARIES[place]


def prepared(limit: str) -> list[Callable[[], None]]:
    """Return what a child does before a run under ``limit``."""
    return [lambda: wind(EVALUATION)] if limit == "budget" else []


def planned(run: Path) -> dict[str, Any] | None:
    """Return the plan that a run's checkpoint has, if there are both."""
    path = run / "checkpoints" / "last.ckpt"
    return plan_of(torch.load(path, weights_only=True)) if path.is_file() else None


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
        places = [draw.choice([MOMENT, CHANGE, draw.choice([*BOUNDARIES])]) for _ in range(draw.choice((1, 1, 2)))]
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
    wrong = [one for one in results if one.verdict != "equal"]
    print(f"What is wrong lies in {root}" if wrong else "")
    if not wrong:
        shutil.rmtree(root)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
