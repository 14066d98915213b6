"""The API of ``condgen serve``: the bytes of ``condgen sample``, requests put together, limits, progress and cancelling."""

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from serving.api import SLOW, Client, asked, picture, running

from condgen.generators.base import Generator
from condgen.samples import Request, draw, encode
from condgen.serving.job import Job
from condgen.serving.models import load_models
from condgen.serving.packing import Packing
from condgen.serving.work import Batch, Trial, Worker, magnitude

D = {"model": "digits"}


@pytest.mark.parametrize(
    "question, options",
    [
        ({"model": "digits", "condition": {"class": "3"}, "count": 3, "seed": 5}, ["--condition", "class=3", "--seed", 5]),
        ({"model": "digits", "count": 26, "sampling": {"truncation": 1.5}}, ["--truncation", 1.5]),
        ({"model": "digits", "condition": ["3", {"class": "4"}], "to": "7", "count": 4}, ["--condition", "3,4", "--to", 7]),
        ({"model": "attributes", "condition": {"rotation": -20.5}, "count": 2}, ["--condition", "rotation=-20.5"]),
        ({"model": "captions", "condition": {"caption": "a red dog"}, "count": 2}, ["--condition", '{"caption": "a red dog"}']),
        ({"model": "tags", "condition": {"tags": "red dog"}, "count": 2}, ["--condition", "tags=red dog"]),
        ({"model": "inpaint", "image": picture(), "count": 2}, ["--image", "start.png"]),
        ({"model": "texts", "condition": "b", "count": 2, "sampling": {"top_k": 2}}, ["--condition", "b", "--top-k", 2]),
        ({"model": "points", "condition": 3, "count": 5, "sampling": {"steps": 3}}, ["--condition", 3, "--steps", 3]),
    ],
    ids=["class", "blocks", "walk", "attributes", "caption", "tags", "image", "texts", "points"],
)
def test_answers_are_the_bytes_of_condgen_sample(question, options, server, run_condgen, folder, tmp_path):
    run, formats = server[1], {"png": "a.png", "npz": "a.npz", "pngs": "a"}
    formats |= {"txt": "a.txt"} if question["model"] == "texts" else {}
    (tmp_path / "start.png").write_bytes(base64.b64decode(picture()))
    if isinstance(question.get("condition"), list):  # which files write down in another way than the command's text
        question, options = question | {"metadata": False}, [*options, "--no-metadata"]
    for form, out in formats.items():
        if form == "pngs" and question["model"] in ("texts", "points"):
            continue
        words = ["--count", question["count"], *options, "--out", out]
        assert run_condgen("sample", folder / f"{question['model']}.ckpt", *words).code == 0
        answer = asked(run, question | {"format": form})
        assert answer.status_code == 200, answer.text
        if form == "pngs":
            files = [path.read_bytes() for path in sorted((tmp_path / out).glob("*.png"))]
            assert [base64.b64decode(image) for image in answer.json()["images"]] == files
            assert answer.headers["X-Condgen-Id"] == answer.json()["id"] and len(answer.json()["labels"]) == len(files)
        else:
            assert answer.content == (tmp_path / out).read_bytes()


def test_numbers_are_the_samples(server, models):
    answer = asked(server[1], {"model": "digits", "condition": "7", "count": 2, "seed": 3, "format": "json"}).json()
    samples = models["digits"].generator.sample("7", 2, seed=3)
    assert answer["shape"] == [1, 28, 28] and torch.equal(torch.tensor(answer["samples"]).view_as(samples), samples)
    answer = asked(server[1], {"model": "texts", "condition": "b", "seed": 3, "format": "json"}).json()
    texts = models["texts"].generator.space.texts(torch.tensor(answer["samples"]))
    assert answer["texts"] == texts and texts[0]


