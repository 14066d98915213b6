"""From a question to its answer: queued and waited for."""

import asyncio
import base64
import json
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from condgen.errors import CondgenError
from condgen.serving.answers import KINDS
from condgen.serving.gate import Rules
from condgen.serving.job import Job
from condgen.serving.messages import Limits, Models, Question
from condgen.serving.metrics import Metrics
from condgen.serving.models import Served
from condgen.serving.questions import prepare
from condgen.serving.refusals import Gone, Refusal, of_mistake, unforeseen
from condgen.serving.work import Worker


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
        self.metrics = Metrics(lambda: len(self.worker), lambda: max(1, math.ceil(self.worker.patience())))
        self.jobs: dict[str, Job] = {}
        """Those that are waited for, by id."""
        self.draining = False
        """Whether the server is about to end and takes no more requests."""
        self.helpers = ThreadPoolExecutor(2, "condgen helper")
        """Read uploads and long conditions, so that the loop of events is never kept."""

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
        if model.quick and question.image is None:
            job = prepare(model, question, self.rules)
        else:
            job = await asyncio.get_running_loop().run_in_executor(self.helpers, prepare, model, question, self.rules)
        self.admit(job)
        about = {"X-Condgen-Id": job.id, "Cache-Control": "no-store"}
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(self.events(job, request), media_type="text/event-stream", headers=about)
        with self.queued(job):
            await self.wait(job, request, {awaited(job)})
        return Response(job.answer.result(), media_type=KINDS[job.form], headers=about)

    def admit(self, job: Job) -> None:
        """Raise Refusal for a job behind which so much waits already that its time would be over before its turn."""
        if len(self.worker) and (seconds := self.worker.patience(job)) > self.rules.timeout:
            self.metrics.full.inc()
            said = f"With what waits already this would take about {seconds:.0f} s, and may take {self.rules.timeout:g}: "
            raise Refusal(429, "queue_full", f"{said}try again later, or ask for fewer.", retry=self.metrics.patience())

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
        if job.answer.done():
            job.answer.result()
        elif time.monotonic() >= request.scope["deadline"]:
            said = f"The samples took longer than {self.rules.timeout:g} s: ask for fewer, or for fewer steps."
            raise Refusal(504, "time_limit", said)

    async def events(self, job: Job, request: Request) -> AsyncIterator[bytes]:
        """Yield the events of a request: ``progress`` and ``preview``, and ``result`` or ``error``."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        first: dict[str, Any] = {"done": 0, "total": len(job.requested), "unit": "samples", "id": job.id}
        now: dict[tuple[str, int], dict[str, Any]] = {}

        def tell(name: str, data: dict[str, Any]) -> None:
            now[name, data.get("first", 0)] = data  # in the place of what is older and was not sent yet
            with suppress(RuntimeError):  # of a loop that has ended
                loop.call_soon_threadsafe(news.set)

        job.report = lambda done, total, unit: tell("progress", {"done": done, "total": total, "unit": unit, "id": job.id})
        if job.form == "pngs":
            job.preview = lambda first, images: tell("preview", {"first": first, "images": images})
        try:
            with self.queued(job):
                answer = awaited(job)
                yield event("progress", first)
                while not answer.done():
                    told = asyncio.ensure_future(news.wait())
                    try:
                        await self.wait(job, request, {answer, told})
                    finally:
                        told.cancel()
                    news.clear()
                    while now:
                        (name, _), data = now.popitem()
                        yield event(name, data)
                content = job.answer.result()
            if KINDS[job.form] != "application/json":
                content = json.dumps({"content": base64.b64encode(content).decode()}).encode()
            yield b"event: result\ndata: " + content + b"\n\n"
        except Gone:
            return
        except Exception as error:
            yield event("error", refusal_of(error).body())


def awaited(job: Job) -> "asyncio.Future[bytes]":
    """Return the answer of a job as a future of the loop of events; an exception in it need not be looked at."""
    answer = asyncio.wrap_future(job.answer)
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())
    return answer


def refusal_of(error: Exception) -> Refusal:
    """Return the refusal that an error is told as."""
    if isinstance(error, Refusal):
        return error
    return of_mistake(error, "request") if isinstance(error, CondgenError) else unforeseen(error)


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
