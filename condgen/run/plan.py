"""The plan of a run that has a budget of minutes: how it is shared out, where it is stored, how it is said."""

import os
import time
from dataclasses import dataclass
from typing import Any

EVALUATED = 0.1
"""Share of what remains that evaluations may take; one is made in any case."""
EVALUATIONS = 10
"""How many at most."""
BUSY = 1.5
"""Load for each core, averaged over a minute, above which updates wait for others: a run alone makes about one."""


@dataclass(frozen=True)
class Plan:
    """What was decided.

    Attributes:
        minutes: the budget.
        steps: updates of the whole run (of the generator, for a GAN).
        every: updates between two evaluations and pictures.
        made_at: the update after which the plan was made.
        measured: updates over which the speed was measured.
        seconds: of one update, measured.
        evaluation: seconds of one evaluation with its picture and checkpoint, measured.
        final: seconds of the last one, measured.
    """

    minutes: float
    steps: int
    every: int
    made_at: int
    measured: int
    seconds: float
    evaluation: float
    final: float

    @property
    def evaluations(self) -> int:
        """How many are made, the last at the last update."""
        return self.steps // self.every - self.made_at // self.every


def share_out(left: float, update: float, evaluation: float, made_at: int) -> tuple[int, int]:
    """Share ``left`` seconds between updates and evaluations.

    Args:
        left: seconds for both.
        update: seconds of one update, what each epoch costs besides included.
        evaluation: seconds of one evaluation.
        made_at: updates that are made already.

    Returns:
        The updates of the whole run and those between two evaluations, a divisor of them; no updates if nothing fits.
    """
    fitting = EVALUATED * left / evaluation if evaluation > 0 else EVALUATIONS
    count = max(1, min(EVALUATIONS, int(fitting)))
    further = int((left - count * evaluation) / update)
    if further < 1:
        return 0, 0
    every = max(1, (made_at + further) // count)
    # Rounding down may not take the run back behind where it stands.
    return (count * every, every) if count * every > made_at else (made_at + further, made_at + further)


def stored_plan(checkpoint: dict[str, Any]) -> Plan | None:
    """Return the plan that a checkpoint holds."""
    stored = checkpoint["callbacks"].get("Planner", {}).get("plan")
    return Plan(**stored) if stored else None


def longer(steps: int) -> str:
    """Return the overrides with which a planned run goes on to ``steps`` updates."""
    return f"run.budget_minutes=null trainer.max_epochs=-1 trainer.max_steps={steps}"


def at(seconds: float) -> str:
    """Return what the clock will show in so many ``seconds``, with the date where it is another day."""
    end = time.localtime(time.time() + seconds)
    return time.strftime("%H:%M" if end[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M", end)


def duration(seconds: float) -> str:
    """Write seconds as a person would: 8.2 s, 4.1 min, 2.5 h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def rate(updates: float) -> str:
    """Write a speed, in updates per second or, where these are slow, in seconds."""
    return f"{updates:.1f} updates/s" if updates >= 1 else f"{1 / updates:.1f} s an update"


def busy() -> str:
    """Return a further sentence where other programs use the cores too, and so make updates slow; nothing where none do."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    return f" The machine has more to do than this: load {load:.1f} on {cores} cores." if load >= BUSY * cores else ""
