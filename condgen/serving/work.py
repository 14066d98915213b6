"""The work behind requests: one thread draws samples for whoever waits, those of several requests together."""

import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

import torch
from torch import Tensor

from condgen.generators.base import BLOCK
from condgen.origin import Origin
from condgen.randomness import generator as keyed_generator
from condgen.samples import Request
from condgen.serving.models import Served
from condgen.serving.packing import Packing, shape_of
from condgen.serving.refusals import Gone

Report = Callable[[int, int, str], None]
"""Is told how much is done, of how much, in which unit; called from the thread that draws."""


class Job:
    """A request that was found good, on its way to its samples.

    Its samples are drawn in parts, as ``condgen sample`` draws them: each part has a random stream of its own.

    Args:
        model: that is asked.
        request: what it is asked for.
        requested: encoded conditions (N, ...), see `condgen.samples.encode`.
        rows: number of conditions.
        names: what each sample was asked for.
        origin: what files say of where they come from; None: nothing.
    """

    def __init__(self, model: Served, request: Request, requested: Tensor, rows: int, names: list[str], origin: Origin | None):
        self.id = secrets.token_hex(8)
        self.model, self.request, self.requested, self.rows, self.names = model, request, requested, rows, names
        self.origin = origin
        self.report: Report = lambda done, total, unit: None
        self.values: Future[Tensor] = Future()
        """The samples (N, *shape)."""
        self.parts = torch.split(requested, BLOCK if request.to is None else min(BLOCK, request.count))
        self.part, self.done = 0, 0
        """The part that is drawn, and how many samples of it have been."""
        self.z: Tensor | None = None
        """The latents of that part, once there are some."""
        self.drawn: list[Tensor] = []

    @property
    def options(self) -> tuple[object, ...]:
        """What jobs that are drawn together have in common."""
        return self.model.name, *sorted(self.request.sampling.items())

    @property
    def size(self) -> int:
        """Samples of the part that is drawn."""
        return len(self.parts[self.part])

    @property
    def left(self) -> int:
        """Samples of that part that are not there yet."""
        return self.size - self.done

    @property
    def ended(self) -> bool:
        """Whether its samples are there, or will never be."""
        return self.values.done()

    def next(self, count: int) -> tuple[Tensor, Tensor]:
        """Return latents and encoded conditions of the next samples, (count, ...) each, under the options that are set."""
        if self.z is None:
            generator, seed = self.model.generator, self.request.seed
            if self.request.to is None:
                self.z = generator.noise(self.size, keyed_generator(seed, "sample", self.part))
            else:
                z = generator.latents(1, keyed_generator(seed, "class interpolation"))
                self.z = z.expand(self.size, *z.shape[1:])
        here = slice(self.done, self.done + count)
        return self.z[here], self.parts[self.part][here]

    def tell(self, count: int, step: int, steps: int) -> None:
        """Report that ``step`` of ``steps`` were made with the next ``count`` samples."""
        if count == len(self.requested):
            self.report(step, steps, "steps")
        else:
            self.report(self.there() * steps + count * step, len(self.requested) * steps, "steps")

    def there(self) -> int:
        """Return the number of samples that are there."""
        return sum(map(len, self.drawn))

    def take(self, samples: Tensor) -> None:
        """Take the next samples (B, *shape); after the last ones `values` are there."""
        self.drawn.append(samples)
        self.done += len(samples)
        if not self.left:
            self.part, self.done, self.z = self.part + 1, 0, None
        if self.part == len(self.parts):
            with suppress(InvalidStateError):  # of one that was cancelled
                self.values.set_result(torch.cat(self.drawn))
        else:
            self.report(self.there(), len(self.requested), "samples")

    def fail(self, error: BaseException) -> None:
        """End it without samples, unless it has ended."""
        with suppress(InvalidStateError):
            self.values.set_exception(error)


