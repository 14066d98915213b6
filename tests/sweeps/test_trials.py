"""A study: who tries which of its trials, and what becomes of those whose workers died."""

import os
import platform
import subprocess
import sys
import threading
import time

import optuna
import pytest
from optuna.trial import TrialState
from searches import SPACE

from condgen.sweeps import study as studies


def test_the_same_seed_tries_the_same(tmp_path):
    tried = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        study = studies.open_study("s", str(tmp_path / name), studies.TPE(seed, startup=3), ["minimize"], {})
        for _ in range(6):
            (trial,) = studies.reserve(study, SPACE, 6, 1)
            study.tell(trial, trial.params["a"])
        tried.append([trial.params["a"] for trial in study.get_trials()])
    assert tried[0] == tried[1] and not set(tried[0]) & set(tried[2]) and len(set(tried[0])) == 6


def make_study(address: str) -> optuna.Study:
    return studies.open_study("s", address, studies.TPE(0, 10), ["minimize"], {})


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_trials_of_the_dead_are_tried_again(kind, tmp_path):
    address = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else str(tmp_path / "study.log")
    study = make_study(address)
    host, dead = platform.node(), subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    owners = [
        {"host": host, "process": dead.pid},  # dead
        {"host": host, "process": os.getppid()},  # alive
        {"host": "elsewhere", "process": 1},  # seen just now
        {"host": "elsewhere", "process": 1},  # silent for long
    ]
    for owner in owners:
        (trial,) = studies.reserve(study, SPACE, 9, 1)
        trial.set_user_attr("owner", {"host": "elsewhere", "process": 1})  # until all are there
        trial.set_user_attr("wanted", owner)
    for trial in study.get_trials():
        study._storage.set_trial_user_attr(trial._trial_id, "owner", trial.user_attrs["wanted"])
    study._storage.set_trial_user_attr(study.get_trials()[3]._trial_id, "seen", time.time() - 2 * studies.GRACE)
    taken = studies.reserve(make_study(address), SPACE, 4, 9)
    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL", "RUNNING", "RUNNING", "FAIL", "RUNNING", "RUNNING"]
    assert [trial.params for trial in taken] == [trials[0].params, trials[3].params]
    assert len(studies.counted(study)) == 4


def test_a_trial_whose_worker_died_before_it_had_its_name_on_it_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "MOMENT", 0.3)
    study = make_study(str(tmp_path / "study.log"))
    left = study.ask(SPACE)
    (taken,) = studies.reserve(study, SPACE, 1, 1)
    assert taken.params == left.params and [trial.state.name for trial in study.get_trials()] == ["FAIL", "RUNNING"]


def test_no_draw_is_made_twice_while_a_trial_of_a_dead_worker_changes_hands(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "alive", lambda trial: True)  # all workers are this process
    monkeypatch.setattr(studies, "MOMENT", 0.0)  # and write their names where they need them
    study, other = make_study(str(tmp_path / "study.log")), make_study(str(tmp_path / "study.log"))
    taken = studies.reserve(study, SPACE, 9, 3)
    enqueue = optuna.Study.enqueue_trial

    def slowly(self: optuna.Study, *arguments: object, **options: object) -> None:
        taken.append(other.ask(SPACE))  # another worker, between the end of the dead one's trial and its return
        enqueue(self, *arguments, **options)

    monkeypatch.setattr(optuna.Study, "enqueue_trial", slowly)
    studies.withdraw(study, studies.frozen(study, 1), "its worker died", again=True)
    again, following = studies.reserve(study, SPACE, 9, 2)
    assert again.params == taken[1].params
    assert len({trial.params["a"] for trial in [*taken, following]}) == 5


def test_settings_that_kill_their_workers_are_given_up(tmp_path):
    study = make_study(str(tmp_path / "study.log"))
    for attempt in range(studies.ATTEMPTS):
        (trial,) = studies.reserve(study, SPACE, 1, 1)
        assert trial.params == study.get_trials()[0].params
        assert trial.user_attrs.get("attempt", 1) == attempt + 1
        studies.withdraw(study, studies.frozen(study, trial.number), "its worker died", again=True)
    assert studies.reserve(study, SPACE, 1, 1) == []
    assert [trial.state.name for trial in studies.counted(study)] == ["FAIL"]


def test_workers_share_the_trials_of_a_study(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "alive", lambda trial: True)  # all workers are this process
    address, total = f"sqlite:///{tmp_path}/study.db", 12
    make_study(address)
    done: list[int] = []

    def work() -> None:
        study = make_study(address)
        while trials := studies.reserve(study, SPACE, total, 1):
            study.tell(trials[0], trials[0].params["a"])
            done.append(trials[0].number)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trials = studies.counted(make_study(address))
    assert sorted(done) == sorted(trial.number for trial in trials) and len(done) == total
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
