"""What lets hundreds of commands run in one process, or in forks of it, without each working out the same anew.

Importing torch and Lightning takes seconds, the tiniest training some tenths of one.
"""

import contextlib
import gc
import io
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from torch import Tensor
from tqdm import tqdm

from condgen.data import tables
from condgen.data.sources.idx import IDX, MNIST

SHIPPED_MNIST = MNIST()
SHIPPED: dict[int, Tensor] = {}
"""The images and labels of the set that ships with condgen, by where in memory they lie."""


def share(replace_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let commands of this process share what each would work out anew, to the same result.

    Hydra composes every configuration twice, the first time to look for ``hydra.mode``, which no file of conf/ sets; it parses
    the same YAML again and again, and every run unpacks the same MNIST. Commands in processes of their own do all of it.

    Args:
        replace_attribute: sets an attribute; a test passes what undoes it.
    """
    replace_attribute(Hydra, "get_mode", lambda *arguments, **options: None)
    Plugins.instance()  # registers the sources, from modules that it imports a second time
    source = SourcesRegistry.instance().resolve("file")
    replace_attribute(source, "load_config", once(source.load_config))
    read = cache(IDX._read)
    replace_attribute(MNIST, "_read", lambda self, *what, **more: stored(self, read, *what, **more))
    replace_attribute(tables, "statistics", known_statistics(tables.statistics))


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


def warm(*commands: list[str]) -> None:
    """Import and remember what commands need, by running ``commands`` in this process, in a folder that is removed."""
    share()
    tqdm.set_lock(threading.RLock())  # its own is one for all forks: one killed while it writes would stop all others for good
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for words in commands:
            output = io.StringIO()
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                code = run(words)
            if code:
                raise RuntimeError(f"condgen {' '.join(words)} ended with {code}:\n{output.getvalue()}")
    gc.collect()
    gc.freeze()  # torch's modules are hundreds of thousands of objects, which no collection has to look at again


def run(words: list[str]) -> int:
    """Be ``condgen`` with these arguments, and return its exit status."""
    from condgen.cli import main

    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None  # as a fresh process finds it
    with patch.object(sys, "argv", ["condgen", *words]):
        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def forked(words: list[str], folder: Path, log: Path, before: Callable[[], None] = lambda: None) -> int:
    """Run ``condgen`` in a fork of this process, in ``folder``, its output into ``log``; return the child's number.

    Args:
        before: what the child does first.
    """
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.chdir(folder)
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        before()
        code = run(words)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
