"""What work will need, told before it starts where this machine does not have it."""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from condgen.errors import CondgenError

COPIES = 4
"""Weights, gradients and the two running means of Adam, each as large as the others."""


def available_memory() -> int:
    """Return the bytes of memory that programs can still get."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def size(count: float) -> str:
    """Write a number of bytes."""
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 1000 or unit == "TB":
            break
    return f"{count:,.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"


def require_memory(needed: float, what: str, remedy: str) -> None:
    """Raise CondgenError if ``what`` takes more memory than there is; both texts are parts of the sentence."""
    room = available_memory()
    if needed > room:
        raise CondgenError(f"{what} would take {size(needed)} of memory, and {size(room)} are free: {remedy}.")


def require_disk(needed: float, place: Path, what: str, remedy: str) -> None:
    """Raise CondgenError if ``what`` takes more room on the disk of ``place`` than there is."""
    there = next(folder for folder in [place.absolute(), *place.absolute().parents] if folder.is_dir())
    room = shutil.disk_usage(there).free
    if needed > room:
        raise CondgenError(f"{what} would take {size(needed)} on the disk of {there}, where {size(room)} are free: {remedy}.")


def require_weights(make: Callable[[], nn.Module]) -> None:
    """Refuse a model whose weights this machine cannot train: ``make`` builds it where tensors have a shape and no memory.

    A model that cannot be built there, or not at all, is left to whoever builds it next. Random numbers stay as they are.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weights that are copied to where there is no memory
            model = make()
            sizes = [tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers())]
    except Exception:  # whatever code does to values that are not there; mistakes are told by the real construction
        return
    what = f"Training {sum(tensor.numel() for tensor in model.parameters()) / 1e6:,.1f} M parameters"
    require_memory(COPIES * sum(sizes), what, "make the networks narrower, or the latent shorter")
