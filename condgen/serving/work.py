"""The work behind requests: one thread draws samples, for whoever waits, in the order in which they came."""

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
from condgen.randomness import generator as keyed_generator
from condgen.samples import Request
from condgen.serving.models import Served
from condgen.serving.refusals import Gone

Report = Callable[[int, int, str], None]
"""Is told how much is done, of how much, in which unit; called from the thread that draws."""


class Job:
    """A request that was found good, on its way to its samples.

    Args:
        model: that is asked.
        request: what it is asked for.
        requested: encoded conditions (N, ...), see `condgen.samples.encode`.
        rows: number of conditions.
        names: what each sample was asked for.
    """

    def __init__(self, model: Served, request: Request, requested: Tensor, rows: int, names: list[str]):
        self.id = secrets.token_hex(8)
        self.model, self.request, self.requested, self.rows, self.names = model, request, requested, rows, names
        self.report: Report = lambda done, total, unit: None
        self.values: Future[Tensor] = Future()
        """The samples (N, *shape)."""
        each = BLOCK if request.to is None else min(BLOCK, request.count)
        self.parts = torch.split(requested, each)
        """Encoded conditions that are decoded at a time."""
        self.drawn: list[Tensor] = []

    @property
    def options(self) -> tuple[object, ...]:
        """What jobs that are drawn together have in common."""
        return self.model.name, *sorted(self.request.sampling.items())

    def latents(self) -> Tensor:
        """Draw the latents of the next part, as `condgen.samples` does it for files, with the sampling options that are set."""
        generator, number, seed = self.model.generator, len(self.drawn), self.request.seed
        size = len(self.parts[number])
        if self.request.to is None:
            return generator.noise(size, keyed_generator(seed, "sample", number))
        z = generator.latents(1, keyed_generator(seed, "class interpolation"))
        return z.expand(size, *z.shape[1:])

    def take(self, samples: Tensor) -> None:
        """Take the samples of the next part; after the last one `values` are there."""
        self.drawn.append(samples)
        if len(self.drawn) == len(self.parts):
            with suppress(InvalidStateError):  # of one that was cancelled
                self.values.set_result(torch.cat(self.drawn))
        elif "steps" not in self.model.generator.sampling:
            self.report(sum(map(len, self.drawn)), len(self.requested), "samples")

    @property
    def ended(self) -> bool:
        """Whether its samples are there, or will never be."""
        return self.values.done()

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
        """Draw, until `stop`."""
        while True:
            with self.wake:
                self.wake.wait_for(lambda: self.jobs or self.stopped)
                if self.stopped:
                    return
                batch = self.batch()
            if batch:
                self.work(batch)

    def batch(self) -> list[Job]:
        """Take from the queue the jobs whose next parts are drawn together."""
        job = self.jobs.popleft()
        return [] if job.ended else [job]

    def work(self, batch: list[Job]) -> None:
        """Draw the next part of each job; those with more to come go to the end of the queue."""
        started = time.monotonic()
        try:
            parts = self.draw(batch)
        except BaseException as error:  # whatever it is, it is for those who asked, and the thread goes on
            for job in batch:
                job.fail(error)
            return
        for job, samples in zip(batch, parts, strict=True):
            job.take(samples)
        self.seconds = 0.9 * self.seconds + 0.1 * (time.monotonic() - started)
        self.watch(batch[0].model.name, [len(samples) for samples in parts])
        with self.wake:
            self.jobs.extend(job for job in batch if not job.ended)

    @torch.inference_mode()
    def draw(self, batch: list[Job]) -> list[Tensor]:
        """Return the samples (B, *shape) of the next part of each job, drawn together, on the CPU."""
        generator = batch[0].model.generator
        generator.set_sampling(**batch[0].request.sampling)
        conditions = [job.parts[len(job.drawn)] for job in batch]
        z = torch.cat([job.latents() for job in batch])

        def on_step(done: int, total: int) -> None:
            if all(job.ended for job in batch):
                raise Gone
            for job in batch:
                job.report(len(job.drawn) * total + done, len(job.parts) * total, "steps")

        generator.on_step = on_step
        samples = generator.render(z, torch.cat(conditions).to(generator.device)).cpu()
        return list(torch.split(samples, [len(part) for part in conditions]))
