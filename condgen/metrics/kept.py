"""What is computed once of the real images and kept in the cache folder, under a hash of what it was computed from."""

import hashlib
import logging
from collections.abc import Callable

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from condgen.data import cache
from condgen.data.pixels import chunks
from condgen.data.tables import Part
from condgen.errors import CondgenError
from condgen.files import replacing

log = logging.getLogger("condgen")


def fingerprint(part: Part) -> str:
    """Hash images, labels and attributes of ``part``, 24 hexadecimal digits."""
    digest = hashlib.blake2b(str(tuple(part.table.images.shape[1:])).encode(), digest_size=12)
    for rows in chunks(part.rows, part.table.images):
        digest.update(part.table.images[rows].numpy().tobytes())
    digest.update(part.labels.numpy().tobytes())
    if part.values is not None:
        digest.update(part.values.numpy().tobytes())
    return digest.hexdigest()


def cached(name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of the cache file ``name``, computed now or in an earlier run, by one process at a time.

    Raises:
        CondgenError: the file is damaged.
    """
    file = cache.folder() / "metrics" / f"{name}.safetensors"
    try:
        with cache.locked(file):
            if file.exists():
                return safetensors.torch.load_file(file)
            tensors = compute()
            try:
                with replacing(file) as temporary:
                    safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)
            except CondgenError as error:
                log.warning("%s Every run will have to compute it anew.", error)
            return tensors
    except SafetensorError as error:
        raise CondgenError(f"The cache file {file} is damaged: delete it, it will be made again.") from error
    except OSError as error:
        log.warning("The cache folder %s cannot be used (%s): every run will have to compute features.", cache.folder(), error)
        return compute()
