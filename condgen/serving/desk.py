"""From a question to its answer: queued, waited for, and written in the format that was asked for."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from torch import Tensor

from condgen.errors import CondgenError
from condgen.samples import Samples, marked
from condgen.serving.gate import Rules
from condgen.serving.messages import Limits, Models, Question
from condgen.serving.metrics import Metrics
from condgen.serving.models import Served
from condgen.serving.questions import prepare
from condgen.serving.refusals import Gone, Refusal, of_mistake, unforeseen
from condgen.serving.work import Job, Worker

KINDS = {"png": "image/png", "npz": "application/octet-stream", "pngs": "application/json", "json": "application/json"}
"""Media types of the formats."""
T = TypeVar("T")


class Desk:
    """Where questions are answered.

    Args:
        models: by name.
        rules: the limits.
    """

    def __init__(self, models: Mapping[str, Served], rules: Rules):
        self.models, self.rules = models, rules
        limits = Limits(count=rules.count, samples=rules.samples, image_bytes=rules.image_bytes)
        self.listed = Models(models=[model.described(limits) for model in models.values()])
        self.worker = Worker(lambda model, sizes: self.metrics.drawn(model, sizes))
        self.metrics = Metrics(lambda: len(self.worker), self.worker.patience)
        self.jobs: dict[str, Job] = {}
        """Those that are waited for, by id."""
        self.draining = False
        """Whether the server is about to end and takes no more requests."""
        self.helpers = ThreadPoolExecutor(2, "condgen helper")
        """Read uploads and write files, so that the loop of events is never kept."""

    def close(self) -> None:
        """End the threads."""
        self.worker.stop()
        self.helpers.shutdown(wait=True, cancel_futures=True)

    def cancel(self, id: str) -> None:
        """Cancel a request for samples; raises Refusal where nobody waits for it."""
        if id not in self.jobs:
            raise Refusal(404, "not_found", "No request of this id is waited for: it was answered, or never there.")
        self.jobs[id].fail(Refusal(409, "cancelled", "The request was cancelled."))

    async def answer(self, question: Question, request: Request) -> Response:
        """Draw what is asked for and return it, at once or as a stream of events."""
        model = self.models.get(question.model)
        if model is None:
            raise Refusal(404, "unknown_model", f"There is no model of this name, only {', '.join(self.models)}.", "model")
        job = await self.help(prepare, model, question, self.rules)
        about = {"X-Condgen-Id": job.id, "Cache-Control": "no-store"}
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(self.events(job, question, request), media_type="text/event-stream", headers=about)
        with self.queued(job):
            await self.wait(job, request, {awaited(job)})
            content = await self.help(written, job, question)
        return Response(content, media_type=KINDS[question.format], headers=about)

    async def help(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what takes its time in a helper."""
        return await asyncio.get_running_loop().run_in_executor(self.helpers, function, *arguments)

    @contextmanager
    def queued(self, job: Job) -> Iterator[None]:
        """Have a job drawn; whatever ends the wait, ends the work."""
        self.jobs[job.id] = job
        self.worker.submit(job)
        try:
            yield
        finally:
            job.fail(Gone())
            del self.jobs[job.id]

    async def wait(self, job: Job, request: Request, things: set["asyncio.Future[Any]"]) -> None:
        """Wait for one of some things; raises what ended the work, the time limit among it."""
        gone: asyncio.Future[None] = request.scope["gone"]
        left = request.scope["deadline"] - time.monotonic()
        await asyncio.wait({*things, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise Gone
        if job.values.done():
            job.values.result()
        elif time.monotonic() >= request.scope["deadline"]:
            said = f"The samples took longer than {self.rules.timeout:g} s: ask for fewer, or for fewer steps."
            raise Refusal(504, "time_limit", said)

    async def events(self, job: Job, question: Question, request: Request) -> AsyncIterator[bytes]:
        """Yield the events of a request: ``progress``, and ``result`` or ``error``."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        now: dict[str, Any] = {"done": 0, "total": len(job.requested), "unit": "samples", "id": job.id}

        def report(done: int, total: int, unit: str) -> None:
            now.update(done=done, total=total, unit=unit)
            with suppress(RuntimeError):  # of a loop that has ended
                loop.call_soon_threadsafe(news.set)

        job.report = report
        try:
            with self.queued(job):
                values = awaited(job)
                yield event("progress", now)
                while not values.done():
                    told = asyncio.ensure_future(news.wait())
                    try:
                        await self.wait(job, request, {values, told})
                    finally:
                        told.cancel()
                    if news.is_set():
                        news.clear()
                        yield event("progress", now)
                content = await self.help(written, job, question)
            if question.format in ("png", "npz"):
                content = json.dumps({"content": base64.b64encode(content).decode()}).encode()
            yield b"event: result\ndata: " + content + b"\n\n"
        except Gone:
            return
        except Exception as error:
            yield event("error", refusal_of(error).body())


def awaited(job: Job) -> "asyncio.Future[Tensor]":
    """Return the samples of a job as a future of the loop of events; an exception in it need not be looked at."""
    values = asyncio.wrap_future(job.values)
    values.add_done_callback(lambda done: done.cancelled() or done.exception())
    return values


def refusal_of(error: Exception) -> Refusal:
    """Return the refusal that an error is told as."""
    if isinstance(error, Refusal):
        return error
    return of_mistake(error, "request") if isinstance(error, CondgenError) else unforeseen(error)


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def written(job: Job, question: Question) -> bytes:
    """Return the body of an answer."""
    values = marked(job.values.result(), job.request)
    samples = Samples(job.model.generator, job.requested, values, job.names, job.rows, job.origin)
    if question.format == "png":
        return samples.png()
    if question.format == "npz":
        return samples.npz()
    answer: dict[str, Any] = {"id": job.id, "seed": question.seed, "labels": job.names}
    if question.format == "pngs":
        answer |= {"images": [base64.b64encode(picture).decode() for picture in samples.pngs()]}
    else:
        answer |= {"shape": list(values.shape[1:]), "samples": values.flatten(1).tolist()}
    return json.dumps(answer).encode()
