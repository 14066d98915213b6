"""Which samples may be computed together without changing a bit of any of them, and how many at a time is fastest.

A product of matrices may be summed in another order for one row than for sixteen, so a sample's last bits can depend on the
number of those that are decoded with it. Where they do is a matter of kernels, of a machine and its libraries, and is tried
out on random inputs. A kernel chooses its order of summation by the shapes, never by the values, and another order shows in a
good part of all outputs: where thousands agree, it is the same.

One thing shows more rarely. Functions such as tanh are computed for 32 numbers at a time, and what is left at the end of a
tensor, or of a thread's share of it, by other code, which differs in about one number of a hundred. So sizes that leave such a
rest are tried with many more inputs, or not put together.

Some kernels also divide a sum among the threads that they have. So whether fewer threads compute the same is tried, too.
"""

import math
import time
from collections.abc import Callable, Iterator
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
TIMES = 5
"""Decodings of which the shortest counts."""
BESIDE = 5e-4
"""Seconds that a batch costs beside its decoding."""
NEAR = 1.1
"""The smallest size is chosen whose time for a sample is within this factor of the shortest."""
VECTOR, GRAIN = 32, 32768
"""Numbers that torch computes at a time, and those from which on it divides them among threads."""
RARE = 1000
"""Numbers at the ends of tensors that have to agree."""


class Postponed(Exception):
    """Somebody waits, and it can be tried out later."""


class Packing:
    """The sizes of batches in which a generator, with its sampling options as they are set now, computes the same bits.

    Args:
        generator: whose samples are meant; its options must not change later.
        like: encoded conditions (N, ...), of which shape and type are taken where conditions cannot be drawn.
        share: threads that a batch has when others are drawn beside it; those of this thread are what ``condgen sample`` has.
        hurry: asked before each decoding that is tried; where it says True, `Postponed` is raised.
    """

    def __init__(self, generator: Generator, like: Tensor, share: int, hurry: Callable[[], bool] = lambda: False):
        stream = keyed_generator(0, "packing")
        count = SIZES[-1]
        self.generator, self.share, self.hurry = generator, share, hurry
        self.z = generator.latents(count, stream)
        try:
            self.conditions = generator.condition.draw(count, stream)
        except CondgenError:  # images, of which any will do
            self.conditions = torch.rand(count, *like.shape[1:], generator=stream, dtype=like.dtype) * 2 - 1
        self.known: dict[int, tuple[bool, bool]] = {}
        """What `learn` has found of a number of samples: whether they are `free`, and whether they are `lone`."""
        with trying(generator):
            with threads(share):
                seconds = self.time_sizes()
            largest = max(seconds)
            self.reference = torch.cat([self.decode(i, largest) for i in range(0, count, largest)])
            whole = [size for size in seconds if self.tried(size)]
            with threads(share):
                shared = [size for size in whole if self.tried(size)]
        self.divided = len(shared) > 1
        """Whether batches may have a share of the threads; else they are drawn alone, with all."""
        self.sizes = shared if self.divided else whole
        shortest = min((seconds[size] / size for size in self.sizes), default=0.0)
        self.best = next((size for size in self.sizes if seconds[size] / size <= NEAR * shortest), 1)
        """The size that is fastest for many samples."""

    def time_sizes(self) -> dict[int, float]:
        """Return the seconds of a decoding for each of the sizes, up to the first that takes long."""
        seconds: dict[int, float] = {}
        for size in SIZES:
            self.decode(0, size)  # the first one of a shape also chooses its kernels
            seconds[size] = min(self.time(size) for _ in range(TIMES))
            if seconds[size] > LONG:
                break
        return seconds

    def time(self, size: int) -> float:
        """Return the seconds of a decoding, with what a batch costs beside it; what else the processor does is left out."""
        started = time.thread_time()
        self.decode(0, size)
        return time.thread_time() - started + BESIDE

    def learn(self, count: int, hurry: Callable[[], bool] = lambda: False) -> None:
        """Try out ``count`` samples, unless they are known; raises Postponed where ``hurry`` says so."""
        if self.knows(count):
            return
        self.hurry = hurry
        with trying(self.generator):
            useful = len(self.sizes) > 1 and (count <= self.best or count in self.sizes)  # else nothing would be gained
            free = useful and (count in self.sizes or self.tried(count))
            self.known[count] = free, free or self.same_with_fewer_threads(count)

    def knows(self, count: int) -> bool:
        """Whether it is known how ``count`` samples may be drawn."""
        return count in self.known

    def free(self, count: int) -> bool:
        """Whether ``count`` samples, which are known, have the same bits alone as in any batch of one of the ``sizes``."""
        return count in self.known and self.known[count][0]

    def lone(self, count: int) -> bool:
        """Whether ``count`` samples, which are known and not `free`, have the same bits with a share of the threads."""
        return self.known[count][1]

    def size_for(self, count: int) -> int:
        """Return the smallest of the sizes that has room for ``count`` samples."""
        return min(size for size in self.sizes if size >= count)

    def tried(self, count: int) -> bool:
        """Try batches of ``count`` at several places among the random inputs, and compare all numbers with the reference."""
        if count > len(self.reference):
            return False
        return self.compared(count, lambda start: self.reference[start : start + count])

    def same_with_fewer_threads(self, count: int) -> bool:
        """Try batches of ``count``, and compare all numbers with those that a share of the threads computes."""
        if count > len(self.reference):
            return False

        def shared(start: int) -> Tensor:
            with threads(self.share):
                return self.decode(start, count)

        return self.compared(count, shared)

    def compared(self, count: int, expected: Callable[[int], Tensor]) -> bool:
        """Whether batches of ``count`` from several places are as ``expected`` there."""
        last = len(self.reference) - count
        numbers = count * math.prod(self.generator.space.shape)
        divided = (min(n, math.ceil(numbers / GRAIN)) for n in (torch.get_num_threads(), self.share))
        rests = [rest for n in divided if (rest := numbers % (VECTOR * n))]
        starts = range(0, last + 1, 1 if rests else count)
        if rests:
            enough = math.ceil(RARE / min(*rests, VECTOR))
            if len(starts) < enough:
                return False
            starts = starts[:enough]
        started = time.thread_time()
        for done, start in enumerate(starts, 1):
            if not torch.equal(self.decode(start, count), expected(start)):
                return False
            spent = time.thread_time() - started
            if spent > PATIENCE / 6 and spent / done * len(starts) > PATIENCE:
                return False
        return True

    @torch.inference_mode()
    def decode(self, start: int, count: int) -> Tensor:
        """Decode some of the random inputs, (count, *shape), in memory of their own, as those of a request are."""
        if self.hurry():
            raise Postponed
        part = slice(start, start + count)
        return self.generator.render(self.z[part].clone(), self.conditions[part].clone().to(self.generator.device)).cpu()


def shape_of(sampling: dict[str, object]) -> tuple[str, ...]:
    """Return what of the chosen sampling options decides the shapes in a decoding, whatever values somebody asks for."""
    return ("guidance",) if sampling.get("guidance", 1) != 1 else ()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
