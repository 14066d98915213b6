"""A server in this process, and a client of it."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from data.pictures import noise, png

from condgen.serving.app import Server
from condgen.serving.gate import Rules
from condgen.serving.models import Served

Client = httpx.AsyncClient
Run = Callable[[Callable[[Client], Awaitable[Any]]], Any]
"""Runs what is done with a client."""
SLOW = {"model": "points", "count": 64, "sampling": {"steps": 200, "solver": "heun"}}
"""A request that takes its time."""


@contextmanager
def running(models: dict[str, Served], **rules: Any) -> Iterator[tuple[Server, Run]]:
    """Yield a server, and a function that runs what is done with a client of it."""
    server = Server(models, Rules(**rules))

    def run(visit: Callable[[Client], Awaitable[Any]]) -> Any:
        async def visiting() -> Any:
            transport = httpx.ASGITransport(server.gate, raise_app_exceptions=False)
            async with Client(transport=transport, base_url="http://server", timeout=60) as client:
                return await visit(client)

        return asyncio.run(visiting())

    try:
        yield server, run
    finally:
        server.close()


def asked(run: Run, body: Any, **options: Any) -> httpx.Response:
    """Ask for samples once."""
    answer: httpx.Response = run(lambda client: client.post("/v1/samples", json=body, **options))
    return answer


def picture(side: int = 28) -> str:
    """Return a PNG in base64."""
    return base64.b64encode(png(noise(0, side, side))).decode()
