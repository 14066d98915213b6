"""``condgen train`` on the command line: Hydra composes a configuration for each run, `condgen.train` does the work."""

import contextlib
import copy
import io
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

import hydra
import yaml
from hydra import compose
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from condgen.config.build import plain
from condgen.config.compose import composing, explain, refuse_nameless_choices, with_recipe
from condgen.config.folder import conf_dir
from condgen.errors import CondgenError, Interrupted
from condgen.run.processes import elastic, is_first, place, stamp
from condgen.run.slurm import restarted

OmegaConf.register_new_resolver("stamp", stamp, replace=True, use_cache=True)  # once for each run


def run_hydra(arguments: list[str]) -> None:
    """Hand ``arguments`` to Hydra.

    Raises:
        CondgenError: a choice or a key that does not exist, in one sentence.
    """
    arguments = options_first(arguments)
    refuse_sweep(arguments)
    refuse_nameless_choices(arguments)
    sys.argv = [sys.argv[0], *with_recipe(arguments)]
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through instead of printing them over many lines
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
    except Refused as refused:
        raise refused.error from None
    except (HydraException, OmegaConfBaseException) as error:
        raise CondgenError(explain(error, arguments)) from error
    except OSError as error:  # Hydra makes the run directory
        if error.filename is None:
            raise
        reason = f"{error.filename} cannot be used ({error.strerror})"
        raise CondgenError(f"{reason}; the run directory is chosen with hydra.run.dir=FOLDER.") from error
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]


def options_first(arguments: list[str]) -> list[str]:
    """Return ``arguments`` with Hydra's options, which may stand anywhere, before all KEY=VALUE; raises CondgenError."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            known = get_args_parser().parse_intermixed_args(arguments)
    except SystemExit as end:
        if not end.code:
            raise  # --version has printed it
        what = shorten(said.getvalue().strip().rpartition("error: ")[2], 100, placeholder=" ...")
        raise CondgenError(f"The options were not understood ({what}): condgen train --help says what there is.") from None
    if sum(map(bool, (known.run, known.multirun, known.cfg, known.info, known.shell_completion))) > 1:
        raise CondgenError("Give only one of --run, --multirun, --cfg, --info and --shell-completion.")
    options = list(reversed(arguments))
    for override in reversed(known.overrides):
        options.remove(override)
    return [*reversed(options), *known.overrides]


def refuse_sweep(arguments: list[str]) -> None:
    """Refuse a sweep that a launcher started several times: each process would choose runs of its own."""
    here = place()
    if here and here.world > 1 and {"-m", "--multirun"} & set(arguments):
        raise CondgenError(
            f"{here.launcher} started this sweep {here.world} times: start it once, with trainer=ddp each run starts its own "
            "processes, with hydra/launcher=slurm its own jobs."
        )


def task(tree: DictConfig) -> Any:
    """Run one job and return its objectives; in a sweep its mistakes do not end the others, Ctrl-C does."""
    started = time.monotonic()
    job = HydraConfig.get()
    directory = Path(job.runtime.output_dir)
    try:
        if job.mode == RunMode.RUN:
            refuse_search(job.sweeper)
        return start(plain(tree), directory, list(job.overrides.task), started)
    except CondgenError as error:
        remove_empty(directory)
        if job.mode == RunMode.MULTIRUN and not isinstance(error, Interrupted):
            logging.getLogger("hydra").error("condgen: job %s: %s", job.job.num, error)
            raise
        raise Refused(error) from error
    finally:
        if not tree.run.files:
            remove_empty(directory)


def start(config: dict[str, Any], directory: Path, overrides: list[str], started: float) -> Any:
    """Train the run that was composed, or go on with it where it was started again, and return its objectives."""
    if config["extras"]["ignore_warnings"]:
        warnings.simplefilter("ignore")
    if config["extras"]["print_config"] and is_first():
        print(yaml.safe_dump(config, sort_keys=False))
    from condgen.resume import go_on
    from condgen.run.directory import refuse_occupied
    from condgen.train import train

    if (restarted() or elastic()) and (directory / "config.yaml").exists():
        return go_on(config, directory, overrides)
    if config["run"]["files"] and is_first():
        refuse_occupied(directory)
    if (elsewhere := config["paths"]["output_dir"]) != str(directory):  # else a run would lie in two places
        raise CondgenError(f"paths.output_dir={elsewhere} would split the run: set hydra.run.dir={elsewhere} instead.")
    return train(config, directory, started=started, overrides=overrides)


def composed(overrides: list[str]) -> tuple[dict[str, Any], Path, list[str]]:
    """Return the configuration that ``overrides`` choose, the directory of its run, and which of them are for the record.

    Raises:
        CondgenError: a choice or a key that does not exist, or options of the command line.
    """
    if options := [override for override in overrides if override.startswith("-")]:
        raise CondgenError(f"{options[0]} is an option of the command condgen train: here, give GROUP=CHOICE and KEY=VALUE.")
    with composing(overrides):
        tree = compose("train", with_recipe(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(tree)  # what the configuration knows of its run, it asks there
        refuse_search(tree.hydra.sweeper)
        directory = Path(tree.hydra.run.dir).absolute()
        with read_write(tree.hydra), open_dict(tree.hydra.runtime):
            tree.hydra.runtime.output_dir = str(directory)
        HydraConfig.instance().set_config(tree)
        job = copy.deepcopy(tree)
        with read_write(job), open_dict(job):
            del job["hydra"]
        return plain(job), directory, list(tree.hydra.overrides.task)


def refuse_search(sweeper: DictConfig) -> None:
    """Refuse a search where one run was asked for."""
    if "n_trials" in sweeper:
        raise CondgenError("hparams_search=... and hydra/sweeper=optuna search over many runs: add --multirun.")


class Refused(BaseException):
    """Carries a sentence past Hydra, which would print lines of its own around an ordinary exception."""

    def __init__(self, error: CondgenError):
        super().__init__(error)
        self.error = error


def remove_empty(directory: Path) -> None:
    """Remove the directory that Hydra made for a job that wrote nothing, and what it made above, below where we stand."""
    with contextlib.suppress(OSError):
        directory.rmdir()
        for parent in directory.parents:
            if Path.cwd() not in parent.parents:
                return
            parent.rmdir()
