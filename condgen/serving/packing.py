"""Which samples may be computed together without changing a bit of any of them, and how many at a time is fastest.

A product of matrices may be summed in another order for one row than for sixteen, so a sample's last bits can depend on the
number of those that are decoded with it. Where they do is a matter of kernels, of a machine and its libraries, and is tried
out on random inputs. A kernel chooses its order of summation by the shapes, never by the values, and another order shows in a
good part of all outputs: where thousands agree, it is the same.

One thing shows more rarely. Functions such as tanh are computed for 32 numbers at a time, and what is left at the end of a
tensor, or of a thread's share of it, by other code, which differs in about one number of a hundred. So sizes that leave such a
rest are tried with many more inputs, or not put together.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.randomness import generator as keyed_generator

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Sizes of batches that are tried."""
LONG = 0.25
"""Seconds of one decoding after which larger sizes are not tried: they would only keep others waiting."""
PATIENCE = 3.0
"""Seconds that may be spent on one size."""
NEAR = 1.15
"""The smallest size is chosen whose time for a sample is within this factor of the shortest."""
VECTOR, GRAIN = 32, 32768
"""Numbers that torch computes at a time, and those from which on it divides them among threads."""
RARE = 1000
"""Numbers at the ends of tensors that have to agree."""


class Packing:
    """The sizes of batches in which a generator, with its sampling options as they are set now, computes the same bits.

    Args:
        generator: whose samples are meant.
        like: encoded conditions (N, ...), of which shape and type are taken where conditions cannot be drawn.
    """

    def __init__(self, generator: Generator, like: Tensor):
        stream = keyed_generator(0, "packing")
        count = SIZES[-1]
        self.generator = generator
        self.z = generator.latents(count, stream)
        try:
            self.conditions = generator.condition.draw(count, stream)
        except CondgenError:  # images, of which any will do
            self.conditions = torch.rand(count, *like.shape[1:], generator=stream, dtype=like.dtype) * 2 - 1
        self.known: dict[int, bool] = {}
        """Whether a number of samples computes the same as the largest size."""
        with trying(generator):
            seconds = self.time_sizes()
            largest = max(seconds)
            self.reference = torch.cat([self.decode(i, largest) for i in range(0, count, largest)])
            self.sizes = [size for size in seconds if self.agrees(size)]
        shortest = min((seconds[size] / size for size in self.sizes), default=0.0)
        self.best = next((size for size in self.sizes if seconds[size] / size <= NEAR * shortest), 1)

    def time_sizes(self) -> dict[int, float]:
        """Return the seconds of a decoding for each of the sizes, up to the first that takes long."""
        seconds: dict[int, float] = {}
        for size in SIZES:
            self.decode(0, size)  # the first one of a shape also chooses its kernels
            seconds[size] = min(self.time(size) for _ in range(3))  # others may use the processors, too
            if seconds[size] > LONG:
                break
        return seconds

    def time(self, size: int) -> float:
        """Return the seconds of a decoding."""
        started = time.perf_counter()
        self.decode(0, size)
        return time.perf_counter() - started

    def free(self, count: int) -> bool:
        """Whether ``count`` samples have the same bits alone as in any batch of one of the ``sizes``."""
        if len(self.sizes) < 2 or (count > self.best and count not in self.sizes):
            return False  # nothing would be gained
        with trying(self.generator):
            return self.agrees(count)

    def size_for(self, count: int) -> int:
        """Return the smallest of the sizes that has room for ``count`` samples."""
        return min(size for size in self.sizes if size >= count)

    def agrees(self, count: int) -> bool:
        """Whether batches of ``count`` compute what batches of the largest size compute; tried once."""
        if count not in self.known:
            self.known[count] = count <= len(self.reference) and self.tried(count)
        return self.known[count]

    def tried(self, count: int) -> bool:
        """Try batches of ``count`` at several places among the random inputs, and compare all numbers."""
        last = len(self.reference) - count
        numbers = count * math.prod(self.generator.space.shape)
        rest = numbers % (VECTOR * min(torch.get_num_threads(), math.ceil(numbers / GRAIN)))
        starts = range(0, last + 1, 1 if rest else count)
        if rest:
            enough = math.ceil(RARE / min(rest, VECTOR))
            if len(starts) < enough:
                return False
            starts = starts[:enough]
        started = time.perf_counter()
        for done, start in enumerate(starts, 1):
            if not torch.equal(self.decode(start, count), self.reference[start : start + count]):
                return False
            spent = time.perf_counter() - started
            if spent > PATIENCE / 6 and spent / done * len(starts) > PATIENCE:
                return False
        return True

    @torch.inference_mode()
    def decode(self, start: int, count: int) -> Tensor:
        """Decode some of the random inputs, (count, *shape), in memory of their own, as those of a request are."""
        part = slice(start, start + count)
        return self.generator.render(self.z[part].clone(), self.conditions[part].clone().to(self.generator.device)).cpu()


def shape_of(sampling: dict[str, object]) -> tuple[str, ...]:
    """Return what of the sampling options decides the shapes in a decoding, whatever values somebody asks for."""
    return tuple(name for name in ("guidance",) if name in sampling)


@contextmanager
def trying(generator: Generator) -> Iterator[None]:
    """Let a generator do as little as it can in the same shapes: one step of a solver, since all are alike."""
    sampling, on_step = generator.sampling, generator.on_step
    if "steps" in sampling:
        generator.sampling = {**sampling, "steps": 1, "solver": "euler"}
    generator.on_step = None
    try:
        yield
    finally:
        generator.sampling, generator.on_step = sampling, on_step