def test_models_say_what_they_can_be_asked_for(server):
    found = {model["name"]: model for model in server[1](lambda client: client.get("/v1/models")).json()["models"]}
    assert found["digits"]["condition"]["properties"]["class"]["enum"] == list("0123456789")
    rotation = found["attributes"]["condition"]["properties"]["rotation"]
    assert (rotation["type"], rotation["minimum"], rotation["maximum"]) == ("number", -45, 45)
    assert found["inpaint"]["condition"]["properties"]["image"]["kind"] == "inpaint"
    steps = found["points"]["sampling"]["properties"]["steps"]
    assert steps["type"] == "integer" and steps["default"] >= 1 and "steps" not in found["digits"]["sampling"]["properties"]
    assert "standing" not in found["digits"]["sampling"]["properties"] and found["digits"]["limits"]["count"] == 64
    assert len(found["digits"]["weights"]) == 64 != found["points"]["weights"]
    document = server[1](lambda client: client.get("/v1/openapi.json")).json()
    responses = document["paths"]["/v1/samples"]["post"]["responses"]
    assert {"200", "422", "429", "504"} <= responses.keys() and "image/png" in responses["200"]["content"]


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"])
def threads(request) -> Iterator[int]:
    """So many threads to compute with."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_what_waits_is_drawn_together_without_changing_a_bit(threads, models):
    """Requests of many sizes, conditions, seeds and options, for two models, that all wait when the first is drawn."""
    sizes: list[list[int]] = []
    worker = Worker(lambda model, batch: sizes.append(batch))
    questions = []
    for i in range(60):
        model = ("points", "digits")[i % 2]
        sampling = {"steps": 2} if i % 2 == 0 else {"truncation": 1.0} if i % 3 == 0 else {}
        condition, to = (None, None) if i % 7 == 0 else (str(i % 10), "4" if i % 11 == 5 else None)
        questions.append((models[model], Request(condition, to, None, (1, 2, 3, 8, 32)[i % 5] + (to is not None), i, sampling)))
    jobs = [Job(model, request, *encode(model.generator, request), form="json") for model, request in questions]
    with worker.wake:  # nothing is drawn before all wait
        for job in jobs:
            worker.submit(job)
    assert worker.hands == threads
    drawn = [torch.tensor(json.loads(job.answer.result(60))["samples"]) for job in jobs]
    worker.stop()
    for (model, request), values in zip(questions, drawn, strict=True):
        assert torch.equal(values, draw(model.generator, request, metadata=False).values.flatten(1)), request
    assert sum(map(sum, sizes)) == sum(map(len, drawn))
    assert any(len(batch) > 2 for batch in sizes), "nothing was put together"


def test_a_batch_has_the_whole_processor_unless_others_wait(models):
    """Which batches two threads would draw, without drawing them."""
    worker = Worker()
    worker.stop()
    worker.hands, worker.processors, points = 2, 2, models["points"]
    jobs = [
        Job(points, Request(str(i), count=64, seed=i), *encode(points.generator, Request(str(i), count=64))) for i in range(3)
    ]
    worker.jobs.extend(jobs[:1])
    assert worker.choose() == Batch([(jobs[0], 64)], 64, alone=True)  # of whose like nothing is known
    worker.jobs.extend(jobs)
    assert worker.choose() == Trial(jobs[0], 64, urgent=True)
    worker.try_out(Trial(jobs[0], 64, urgent=False))  # for which nobody who waits is kept waiting
    assert not worker.packings and list(worker.untried) == [(jobs[0].kind, 64)]
    packing = worker.packings[jobs[0].kind] = Packing(points.generator, jobs[0].requested, 1)
    packing.known, packing.sizes, packing.best, packing.divided = {64: (True, True)}, [16, 32], 32, True
    assert worker.choose() == Batch([(jobs[0], 32)], 32, alone=False)
    worker.jobs.popleft()
    assert worker.choose() == Batch([(jobs[2], 32)], 32, alone=True)  # the last one
    worker.jobs.append(jobs[2])
    worker.busy = 1
    assert worker.choose() == Batch([(jobs[2], 32)], 32, alone=False)
    worker.jobs.append(jobs[2])
    packing.divided = False  # fewer threads compute other bits
    assert worker.choose() == Batch([(jobs[2], 32)], 32, alone=True)


def test_one_thread_alone_draws_with_the_whole_processor(threads, models, monkeypatch):
    """Each thread that was ever given several processors keeps a team of them, and too many teams slow each other."""
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    plain_draw = Worker.draw

    def watched(worker: Worker, batch: Batch) -> torch.Tensor:
        seen[batch.alone].add(threading.current_thread().name)
        return plain_draw(worker, batch)

    monkeypatch.setattr(Worker, "draw", watched)
    worker, points = Worker(), models["points"]
    requests = [Request(str(i % 10), count=64, seed=i, sampling={"steps": 2}) for i in range(12)]
    jobs = [Job(points, request, *encode(points.generator, request)) for request in requests]
    worker.packings[jobs[0].kind] = None  # so all are drawn alone
    for job in jobs:  # each finds all threads waiting, of which any could take it
        worker.submit(job)
        job.answer.result(60)
        time.sleep(0.01)
    worker.stop()
    assert seen == {True: {worker.threads[0].name}, False: set()}


def test_what_is_not_known_of_large_requests_refuses_none(models):
    """A sample alone takes many times what it takes among others."""
    worker, points = Worker(), models["points"]
    worker.stop()
    one, many = (
        Job(points, Request("3", count=count), *encode(points.generator, Request("3", count=count))) for count in (1, 64)
    )
    assert worker.patience(many) == 0
    worker.paces = {one.pace: {magnitude(one): 0.1}}
    assert worker.patience(one) == pytest.approx(0.1 * one.work)
    assert worker.patience(many) == pytest.approx(0.1 * many.work / 2**6)
    worker.paces = {one.pace: {magnitude(many): 0.01}}
    assert worker.patience(one) == pytest.approx(0.01 * one.work)


class Fickle(torch.nn.Module):
    """A generator whose samples depend on the size of their batch: always, or rarely and at the end alone."""

    def __init__(self, generator: Generator, rare: bool):
        super().__init__()
        self.generator, self.rare = generator, rare
        self.space, self.condition, self.latents, self.device = generator.space, generator.condition, generator.latents, "cpu"
        self.sampling: dict[str, Any] = {}
        self.on_step = None

    def render(self, z: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Draw other bits in some batches, from latents alone, which no kernel touches."""
        samples = z[:, :1].repeat(1, 28 * 28).view(-1, 1, 28, 28)
        if self.rare and len(z) % 2:  # as a function that is computed for many numbers at a time does with the last ones
            samples[-1, ..., -1] += 1e-6 * (z[-1, 1] > 1.5)
        elif not self.rare and len(z) < 16:
            samples += 1e-6
        return samples


