"""How fast a machine multiplies matrices: what a training's arithmetic is set against."""

import time
from collections.abc import Callable

import torch


def product_rate(kind: torch.dtype = torch.float32, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return FLOP per second of a product of two matrices of 2048 x 2048 numbers of a ``kind``, the best of eight."""
    size = 2048
    a, b = torch.randn(2, size, size).to(kind)
    seconds = []
    for _ in range(8):
        start = clock()
        a @ b
        seconds.append(clock() - start)
    return 2 * size**3 / min(seconds)
