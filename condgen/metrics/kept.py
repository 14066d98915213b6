"""What is computed once of the real images and kept in the cache folder, under a hash of what it was computed from.

Of the bundled MNIST the slowest parts ship, so that a first run has its figures as soon as later ones.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from condgen.data import cache
from condgen.data.pixels import chunks
from condgen.data.tables import Part
from condgen.errors import CondgenError
from condgen.files import replacing

SHIPPED = Path(__file__).with_name("known")
"""Such files of what the default run measures; ``scripts/ship_known.py`` makes them."""
log = logging.getLogger("condgen")


def fingerprint(part: Part) -> str:
    """Hash images, labels and attributes of ``part``, 24 hexadecimal digits."""
    digest = hashlib.blake2b(str(tuple(part.table.images.shape[1:])).encode(), digest_size=12)
    images = part.table.images
    if not isinstance(images, Tensor) and (known := images.digest(part.rows)):
        digest.update(known.encode())
    else:
        for rows in chunks(part.rows, images):
            digest.update(images[rows].numpy().tobytes())
    digest.update(part.labels.numpy().tobytes())
    if part.values is not None:
        digest.update(part.values.numpy().tobytes())
    return digest.hexdigest()


def cached(name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of the file ``name``, shipped, or computed now or in an earlier run, by one process at a time.

    A file of the cache that is damaged, by its own hash, is made again.
    """
    if (known := intact(SHIPPED / f"{name}.safetensors")) is not None:
        return known
    file = cache.folder() / "metrics" / f"{name}.safetensors"
    try:
        with cache.locked(file):
            if (known := intact(file)) is not None:
                return known
            tensors = {key: value.contiguous() for key, value in compute().items()}
            try:
                with replacing(file) as temporary:
                    safetensors.torch.save_file(tensors, temporary, metadata={"hash": digest_of(tensors)})
            except CondgenError as error:
                log.warning("%s Every run will have to compute it anew.", error)
            return tensors
    except OSError as error:
        log.warning("The cache folder %s cannot be used (%s): every run will have to compute features.", cache.folder(), error)
        return compute()


def intact(file: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a cache file, None where there is none or a damaged one."""
    if not file.exists():
        return None
    try:
        tensors = safetensors.torch.load_file(file)
        with safetensors.safe_open(file, "pt") as content:
            stored = (content.metadata() or {}).get("hash")
    except (SafetensorError, OSError, ValueError):
        stored, tensors = None, {}
    if stored is not None and stored == digest_of(tensors):
        return tensors
    log.warning("The cache file %s is damaged, or of an earlier version: it is made again.", file)
    return None


def digest_of(tensors: dict[str, Tensor]) -> str:
    """Hash names, shapes and values, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}".encode())
        digest.update(tensors[key].contiguous().numpy().tobytes())
    return digest.hexdigest()
