"""What all tests share: the command, and one tiny trained run of each family."""

import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = (
    "1"  # here and in child processes: tiny steps gain nothing from threads that wait for each other
)

import pytest
import torch
from command import TINY, Result, condgen, only_run
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from torch import Tensor

from condgen import report
from condgen.data import tables
from condgen.data.sources.idx import IDX, MNIST
from condgen.run import precision


@pytest.fixture(scope="session", autouse=True)
def shortcuts() -> Iterator[None]:
    """Let the hundreds of commands that run in this process share what each would work out anew, to the same result.

    Hydra composes every configuration twice, the first time to look for ``hydra.mode``, which no file of conf/ sets; it parses
    the same YAML again and again, and every run unpacks the same MNIST. Commands in processes of their own do all of it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", lambda *arguments, **options: None)
        Plugins.instance()  # registers the sources, from modules that it imports a second time
        source = SourcesRegistry.instance().resolve("file")
        patch.setattr(source, "load_config", once(source.load_config))
        read = cache(IDX._read)
        patch.setattr(MNIST, "_read", lambda self, *what, **more: stored(self, read, *what, **more))
        patch.setattr(tables, "statistics", known_statistics(tables.statistics))
        gc.collect()
        gc.freeze()  # torch's modules are hundreds of thousands of objects, which no collection has to look at again
        yield
        gc.unfreeze()


SHIPPED_MNIST = MNIST()
SHIPPED: dict[int, Tensor] = {}
"""The images and labels of the set that ships with condgen, by where in memory they lie."""


def stored(source: MNIST, read: Callable[..., Tensor], *what: Any, **more: Any) -> Tensor:
    """Read a file of the set that ships with condgen once, and those of other folders as ever."""
    if source.root != SHIPPED_MNIST.root:
        return IDX._read(source, *what, **more)
    found = read(SHIPPED_MNIST, *what, **more)
    assert found._version == 0, "something has changed the images that all runs of this process share"
    SHIPPED[found.data_ptr()] = found
    return found


def known_statistics(statistics: Callable[[Tensor, Tensor], Any]) -> Callable[[Tensor, Tensor], Any]:
    """Return ``statistics`` with a memory of the images that ship with condgen."""
    known: dict[tuple[int, bytes], Any] = {}

    def looked_up(images: Tensor, rows: Tensor) -> Any:
        if images.data_ptr() not in SHIPPED or images.shape[1:] != (1, 28, 28):
            return statistics(images, rows)
        key = images.data_ptr(), sha256(rows.numpy().tobytes()).digest()
        if key not in known:
            known[key] = statistics(images, rows)
        return known[key]

    return looked_up


def once(load: Callable[[Any, str], ConfigResult]) -> Callable[[Any, str], ConfigResult]:
    """Return ``load`` with a memory of files that have not changed."""
    known: dict[tuple[str, str, int], tuple[ConfigResult, object]] = {}

    def loaded(source: Any, config_path: str) -> ConfigResult:
        file = Path(source.path) / source._normalize_file_name(config_path)
        if not file.is_file():
            return load(source, config_path)
        key = (source.provider, str(file), file.stat().st_mtime_ns)
        if key not in known:
            found = load(source, config_path)
            known[key] = found, OmegaConf.to_container(found.config)
        result, content = known[key]
        return replace(result, config=OmegaConf.create(content), header=dict(result.header))

    return loaded


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
