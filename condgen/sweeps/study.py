"""A study that several workers share and that survives their deaths: who may run which trial, and what counts.

Optuna keeps the trials; this adds an owner to each. A trial whose owner has died is withdrawn and its settings are tried again,
so that a study ends with as many trials as were asked for, whatever happened on the way.
"""

import contextlib
import logging
import os
import platform
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from condgen.errors import CondgenError
from condgen.randomness import mix
from condgen.run.heartbeat import repeating
from condgen.sweeps.results import Direction
from condgen.sweeps.space import Space

log = logging.getLogger("hydra")

WITHDRAWN = "withdrawn"
"""Attribute of trials that do not count; says why."""
BEAT, GRACE = 60.0, 600.0
"""Seconds between two signs of life of a trial's owner, and after which silence it is taken for dead."""
MOMENT = 10.0
"""Seconds within which a worker has written its name on a trial that it took; a trial without one is nobody's."""
TRIES = 5
"""To open a database."""
ATTEMPTS = 3
"""A trial that dies as often with its owner counts as failed."""


class TPE(optuna.samplers.TPESampler):
    """Optuna's TPE, whose random numbers come from (seed, `draw` of the trial): a restart draws the same.

    Args:
        seed: of the search.
        startup: trials drawn at random before TPE takes over.
    """

    def __init__(self, seed: int, startup: int):
        super().__init__(seed=seed, n_startup_trials=startup)
        self._own_seed, self._startup = seed, startup

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin a new stream."""
        super().__init__(seed=mix(self._own_seed, "trial", draw(study, trial)) % 2**32, n_startup_trials=self._startup)
        super().before_trial(study, trial)


def open_storage(address: str) -> BaseStorage:
    """Open a database by its URL, or a journal file by its path.

    Two workers that start at the same time both make the tables of an empty database: the slower one tries again.

    Raises:
        CondgenError: there is no such database, or it cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = {"connect_args": {"timeout": 60}} if address.startswith("sqlite") else {}  # another worker is writing
    for attempt in range(TRIES):
        try:
            if "://" not in address:
                return JournalStorage(JournalFileBackend(address))
            return RDBStorage(address, engine_kwargs=options)
        except Exception as error:  # whatever a database's driver raises
            if type(error).__name__ not in ("OperationalError", "IntegrityError", "ProgrammingError") or attempt == TRIES - 1:
                reason = str(error).strip().splitlines()[0].rstrip(".")
                raise CondgenError(f"hydra.sweeper.storage={address} cannot be used: {reason}.") from error
            time.sleep(random.random())
    raise AssertionError


