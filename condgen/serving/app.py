"""The application: every path of the server, and what it answers."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from condgen.errors import CondgenError
from condgen.serving.desk import Desk, refusal_of
from condgen.serving.gate import SAMPLES, Gate, Rules
from condgen.serving.messages import Error, Models, Numbers, Pictures, Question
from condgen.serving.models import Served
from condgen.serving.page import files
from condgen.serving.refusals import Gone, Refusal, of_validation

ABOUT = """Samples of conditional generators. The same model, request and version give the same bytes, which are those of
`condgen sample`. Every answer that is none has a type for programs and one sentence for people."""
WRONG = {
    400: "No JSON.",
    401: "No token, or a wrong one.",
    404: "No such model.",
    408: "The request came too slowly.",
    409: "It was cancelled.",
    413: "The body, or the picture in it, is too large.",
    422: "A field is wrong; `field` says which.",
    429: "Too many requests wait; Retry-After says for how many seconds.",
    500: "A defect of the server's.",
    503: "The server is about to end.",
    504: "The samples took longer than the server allows.",
}
"""What each status of an error means."""
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The samples: as a stream of events where `Accept: text/event-stream` asks for it, with the events "
        "`progress` and `preview`, and `result` or `error`.",
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": {"anyOf": [Pictures.model_json_schema(), Numbers.model_json_schema()]}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
        "headers": {"X-Condgen-Id": {"description": "The id of the request.", "schema": {"type": "string"}}},
    },
    **{status: {"model": Error, "description": said} for status, said in WRONG.items()},
}  # fmt: skip


class Server:
    """What `condgen.serving.server` runs: the application and what it has to end in order.

    Args:
        models: by name.
        rules: the limits.
    """

    def __init__(self, models: Mapping[str, Served], rules: Rules):
        self.desk = Desk(models, rules)
        self.gate = Gate(application(self.desk), rules, self.desk.metrics)

    def drain(self) -> None:
        """Take no more work."""
        self.gate.draining = self.desk.draining = True

    @property
    def idle(self) -> bool:
        """Whether nobody waits for samples."""
        return not self.gate.active

    def close(self) -> None:
        """End the threads."""
        self.desk.close()


def application(desk: Desk) -> FastAPI:
    """Return the application around a desk."""
    app = FastAPI(
        title="condgen",
        description=ABOUT,
        version=version("condgen"),
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )

    @app.get("/v1/models", summary="The models, what they can be asked for, and the limits", responses=only(401))
    async def models() -> Models:
        return desk.listed

    @app.post(SAMPLES, summary="Draw samples", response_class=Response, responses=ANSWERS)
    async def samples(question: Question, request: Request) -> Response:
        return await desk.answer(question, request)

    @app.delete(SAMPLES + "/{id}", summary="Cancel a request for samples", status_code=204, responses=only(401, 404))
    async def cancel(id: str) -> None:
        desk.cancel(id)

    @app.get("/healthz", summary="Whether the server runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether it takes requests", responses=only(503))
    async def readyz() -> dict[str, str]:
        if desk.draining:
            raise Refusal(503, "shutting_down", "The server is about to end and takes no more requests.", retry=5)
        return {"status": "ready"}

    @app.get("/metrics", summary="Counters, in the text format of Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(desk.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    pages = files()

    @app.get("/", include_in_schema=False)
    @app.get("/{name}", include_in_schema=False)
    async def page(name: str = "index.html") -> Response:
        if name not in pages:
            raise Refusal(404, "not_found", "There is nothing at this address: see /v1/openapi.json.")
        content, kind = pages[name]
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, refused)
    app.add_exception_handler(Gone, left)
    app.add_exception_handler(CondgenError, broken)
    app.add_exception_handler(Exception, broken)
    return app


def only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of some errors."""
    return {status: {"model": Error, "description": WRONG[status]} for status in statuses}


async def refused(request: Request, error: Exception) -> Response:
    """Answer a mistake of whoever asked."""
    if isinstance(error, RequestValidationError):
        error = of_validation(error)
    elif isinstance(error, HTTPException) and not isinstance(error, Refusal):
        said = {
            400: ("invalid_json", "The body must be a JSON object with Content-Type: application/json."),
            404: ("not_found", "There is nothing at this address: see /v1/openapi.json."),
            405: ("method_not_allowed", f"{request.method} is not possible at this address: see /v1/openapi.json."),
        }
        kind, sentence = said.get(error.status_code, ("refused", f"The request was refused: {error.detail}."))
        error = Refusal(error.status_code, kind, sentence)
    assert isinstance(error, Refusal)
    return JSONResponse(error.body(), error.status, error.lines())


async def broken(request: Request, error: Exception) -> Response:
    """Answer what nobody foresaw."""
    refusal = refusal_of(error)
    return JSONResponse(refusal.body(), refusal.status, refusal.lines())


async def left(request: Request, error: Exception) -> Response:
    """Answer somebody who has left: nobody reads it."""
    return Response(status_code=499)
