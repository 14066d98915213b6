"""The page of a study and what it asks for: one trial at a time, never what is right.

The page gets names of pictures that are numbers, and pictures that hold nothing but pixels. Each answer is on the disk before
the next trial is told. Whoever comes back goes on where they stopped, since the file of their answers says where that is.
"""

import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from condgen.errors import CondgenError
from condgen.listening import LOCAL
from condgen.metrics.intervals import wilson
from condgen.studies.answers import alias, append_answer, place, read_answers
from condgen.studies.results import chance, counted
from condgen.studies.trials import Study

log = logging.getLogger("condgen")
PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/app.js": "app.js", "/style.css": "style.css", "/icon.svg": "icon.svg"}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TOLD = {
    "hype": "Wrong answers",
    "hype_fake": "Generated pictures that you took for real",
    "hype_real": "Real pictures that you took for generated",
    "human_accuracy": "Generated pictures that you named as they were meant",
    "human_accuracy_real": "Real pictures that you named as they are",
    "preference": "Pairs in which the first model looked more real",
    "preference_condition": "Pairs in which the first model showed it better",
}
"""What a person is told at the end, by metric."""
LONGEST = 4096
"""Bytes of a request's body."""


class Start(BaseModel):
    """A person begins or comes back."""

    model_config = ConfigDict(extra="forbid")
    person: str = Field(default="", max_length=64)


class Answer(BaseModel):
    """A person answers a question of a trial, which are counted from 1."""

    model_config = ConfigDict(extra="forbid")
    person: str = Field(max_length=64)
    trial: int
    question: str = Field(max_length=16)
    answer: str = Field(max_length=256)


class Refused(Exception):
    """A request that cannot be answered."""

    def __init__(self, status: int, kind: str, message: str, field: str | None = None):
        super().__init__(message)
        self.status, self.content = status, {"error": {"type": kind, "message": message, "field": field}}


def application(folder: Path, study: Study, local: bool = True) -> FastAPI:
    """Return the server of ``study``, which lies in ``folder``.

    Args:
        folder: holds its pictures, and gets the answers.
        study: what is asked.
        local: answer only under names of this machine, so that no other site's name can be made to lead here.
    """
    app = FastAPI(title="condgen study", docs_url=None, redoc_url=None, openapi_url=None)
    pictures = {name for trial in study.trials for name in trial.pictures}
    for path, file in FILES.items():
        app.add_api_route(path, static(PAGE / file), methods=["GET"])

    @app.get("/api/study")
    async def about() -> dict[str, Any]:
        return {
            "paired": study.paired,
            "questions": ["real", "condition"] if study.question == "both" else [study.question],
            "classes": study.classes,
            "trials": len(study.trials),
        }

    @app.post("/api/people")
    async def start(request: Start) -> dict[str, Any]:
        return state(folder, study, named(request.person) if request.person.strip() else f"guest-{secrets.token_hex(3)}")

    @app.post("/api/answers")
    async def answer(given: Answer) -> dict[str, Any]:
        return take(folder, study, given)

    @app.get("/pictures/{name}")
    async def picture(name: str) -> Response:
        if name not in pictures:
            raise Refused(404, "not_found", "There is no such picture.")
        return Response((folder / "pictures" / name).read_bytes(), media_type="image/png")

    guard(app, local)
    return app


def static(path: Path) -> Callable[[], Awaitable[Response]]:
    """Return what answers with a file of the page."""

    async def answer() -> Response:
        return Response(path.read_bytes(), media_type=TYPES[path.suffix])

    return answer


def named(person: str) -> str:
    """Return a person's name as files know it; raises Refused."""
    try:
        return alias(person)
    except CondgenError as error:
        raise Refused(422, "invalid_name", str(error), "person") from error


def take(folder: Path, study: Study, given: Answer) -> dict[str, Any]:
    """Keep an answer to what this person is asked now, and return where they stand; raises Refused for any other."""
    person = named(given.person)
    path = place(folder, person)
    known = len(read_answers(path, study))
    slot = study.slots[known] if known < len(study.slots) else None
    if slot is None or (given.trial, given.question) != (slot[0] + 1, slot[1]):
        raise Refused(409, "out_of_order", "This was answered already, in another window perhaps.")
    if given.answer not in study.choices(given.question):
        raise Refused(422, "invalid_answer", f"{given.answer!r} is no answer to this question.", "answer")
    append_answer(path, *slot, given.answer)
    return state(folder, study, person)


def state(folder: Path, study: Study, person: str) -> dict[str, Any]:
    """Return where a person stands: what is asked next, or at the end, where it may be told, how they did."""
    answers = read_answers(place(folder, person), study)
    found: dict[str, Any] = {"person": person, "answered": len(answers), "questions": len(study.slots), "task": None}
    if len(answers) < len(study.slots):
        number, question = study.slots[len(answers)]
        trial = study.trials[number]
        shows = study.paired and question == "condition"
        return found | {
            "task": {
                "trial": number + 1,
                "question": question,
                "choices": study.choices(question),
                "pictures": [f"pictures/{name}" for name in trial.pictures],
                "condition": trial.condition if shows else None,
            }
        }
    return found | {"result": result(study, answers) if study.feedback else None}


def result(study: Study, answers: list[str]) -> list[dict[str, Any]]:
    """Return how a person did, a row for each figure."""
    rows = []
    for metric, ((k, n), *_) in counted(study, answers).items():
        low, high = wilson((k, n))
        rows.append({"title": TOLD[metric], "count": k, "of": n, "low": low, "high": high, "chance": chance(study, metric)})
    return rows


def guard(app: FastAPI, local: bool) -> None:
    """Give each answer its headers, each refusal one sentence, and refuse what is too long or comes under a foreign name."""

    @app.middleware("http")
    async def checked(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        length = request.headers.get("content-length", "0")
        if local and request.url.hostname not in LOCAL:
            answer: Response = refusal(Refused(421, "wrong_host", "This page answers as 127.0.0.1 and localhost only."))
        elif request.method == "POST" and "content-length" not in request.headers:
            answer = refusal(Refused(411, "no_length", "A request needs its length."))
        elif not length.isdigit() or int(length) > LONGEST:
            answer = refusal(Refused(413, "too_large", f"A request has at most {LONGEST} bytes."))
        else:
            answer = await proceed(request)
        answer.headers.update(HEADERS)
        return answer

    async def refused(_: Request, error: Exception) -> Response:
        return refusal(error)

    for kind in (Refused, CondgenError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, refused)


def refusal(error: Exception) -> JSONResponse:
    """Return the answer to what cannot be done, in one sentence."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or None
        error = Refused(422, "invalid_request", f"The request was not understood ({first['msg'].lower()}).", field)
    elif isinstance(error, HTTPException):
        error = Refused(error.status_code, "not_found" if error.status_code == 404 else "refused", f"{error.detail}.")
    elif isinstance(error, CondgenError):
        log.error("%s", error)
        error = Refused(500, "study_damaged", "The study has a defect: whoever runs it finds it in the terminal.")
    assert isinstance(error, Refused)
    return JSONResponse(error.content, error.status)


def serve(app: FastAPI, place: socket.socket) -> None:
    """Answer at a socket until Ctrl-C."""
    uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3)
    ).run(sockets=[place])
