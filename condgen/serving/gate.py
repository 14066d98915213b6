"""What every request passes first: who may ask, how much may be sent, how long it may take, how many at a time."""

import asyncio
import hmac
import json
import time
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from condgen.serving.metrics import Metrics
from condgen.serving.refusals import Refusal

SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data: blob:; media-src 'self' data:; object-src 'none'; "
     b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
)  # fmt: skip
"""Headers of every answer."""
SAMPLES = "/v1/samples"


@dataclass(frozen=True)
class Rules:
    """The limits of a server.

    Attributes:
        count: samples for each condition.
        image_bytes: size of an uploaded picture.
        queue: requests for samples that are waited for at a time.
        timeout: seconds from the first byte of a request for samples to its answer.
        token: what ``Authorization: Bearer`` has to say for /v1; None: anybody may ask.
        watermark: the key of the mark that all images get, see `condgen.watermark`; None: no mark.
    """

    count: int = 64
    image_bytes: int = 4 * 2**20
    queue: int = 64
    timeout: float = 60.0
    token: str | None = field(default=None, repr=False)
    watermark: str | None = field(default=None, repr=False)

    @property
    def samples(self) -> int:
        """Samples in all that a request may ask for."""
        return 16 * self.count

    @property
    def body(self) -> int:
        """Bytes of a body: a picture in base64, and whatever else is said."""
        return self.image_bytes * 4 // 3 + 2**16


class Gate:
    """A layer of ASGI around the application.

    Args:
        app: the application. Of a request for samples it finds in the scope ``deadline``, of `time.monotonic`, and ``gone``,
            a future that is done when the client has left.
        rules: the limits.
        metrics: is told of every answer.
    """

    def __init__(self, app: ASGIApp, rules: Rules, metrics: Metrics):
        self.app, self.rules, self.metrics = app, rules, metrics
        self.active = 0
        """Requests for samples that are waited for."""
        self.draining = False
        """Whether the server is about to end and takes no more work."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *SAFE]
            await send(message)

        counted = scope["path"] == SAMPLES and scope["method"] == "POST"
        try:
            self.admit(scope, counted)
        except Refusal as refusal:
            await refuse(refusal, sending)
        else:
            if counted:
                await self.attend(scope, receive, sending)
            else:
                await self.app(scope, self.limited(scope, receive), sending)
        self.metrics.answered(scope, status, time.perf_counter() - started)

    def admit(self, scope: Scope, counted: bool) -> None:
        """Raise Refusal for what is turned away before its body is read."""
        headers = dict(scope["headers"])
        if self.rules.token and scope["path"].startswith("/v1/"):
            wanted = f"Bearer {self.rules.token}".encode()
            if not hmac.compare_digest(headers.get(b"authorization", b""), wanted):
                raise Refusal(401, "unauthorized", "This server wants the header Authorization: Bearer TOKEN with its token.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self.rules.body:
            raise self.too_large()
        if counted and self.draining:
            raise Refusal(503, "shutting_down", "The server is about to end and takes no more requests.", retry=5)
        if counted and self.active >= self.rules.queue:
            self.metrics.full.inc()
            said = f"{self.active} requests are waited for already, as many as may be: try again later."
            raise Refusal(429, "queue_full", said, retry=self.metrics.patience())

    def too_large(self) -> Refusal:
        """Return the refusal of a body."""
        return Refusal(413, "body_too_large", f"A request may have at most {self.rules.body:,} bytes.")

    async def attend(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request for samples, and watch whether its client leaves."""
        scope["deadline"] = time.monotonic() + self.rules.timeout
        scope["gone"] = asyncio.get_running_loop().create_future()
        self.active += 1
        limited = self.limited(scope, receive)
        watches: list[asyncio.Future[None]] = []

        async def watched() -> Message:
            if not watches:
                message = await limited()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    watches.append(asyncio.ensure_future(leave(receive, scope["gone"])))
                return message
            await asyncio.shield(scope["gone"])
            return {"type": "http.disconnect"}

        try:
            await self.app(scope, watched, send)
        finally:
            self.active -= 1
            for watch in watches:
                watch.cancel()
            scope["gone"].cancel()

    def limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return ``receive`` for a body that may not be too large, whatever its header said, nor come too slowly."""
        size = 0

        async def receiving() -> Message:
            nonlocal size
            left = scope.get("deadline", time.monotonic() + self.rules.timeout) - time.monotonic()
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError:
                raise Refusal(408, "slow_body", f"The request did not arrive within {self.rules.timeout:g} s.") from None
            size += len(message.get("body", b""))
            if size > self.rules.body:
                raise self.too_large()
            return message

        return receiving


async def leave(receive: Receive, gone: "asyncio.Future[None]") -> None:
    """Wait until the client has left, and say so."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if not gone.done():
        gone.set_result(None)


async def refuse(refusal: Refusal, send: Send) -> None:
    """Send a refusal; what is left of the body is not read, so the connection ends with it."""
    headers = {"Content-Type": "application/json", "Connection": "close"} | refusal.lines()
    content = json.dumps(refusal.body()).encode()
    headers["Content-Length"] = str(len(content))
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