def open_study(name: str, address: str, sampler: TPE, directions: Sequence[Direction], asked: dict[str, Any]) -> optuna.Study:
    """Create a study, or go on with it if it is the same search.

    Args:
        name: of the study.
        address: see `open_storage`.
        sampler: chooses the trials.
        directions: "minimize" or "maximize", for each objective.
        asked: plain values that say what is searched and what is trained.

    Raises:
        CondgenError: the study has searched something else.
    """
    study = optuna.create_study(
        study_name=name, storage=open_storage(address), sampler=sampler, directions=directions, load_if_exists=True
    )
    before = study.user_attrs.get("asked", asked)
    for key in [*asked, *before]:
        if before.get(key) != asked.get(key):
            raise CondgenError(
                f"The study {name} in {address} has {key} {before.get(key)}, and now it would be {asked.get(key)}: "
                "choose another hydra.sweeper.study=NAME."
            )
    study.set_user_attr("asked", asked)
    return study


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count: finished, running, or to be tried again."""
    return [trial for trial in study.get_trials(deepcopy=False) if WITHDRAWN not in trial.user_attrs]


def draw(study: optuna.Study, trial: FrozenTrial) -> int:
    """Return which draw of the search a trial's settings are: never that of another trial, except one that it tries again.

    Nothing that other workers do meanwhile changes it: the trials older than this one are known when it is made.
    """
    older = study.get_trials(deepcopy=False)[: trial.number]
    return int(trial.user_attrs.get("draw", sum("draw" not in one.user_attrs for one in older)))


def place(study: optuna.Study, number: int) -> int:
    """Return how many trials that count are older than trial ``number``."""
    return sum(trial.number < number for trial in counted(study))


def reserve(study: optuna.Study, space: Space, n_trials: int, most: int) -> list[Trial]:
    """Take up to ``most`` trials for this worker; none if ``n_trials`` are finished or others' already.

    Two workers that take the last one at the same time both get a number; the younger gives its trial back. A worker that dies
    in the moment of taking one leaves it without an owner, which is waited for: it may be the last that is missing.
    """
    while any(unclaimed(trial) and age(trial) < MOMENT for trial in counted(study)):
        time.sleep(0.1)
    for left in counted(study):
        if left.state == TrialState.RUNNING and not alive(left):
            log.info("Trial %d was left by a worker that died: its settings are tried again.", left.number)
            withdraw(study, left, "its worker died", again=True)
    taken: list[Trial] = []
    while len(taken) < most and sum(trial.state != TrialState.WAITING for trial in counted(study)) < n_trials:
        trial = study.ask(space)
        trial.set_user_attr("seen", time.time())
        trial.set_user_attr("owner", {"host": platform.node(), "process": os.getpid()})
        if place(study, trial.number) < n_trials:
            taken.append(trial)
        else:
            withdraw(study, frozen(study, trial.number), "more were taken than asked for", again=False)
    return taken


def withdraw(study: optuna.Study, trial: FrozenTrial, reason: str, again: bool) -> None:
    """Let a running trial fail without counting it, and queue its settings anew if ``again``.

    One that has died too often fails and counts. Where another worker was faster, nothing is done.
    """
    attempt = trial.user_attrs.get("attempt", 1)
    hopeless = again and attempt >= ATTEMPTS
    try:
        if not hopeless:
            study._storage.set_trial_user_attr(trial._trial_id, WITHDRAWN, reason)
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, RuntimeError):  # finished meanwhile
        return
    if again and not hopeless:
        study.enqueue_trial(trial.params, user_attrs={"attempt": attempt + 1, "draw": draw(study, trial)})


def frozen(study: optuna.Study, number: int) -> FrozenTrial:
    """Return trial ``number`` as it is now."""
    return study.get_trials(deepcopy=False)[number]


def age(trial: FrozenTrial) -> float:
    """Return how many seconds ago a running trial began."""
    assert trial.datetime_start is not None
    return time.time() - trial.datetime_start.timestamp()


def unclaimed(trial: FrozenTrial) -> bool:
    """Whether a trial runs and has no owner yet."""
    return trial.state == TrialState.RUNNING and "owner" not in trial.user_attrs


def alive(trial: FrozenTrial) -> bool:
    """Whether the owner of a running trial lives: seen not long ago and, on this machine, still a process."""
    if unclaimed(trial):
        return age(trial) < MOMENT
    owner, seen = trial.user_attrs["owner"], trial.user_attrs["seen"]
    if time.time() - seen > GRACE:
        return False
    if owner["host"] != platform.node():
        return True
    try:
        os.kill(owner["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return bool(owner["process"] != os.getpid())  # what this process runs it has not left


@contextlib.contextmanager
def beating(trials: Sequence[Trial]) -> Iterator[None]:
    """Give signs of life for ``trials`` while they run."""

    def beat() -> None:
        for trial in trials:
            with contextlib.suppress(Exception):  # a storage that cannot be reached now; or the trial was stopped
                trial.set_user_attr("seen", time.time())

    with repeating(BEAT, beat):
        yield


def default_storage(folder: Path) -> str:
    """Return the URL of the database in a sweep's folder."""
    return f"sqlite:///{folder / 'study.db'}"
