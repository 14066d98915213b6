"""Random numbers from (seed, purpose, step) instead of from hidden state.

A stream that is a pure function of its key needs no saving: a run that was killed and resumed, or split over several
processes, draws what the undisturbed one would have drawn.
"""

import hashlib

import torch
from torch import Tensor


def mix(*key: int | str) -> int:
    """Hash ``key`` to a seed in [0, 2**63): equal keys give equal seeds, different keys unrelated ones."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator whose stream is decided by ``key``, e.g. ``generator(seed, "noise", step)``."""
    return torch.Generator().manual_seed(mix(*key))


def shard(rows: Tensor, rank: int, world: int) -> Tensor:
    """Return the contiguous share of ``rows`` (N, ...) that belongs to ``rank`` of ``world``; N is a multiple of ``world``."""
    if world == 1:
        return rows
    share = len(rows) // world
    return rows[rank * share : (rank + 1) * share]
