"""A study in a real PostgreSQL that eight workers share, two of which are killed."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from searches import SPACE

from condgen.sweeps import study as studies

WORKERS, TRIALS = 8, 200
BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path(shutil.which("initdb") or "/absent/initdb").parent)


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database, of a server that this test starts, without any network."""
    pytest.importorskip("psycopg", reason="needs psycopg, the way of SQLAlchemy to PostgreSQL")
    if not (BIN / "initdb").is_file():
        pytest.skip("needs PostgreSQL's initdb and pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="condgen-pg-"))
    user = "postgres" if os.geteuid() == 0 else None  # which refuses to be run by root
    if user:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        subprocess.run([str(BIN / command[0]), "-D", str(folder / "data"), *command[1:]], check=True, user=user, cwd=folder)

    try:
        run("initdb", "--auth=trust", "--username=condgen", "--no-sync")
        run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses='' -c fsync=off")
        try:
            yield f"postgresql://condgen@/postgres?host={folder}"
        finally:
            run("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def work(address: str, finished: Path) -> None:
    """Search until enough trials are finished, as the sweeper does, with trials that are over at once."""
    study = studies.open_study("shared", address, studies.TPE(0, TRIALS), ["minimize"], {})
    while trials := studies.reserve(study, SPACE, TRIALS, 1):
        with studies.beating(trials):
            time.sleep(0.05)
            study.tell(trials[0], trials[0].params["a"] ** 2)
        with finished.open("a") as file:
            file.write(f"{trials[0].number}\n")


@pytest.mark.slow
def test_eight_workers_two_of_them_killed_finish_each_trial_once(database: str, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=work, args=(database, tmp_path / str(number))) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    by_pid = {worker.pid: worker for worker in workers}
    study = None
    killed: list[FrozenTrial] = []
    while len(killed) < 2:
        time.sleep(0.02)
        if study is None:
            names = optuna.get_all_study_names(studies.open_storage(database))
            study = optuna.load_study(study_name="shared", storage=database) if "shared" in names else None
            continue
        trials = study.get_trials(deepcopy=False)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING and "owner" in trial.user_attrs]
        if running and len(trials) > 30 * (len(killed) + 1):
            worker = by_pid.pop(running[0].user_attrs["owner"]["process"], None)
            if worker is not None and worker.pid is not None:  # in the middle of a trial
                os.kill(worker.pid, signal.SIGKILL)
                worker.join()
                killed.append(running[0])
    for worker in workers:
        worker.join(300)
    assert sorted(worker.exitcode or 0 for worker in workers) == [-signal.SIGKILL] * 2 + [0] * (WORKERS - 2)
    assert study is not None
    counted = studies.counted(study)
    assert len(counted) == TRIALS and {trial.state for trial in counted} == {TrialState.COMPLETE}
    assert len({trial.params["a"] for trial in counted}) == TRIALS  # none twice, those of the dead neither
    told = [int(line) for file in tmp_path.iterdir() for line in file.read_text().split()]
    assert len(set(told)) == len(told) and {trial.number for trial in counted} >= set(told)
    assert len(told) >= TRIALS - len(killed)  # one may have been killed between telling the study and its file
