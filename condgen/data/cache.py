"""The cache folder: pixels that cost time to decode, or that outgrow memory, are packed once and mapped from there.

A packed file is a plain ``.npy`` of uint8 (N, C, H, W), named by what it was made from; deleting it is always safe.
"""

import fcntl
import hashlib
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.errors import CondgenError
from condgen.files import replacing

Pixels = NDArray[np.uint8]
Fill = Callable[[Pixels], None]
"""Writes images into the array (N, C, H, W) that it is given, a few at a time."""

CHECKS = ".blake2b"
"""Ending of the file beside a packed one that holds its hash."""
log = logging.getLogger(__name__)


def folder() -> Path:
    """Return the cache folder: the environment's CONDGEN_CACHE, or ~/.cache/condgen."""
    return Path(os.environ.get("CONDGEN_CACHE") or "~/.cache/condgen").expanduser()


def name(stem: str, *identity: object) -> str:
    """Name a packed file: a readable ``stem`` and a hash of everything that decides its pixels."""
    return f"{stem}-{hashlib.blake2b(repr(identity).encode(), digest_size=12).hexdigest()}"


def stamp(file: Path) -> tuple[str, int, int]:
    """Identify a file's content without reading it: absolute path, size in bytes, time of change in nanoseconds."""
    status = file.stat()
    return str(file.resolve()), status.st_size, status.st_mtime_ns


def fits(size: int, memory_share: float) -> bool:
    """Tell whether ``size`` bytes are at most ``memory_share`` of the machine's physical memory."""
    return size <= memory_share * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock of ``file`` against other processes; the system releases it even when this one is killed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(file.name + ".lock").open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def keep(name: str, shape: tuple[int, ...], fill: Fill, memory_share: float, *, costly: bool) -> Tensor:
    """Return a uint8 tensor of ``shape`` that ``fill`` has written, now or in an earlier run.

    Args:
        name: from `name`; equal names promise equal pixels.
        shape: (N, C, H, W).
        fill: called at most once, and by one process at a time.
        memory_share: up to this share of physical memory the tensor is loaded; above, it is mapped, and all processes
            of this machine share its pages.
        costly: True packs a small set too, since filling it again would take long.

    Raises:
        CondgenError: the cache folder cannot be written and the set does not fit into memory.
    """
    small = fits(math.prod(shape), memory_share)
    if small and not costly:
        return _in_memory(shape, fill)
    file = folder() / f"{name}.npy"
    try:
        with locked(file):
            if not _intact(file, shape):
                _pack(file, shape, fill)
    except OSError as error:
        problem = f"The cache folder {folder()} cannot be used ({error.strerror or error})"
        if not small:
            raise CondgenError(
                f"{problem}, and {math.prod(shape) / 1e9:.1f} GB are more than data.memory_share={memory_share} of memory: "
                "point the environment variable CONDGEN_CACHE to a folder with that much room."
            ) from None
        log.warning("%s: decoding into memory, as every further run will have to.", problem)
        return _in_memory(shape, fill)
    # Mapped copy-on-write: torch wants writable memory, and nobody's writes could reach the file.
    return torch.from_numpy(np.load(file, mmap_mode=None if small else "c"))


def _in_memory(shape: tuple[int, ...], fill: Fill) -> Tensor:
    pixels: Pixels = np.empty(shape, np.uint8)
    fill(pixels)
    return torch.from_numpy(pixels)


def _digest(file: Path) -> str:
    """Hash a file's content, 32 hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _intact(file: Path, shape: tuple[int, ...]) -> bool:
    """Tell whether a packed file is there and is what was written; one that is not is told and will be made again."""
    if not file.exists():
        return False
    try:
        fits = np.load(file, mmap_mode="r").shape == shape
        if fits and file.with_suffix(CHECKS).read_text(encoding="ascii") == _digest(file):
            return True
    except (OSError, ValueError, EOFError):
        pass
    log.warning("The cache file %s is damaged, or of an earlier version: it is made again.", file)
    return False


def _pack(file: Path, shape: tuple[int, ...], fill: Fill) -> None:
    """Write the file whole or not at all; the caller holds its lock."""
    room = shutil.disk_usage(file.parent).free
    if room < math.prod(shape):  # a full disk would kill the process: a mapped write cannot fail politely
        raise OSError(f"{math.prod(shape) / 1e9:.1f} GB needed, {room / 1e9:.1f} GB free")
    draft = file.with_suffix(".tmp")
    checks = file.with_suffix(CHECKS)
    try:
        pixels = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
        fill(pixels)
        pixels.flush()
        checks.unlink(missing_ok=True)
        draft.replace(file)
        with replacing(checks) as temporary:
            temporary.write_text(_digest(file), encoding="ascii")
        log.info("Packed %d samples into %s (once).", shape[0], file)
    finally:
        draft.unlink(missing_ok=True)
