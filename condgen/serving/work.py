"""The work behind requests: threads that draw samples for whoever waits, those of several requests together.

Where several batches wait, several threads draw side by side, each with its share of the processor: one that has to wait for
Python, or for another program, then keeps nobody else. A batch that nothing waits behind has the whole processor. So has one
whose bits depend on the number of threads: it is drawn alone, with as many as ``condgen sample`` has.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.serving.job import Job
from condgen.serving.packing import Packing, Postponed
from condgen.serving.refusals import Gone

MOST = 4
"""Threads that draw; more would mostly wait for each other in Python."""


@dataclass(frozen=True)
class Batch:
    """What is drawn at a time.

    Attributes:
        parts: jobs, which are alike, and how many samples of each.
        size: of the batch that they are decoded in, which copies fill.
        alone: whether nothing else is drawn meanwhile, and the whole processor is used.
    """

    parts: list[tuple[Job, int]]
    size: int
    alone: bool


@dataclass(frozen=True)
class Trial:
    """What is found out before things are drawn together: how samples of such a job may be.

    Attributes:
        job: one of those that are meant.
        size: the number of samples.
        urgent: whether several wait for it; else it stops when somebody comes.
    """

    job: Job
    size: int
    urgent: bool


class Worker:
    """The threads that draw.

    Args:
        watch: is told of each batch that was drawn: the model, and the samples of each job in it.
    """

    def __init__(self, watch: Callable[[str, list[int]], None] = lambda model, sizes: None):
        self.watch = watch
        self.jobs: deque[Job] = deque()
        """Those that wait."""
        self.held: list[Job] = []
        """Those that are drawn."""
        self.packings: dict[tuple[object, ...], Packing | None] = {}
        """Which samples may be decoded together, by the kind of jobs."""
        self.untried: dict[tuple[object, ...], Trial] = {}
        """What of that is not known yet, by kind and size."""
        self.paces: dict[tuple[object, ...], dict[int, float]] = {}
        """Running means of the seconds that a step of a sample takes, by the pace and the size of jobs."""
        self.processors = torch.get_num_threads()
        self.hands = min(MOST, self.processors)
        """Threads that draw."""
        self.wake = threading.Condition()
        self.busy = 0
        """Threads that are at something."""
        self.alone = self.stopped = False
        self.handed: Batch | Trial | None = None
        """What the first thread is to do, alone."""
        self.threads = [
            threading.Thread(target=self.run, args=(number == 0,), name=f"condgen worker {number}", daemon=True)
            for number in range(self.hands)
        ]
        for thread in self.threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; its ``answer`` will be there, or an exception."""
        with self.wake:
            self.jobs.append(job)
            self.wake.notify_all()

    def __len__(self) -> int:
        """Number of jobs that wait or are drawn."""
        return len(self.jobs) + len(self.held)

    def patience(self, job: Job | None = None) -> float:
        """Return the seconds, as far as they are known, until all jobs that wait now will have been drawn, and one more."""
        with self.wake:
            jobs = [*self.jobs, *self.held, *([job] if job else [])]
        return sum(job.work * self.pace(job) for job in jobs)

    def pace(self, job: Job) -> float:
        """Return the seconds that a step of a sample takes, as jobs of such a size took last; 0 where none are known.

        A sample alone takes many times what it takes among others. So a size that is not known yet is hoped to take no longer
        than known smaller ones, as a whole, and each sample no longer than among more: too much hope ends at the time limit,
        too little would refuse what there is time for.
        """
        known, size = self.paces.get(job.pace, {}), magnitude(job)
        return known.get(size, min((pace * 2.0 ** min(0, other - size) for other, pace in known.items()), default=0.0))

    def stop(self) -> None:
        """End the threads after what they are at."""
        with self.wake:
            self.stopped = True
            self.wake.notify_all()
        for thread in self.threads:
            thread.join()

    # --- what is drawn next ---

    def run(self, first: bool) -> None:
        """Draw, until `stop`; try out batches of what was asked for when nobody waits.

        What has the whole processor is left to the ``first`` thread: OpenMP keeps a team for each thread that was ever given
        several, and when all teams together are more than the processors, they sleep between any two operations.
        """
        torch.get_num_threads()  # a thread's first look at their number takes over what another has set
        while True:
            with self.wake:
                self.wake.wait_for(lambda: self.ready(first))
                if self.stopped:
                    return
                task, handed = (self.handed, True) if first and self.handed else (self.choose(), False)
                if task is None:
                    continue
                jobs = [job for job, _ in task.parts] if isinstance(task, Batch) else []
                alone = not isinstance(task, Batch) or task.alone
                self.held += [] if handed else jobs
                self.alone = self.alone or alone
                if alone and not first:
                    self.handed = task
                    self.wake.notify_all()
                    continue
                self.handed = None
                if alone:
                    self.wake.wait_for(lambda: not self.busy)
                self.busy += 1
            torch.set_num_threads(self.processors if alone else self.processors // self.hands)
            if isinstance(task, Batch):
                self.work(task)
            else:
                self.try_out(task)
            with self.wake:
                self.busy -= 1
                self.alone = self.alone and not alone
                self.held = [job for job in self.held if job not in jobs]
                self.jobs.extend(job for job in jobs if not job.ended)
                self.wake.notify_all()

    def ready(self, first: bool) -> bool:
        """Whether there is something to do that may be begun, by the ``first`` thread or by another one."""
        if self.stopped or (first and self.handed):
            return True
        return not self.alone and bool(self.jobs or (self.untried and not self.busy))

    def choose(self) -> Batch | Trial | None:
        """Take from the queue what is drawn next, as many samples as are drawn at a time; or choose what is tried before."""
        self.jobs = deque(job for job in self.jobs if not job.ended)
        if not self.jobs:
            return self.untried.popitem()[1] if self.untried and not self.busy else None
        first, packing = self.jobs[0], self.packings.get(self.jobs[0].kind)
        if first.kind not in self.packings or (packing and not packing.knows(first.size)):
            if any(job.options == first.options for job in list(self.jobs)[1:]):
                return Trial(first, first.size, urgent=True)
            self.untried[first.kind, first.size] = Trial(first, first.size, urgent=False)
            packing = None
        free = packing is not None and packing.free(first.size)
        parts = self.together(first, packing) if packing and free else [(first, first.left)]
        for job, _ in parts:
            self.jobs.remove(job)
        alone = not packing or not (packing.divided if free else packing.lone(first.size)) or not (self.jobs or self.busy)
        count = sum(count for _, count in parts)
        as_alone = not free or (alone and len(parts) == 1 and count == first.size)
        return Batch(parts, count if as_alone or not packing else packing.size_for(count), alone)

    def together(self, first: Job, packing: Packing) -> list[tuple[Job, int]]:
        """Choose how many samples of which jobs are decoded together."""
        parts: list[tuple[Job, int]] = []
        room = packing.best
        for job in self.jobs:
            if room and job.options == first.options and packing.free(job.size):
                parts.append((job, min(room, job.left)))
                room -= parts[-1][1]
        return parts

    def try_out(self, trial: Trial) -> None:
        """Find out how samples may be drawn; where that fails, nothing is put together."""
        job = trial.job
        generator = copy(job.model.generator)

        def hurry() -> bool:
            return not trial.urgent and (bool(self.jobs) or self.stopped)

        try:
            generator.set_sampling(**job.request.sampling)
            if job.kind not in self.packings:
                self.packings[job.kind] = Packing(generator, job.requested, self.processors // self.hands, hurry)
            if packing := self.packings[job.kind]:
                packing.learn(trial.size, hurry)
        except Postponed:
            self.untried[job.kind, trial.size] = trial
            return
        except Exception:  # such as too little memory
            self.packings[job.kind] = None
        self.untried.pop((job.kind, trial.size), None)

    # --- drawing ---

    def work(self, batch: Batch) -> None:
        """Draw a batch, and give each job its samples."""
        started = time.monotonic()
        counts = [count for _, count in batch.parts]
        try:
            samples = self.draw(batch)
            for (job, _), drawn in zip(batch.parts, torch.split(samples, counts), strict=True):
                job.take(drawn)
        except BaseException as error:  # whatever it is, it is for those who asked, and the thread goes on
            for job, _ in batch.parts:
                job.fail(error)
            return
        first = batch.parts[0][0]
        spent = (time.monotonic() - started) / (sum(counts) * first.steps) / (1 if batch.alone else self.hands)
        known, size = self.paces.setdefault(first.pace, {}), magnitude(first)
        known[size] = 0.9 * known.get(size, spent) + 0.1 * spent
        self.watch(first.model.name, counts)

    @torch.inference_mode()
    def draw(self, batch: Batch) -> Tensor:
        """Return the next samples (B, *shape) of jobs, on the CPU."""
        first = batch.parts[0][0]
        generator = copy(first.model.generator)  # the weights are shared, the sampling options are not
        generator.set_sampling(**first.request.sampling)
        latents, conditions = zip(*(job.next(generator, count) for job, count in batch.parts), strict=True)
        count = sum(map(len, latents))
        z, c = (torch.cat([*parts, *[parts[-1][-1:]] * (batch.size - count)]) for parts in (latents, conditions))

        def on_step(done: int, total: int, expected: Callable[[], Tensor]) -> None:
            if all(job.ended for job, _ in batch.parts):
                raise Gone
            place = 0
            for job, share in batch.parts:
                here = slice(place, place + share)
                job.tell(share, done, total)
                job.show(lambda here=here: generator.condition.finish(expected(), c)[here].cpu())  # type: ignore[misc]
                place += share

        generator.on_step = on_step
        return generator.render(z, c.to(generator.device))[:count].cpu()


def magnitude(job: Job) -> int:
    """Return the number of binary digits of the samples that a job asks for at a time."""
    return len(job.parts[0]).bit_length()
