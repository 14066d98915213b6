"""What all tests share: the command, and one tiny trained run of each family."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = (
    "1"  # here and in child processes: tiny steps gain nothing from threads that wait for each other
)

# Hundreds of processes follow. Where none keeps what it compiled, each spends more time on torch's sources than on its test.
os.environ["PYTHONDONTWRITEBYTECODE"] = ""

import pytest
import torch
from command import TINY, Result, condgen, only_run
from warm import share

from condgen import report
from condgen.run import precision


@pytest.fixture(scope="session", autouse=True)
def shortcuts() -> Iterator[None]:
    """Let the hundreds of commands that run in this process share what each would work out anew, to the same result."""
    with pytest.MonkeyPatch.context() as patch:
        share(patch.setattr)
        gc.collect()
        gc.freeze()  # torch's modules are hundreds of thousands of objects, which no collection has to look at again
        yield
        gc.unfreeze()


REAL_CHART = report.curves_chart


@pytest.fixture(scope="session", autouse=True)
def no_curves() -> Iterator[None]:
    """Leave the chart of curves white, which every run draws at its end and which takes longer than the rest of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "curves_chart", lambda curves: torch.full((3, 8, 8), 255, dtype=torch.uint8))
        yield


@pytest.fixture
def real_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the chart of curves after all."""
    monkeypatch.setattr(report, "curves_chart", REAL_CHART)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's cache, the runs that session fixtures make among them; all processes share one."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDGEN_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_fast_bf16() -> Iterator[None]:
    """Let ``trainer.precision=auto`` mean 32-true on every machine that runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "fast_bf16", lambda device: (False, f"bf16 is masked on this {device}"))
        yield


@pytest.fixture
def run_condgen(tmp_path: Path) -> Callable[..., Result]:
    """Return ``run(*arguments) -> Result``, the command in an empty folder."""
    return lambda *arguments: condgen(*arguments, cwd=tmp_path)


@pytest.fixture(scope="session")
def gan_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a GAN that was trained for three steps; not to be changed."""
    root = tmp_path_factory.mktemp("gan")
    result = condgen("train", "experiment=none", "model=cgan_mlp", *TINY, "trainer.max_epochs=1", cwd=root)
    assert result.code == 0, result
    return only_run(root)


@pytest.fixture(scope="session")
def vae_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a VAE that was trained for two epochs of three steps; not to be changed."""
    root = tmp_path_factory.mktemp("vae")
    result = condgen("train", "experiment=none", "model=cvae_mlp", *TINY, "trainer.max_epochs=2", cwd=root)
    assert result.code == 0, result
    return only_run(root)