class Worker:
    """The thread that draws.

    Args:
        watch: is told of each batch that was drawn: the model, and the samples of each job in it.
    """

    def __init__(self, watch: Callable[[str, list[int]], None] = lambda model, sizes: None):
        self.watch = watch
        self.jobs: deque[Job] = deque()
        self.packings: dict[tuple[object, ...], Packing | None] = {}
        """Which samples may be decoded together, by the model and `shape_of` its sampling options."""
        self.untried: dict[tuple[object, ...], Job] = {}
        """Jobs of whose like that is not known yet."""
        self.wake = threading.Condition()
        self.stopped = False
        self.seconds = 0.1
        """A running mean of the time that a batch takes."""
        self.thread = threading.Thread(target=self.run, name="condgen worker", daemon=True)
        self.thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; its ``values`` will be there, or an exception."""
        with self.wake:
            self.jobs.append(job)
            self.wake.notify()

    def __len__(self) -> int:
        """Number of jobs that wait."""
        return len(self.jobs)

    def patience(self) -> int:
        """Return the seconds, at least 1, until those that wait now will have been drawn."""
        return max(1, math.ceil(len(self.jobs) * self.seconds))

    def stop(self) -> None:
        """End the thread after what it is at."""
        with self.wake:
            self.stopped = True
            self.wake.notify()
        self.thread.join()

    def run(self) -> None:
        """Draw, until `stop`; try out batches of what was asked for when nobody waits."""
        while True:
            with self.wake:
                self.wake.wait_for(lambda: self.jobs or self.untried or self.stopped)
                if self.stopped:
                    return
                living = [job for job in self.jobs if not job.ended]
                waiting = [job for job in living if job.options == living[0].options]
            if waiting:
                served = self.work(waiting)
                with self.wake:
                    left = [job for job in self.jobs if not job.ended]
                    self.jobs = deque([job for job in left if job not in served] + [job for job in left if job in served])
            elif self.untried:
                self.try_out(self.untried.popitem()[1])

    def work(self, waiting: list[Job]) -> list[Job]:
        """Draw the next samples of jobs, which are alike, as many as are drawn at a time; return those that got some."""
        started = time.monotonic()
        batch: list[tuple[Job, int]] = []
        try:
            batch, size = self.pack(waiting)
            samples = self.draw(batch, size)
            counts = [count for _, count in batch]
            for (job, _), drawn in zip(batch, torch.split(samples, counts), strict=True):
                job.take(drawn)
        except BaseException as error:  # whatever it is, it is for those who asked, and the thread goes on
            failed = [job for job, _ in batch] or waiting
            for job in failed:
                job.fail(error)
            return failed
        self.seconds = 0.9 * self.seconds + 0.1 * (time.monotonic() - started)
        self.watch(batch[0][0].model.name, counts)
        return [job for job, _ in batch]

    def pack(self, waiting: list[Job]) -> tuple[list[tuple[Job, int]], int]:
        """Choose how many samples of which jobs are decoded together, and the size of the batch that they are put into."""
        first = waiting[0]
        first.model.generator.set_sampling(**first.request.sampling)
        packing = self.packing(waiting)
        if packing is None or not packing.free(first.size):
            return [(first, first.left)], first.left
        batch, room = [], packing.best
        for job in waiting:
            if room and packing.free(job.size):
                batch.append((job, min(room, job.left)))
                room -= batch[-1][1]
        whole = len(batch) == 1 and batch[0][1] == first.size
        return batch, first.size if whole else packing.size_for(packing.best - room)

    def packing(self, waiting: list[Job]) -> Packing | None:
        """Return what is known of batches of these jobs; where nothing is, it is tried out if several wait, else later."""
        first = waiting[0]
        key = first.model.name, *shape_of(first.model.generator.sampling)
        if key not in self.packings:
            if len(waiting) == 1:
                self.untried[key] = first
                return None
            self.try_out(first)
        return self.packings[key]

    def try_out(self, job: Job) -> None:
        """Try out batches of what a job asks for; where that fails, nothing is put together."""
        generator = job.model.generator
        generator.set_sampling(**job.request.sampling)
        key = job.model.name, *shape_of(generator.sampling)
        try:
            self.packings[key] = Packing(generator, job.requested)
        except Exception:  # such as too little memory
            self.packings[key] = None
        self.untried.pop(key, None)

    @torch.inference_mode()
    def draw(self, batch: list[tuple[Job, int]], size: int) -> Tensor:
        """Return the next samples (B, *shape) of jobs, on the CPU, decoded in a batch of ``size``, with copies of the last."""
        generator = batch[0][0].model.generator

        def on_step(done: int, total: int) -> None:
            if all(job.ended for job, _ in batch):
                raise Gone
            for job, count in batch:
                job.tell(count, done, total)

        generator.on_step = on_step
        latents, conditions = zip(*(job.next(count) for job, count in batch), strict=True)
        count = sum(count for _, count in batch)
        z, c = (torch.cat([*parts, *[parts[-1][-1:]] * (size - count)]) for parts in (latents, conditions))
        try:
            return generator.render(z, c.to(generator.device))[:count].cpu()
        finally:
            generator.on_step = None