@pytest.mark.parametrize("rare", [False, True], ids=["always", "rarely"])
def test_sizes_that_compute_other_bits_are_found_out(rare, models):
    packing = Packing(Fickle(models["digits"].generator, rare), torch.zeros(1, dtype=torch.int64), 1)
    packing.best = 64
    for size in (1, 3, 8, 15, 16, 32, 64):
        packing.learn(size)
    assert not packing.free(1) and not packing.free(3) and not packing.free(15)
    assert packing.free(8) == rare and all(packing.free(size) for size in (16, 32, 64))


def test_progress_is_streamed_and_a_request_can_be_cancelled(models):
    with running(models) as (server, run):

        async def visit(client: Client) -> None:
            accept = {"Accept": "text/event-stream"}
            few = SLOW | {"sampling": {"steps": 4}, "format": "npz", "condition": "3"}
            short = await client.post("/v1/samples", json=few, headers=accept)
            events = [dict(line.split(": ", 1) for line in event.split("\n")) for event in short.text.strip().split("\n\n")]
            assert events[0]["event"] == "progress" and events[-1]["event"] == "result"
            told = [json.loads(event["data"]) for event in events[:-1]]
            assert told[0]["done"] == 0 and all(step["done"] <= step["total"] for step in told)
            assert (
                base64.b64decode(json.loads(events[-1]["data"])["content"])
                == (await client.post("/v1/samples", json=few)).content
            )
            for headers, status in ((accept, 200), ({}, 409)):
                asking = asyncio.create_task(client.post("/v1/samples", json=SLOW, headers=headers))
                while not server.desk.jobs:
                    await asyncio.sleep(0.01)
                (id,) = server.desk.jobs
                assert (await client.delete(f"/v1/samples/{id}")).status_code == 204
                answer = await asking
                assert answer.status_code == status and '"cancelled"' in answer.text
                assert (await client.delete(f"/v1/samples/{id}")).status_code == 404
            started = time.monotonic()
            assert (await client.post("/v1/samples", json=D)).status_code == 200  # nothing that was cancelled is in the way
            assert time.monotonic() - started < 5

        run(visit)


def test_previews_show_what_the_samples_are_expected_to_become(monkeypatch):
    monkeypatch.setattr("condgen.serving.job.BETWEEN", 0.0)
    (flow,) = load_models(["zoo:mnist-flow-matching"]).values()
    request = Request("3", count=2, sampling={"steps": 4, "solver": "euler"})
    job, seen, worker = Job(flow, request, *encode(flow.generator, request), form="pngs"), list[list[str]](), Worker()
    job.preview = lambda first, images: seen.append(images)
    worker.submit(job)
    result = [pixels(image) for image in json.loads(job.answer.result(60))["images"]]
    worker.stop()
    gaps = [sum(int(abs(pixels(image) - there).sum()) for image, there in zip(shown, result, strict=True)) for shown in seen]
    assert len(gaps) == 4 and gaps[0] > gaps[1] > gaps[2] > gaps[3] == 0
    with running({"flow": flow}) as (_, run):
        for form in ("pngs", "npz"):
            question = {"model": "flow", "condition": "3", "format": form}
            told = asked(run, question, headers={"Accept": "text/event-stream"}).text
            assert ("event: preview" in told) is (form == "pngs")


def pixels(image: str) -> Any:
    """Decode a PNG in base64."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(image)))).astype(int)


def test_a_client_that_leaves_ends_its_work(models):
    with running(models) as (server, _):
        jobs: list[Job] = []

        async def receive() -> dict[str, Any]:
            if not jobs and not server.desk.jobs and not receive.__dict__.get("sent"):
                receive.__dict__["sent"] = True
                return {"type": "http.request", "body": json.dumps(SLOW).encode()}
            while not server.desk.jobs:
                await asyncio.sleep(0.01)
            jobs.extend(server.desk.jobs.values())
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/samples",
            "raw_path": b"",
            "query_string": b"",
            "scheme": "http",
        }
        scope |= {"headers": [(b"content-type", b"application/json")], "http_version": "1.1", "asgi": {"spec_version": "2.3"}}
        asyncio.run(server.gate(scope, receive, send))
        (job,) = jobs
        assert job.ended and not server.desk.jobs and server.idle


def test_a_full_queue_and_a_time_limit_are_told(models):
    with running(models, queue=2, timeout=0.5) as (server, run):

        async def visit(client: Client) -> None:
            answers = await asyncio.gather(*(client.post("/v1/samples", json=SLOW) for _ in range(4)))
            assert sorted(answer.status_code for answer in answers) == [429, 429, 504, 504]
            full = next(answer for answer in answers if answer.status_code == 429)
            assert int(full.headers["Retry-After"]) >= 1 and full.json()["error"]["type"] == "queue_full"
            assert server.idle and not server.desk.jobs
            page = (await client.get("/metrics")).text
            assert 'condgen_requests_total{method="POST",path="/v1/samples",status="429"} 2.0' in page
            assert "condgen_queue_length" in page and "condgen_refused_full_total 2.0" in page

        run(visit)


def test_what_could_not_be_answered_in_time_is_refused_at_once(models):
    with running(models, timeout=30) as (server, run):
        worker = server.desk.worker

        async def visit(client: Client) -> None:
            slow = asyncio.create_task(client.post("/v1/samples", json=SLOW))
            while not server.desk.jobs:
                await asyncio.sleep(0.01)
            (job,) = server.desk.jobs.values()
            worker.paces = {
                job.pace: {magnitude(job): 20 / job.work}
            }  # what there is takes 20 s, and as much again is too much
            answer = await client.post("/v1/samples", json=SLOW)
            assert answer.status_code == 429 and 10 < int(answer.headers["Retry-After"]) <= 20, answer.text
            assert "about" in answer.json()["error"]["message"]
            assert (await client.post("/v1/samples", json=SLOW | {"count": 1})).status_code == 200
            slow.cancel()

        run(visit)


def test_a_token_is_wanted_for_the_api_and_not_for_health(models):
    with running(models, token="open sesame") as (_, run):
        for said, status in ((None, 401), ("Bearer open", 401), ("Bearer open sesame", 200)):
            headers = {"Authorization": said} if said else {}
            assert run(lambda client, headers=headers: client.get("/v1/models", headers=headers)).status_code == status
            assert asked(run, D, headers=headers).status_code == status
        assert run(lambda client: client.get("/healthz")).status_code == 200


def test_a_server_that_is_about_to_end_takes_no_more(models):
    with running(models) as (server, run):
        server.drain()
        assert run(lambda client: client.get("/readyz")).status_code == 503
        assert run(lambda client: client.get("/healthz")).status_code == 200
        assert asked(run, D).json()["error"]["type"] == "shutting_down"


def test_the_page_has_strict_headers_and_right_types(server):
    answer = server[1](lambda client: client.get("/"))
    assert answer.headers["Content-Type"].startswith("text/html") and answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'; img-src 'self' data: blob:" in answer.headers["Content-Security-Policy"]


def test_an_npz_without_metadata_says_nothing(server):
    with np.load(io.BytesIO(asked(server[1], D | {"format": "npz", "metadata": False}).content)) as file:
        assert set(file) == {"images", "labels"}


def test_a_server_with_a_key_marks_its_images(models):
    with running(models, watermark="secret") as (_, run):
        answer = asked(run, {"model": "digits", "condition": "3", "count": 16, "seed": 1, "format": "png"})
        points = asked(run, {"model": "points", "count": 2, "format": "json"})
    request = Request("3", count=16, seed=1, watermark="secret")
    assert answer.content == draw(models["digits"].generator, request).png() and points.status_code == 200
    assert answer.content != draw(models["digits"].generator, replace(request, watermark=None)).png()
