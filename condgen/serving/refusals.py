"""Every answer that is none: a status, a type for programs and a sentence for people."""

import logging
import re
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from condgen.errors import CondgenError

log = logging.getLogger("condgen")


class Refusal(HTTPException):
    """A request that is not answered with what it asks for.

    Args:
        status: of HTTP.
        kind: the type of the error, for programs.
        message: one sentence: what is wrong and what would be right.
        field: the part of the request that is meant, if it is one.
        retry: seconds after which the same request may be answered.
    """

    def __init__(self, status: int, kind: str, message: str, field: str | None = None, retry: int | None = None):
        super().__init__(status, message)
        self.status, self.kind, self.message, self.field, self.retry = status, kind, message, field, retry

    def body(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"error": {"type": self.kind, "message": self.message, "field": self.field}}

    def lines(self) -> dict[str, str]:
        """Return the lines of its header that are its own."""
        headers = {} if self.retry is None else {"Retry-After": str(self.retry)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


class Gone(Exception):
    """Nobody waits for the answer any more."""


def of_mistake(error: CondgenError, field: str) -> Refusal:
    """Tell a mistake in words of the API: what is an option of the command is a field of the same name here."""
    text = re.sub(r"--image FILE", "an image", str(error))
    return Refusal(422, f"invalid_{field}", re.sub(r"--([a-z]+)", r"\1", text), field)


WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is no field of a request",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
}
"""How a field is wrong, by pydantic's types of errors."""


def of_validation(error: RequestValidationError) -> Refusal:
    """Tell the first of the mistakes that the types of a request found."""
    first = error.errors()[0]
    field = next((str(part) for part in first["loc"][1:] if isinstance(part, str)), None)
    if first["type"] == "json_invalid" or field is None:
        return Refusal(400, "invalid_json", "The body must be a JSON object with Content-Type: application/json.")
    context, kind = first.get("ctx", {}), first["type"]
    if field in ("condition", "to", "sampling"):
        shapes = {"sampling": "an object of sampling options, each a number or a name"}
        wanted = shapes.get(field, "a name, a number, an object of names and numbers, or a list of up to 64 of these")
        said = f"must be {wanted}"
    elif kind in ("less_than_equal", "greater_than_equal"):
        said = f"must be at {'most' if kind == 'less_than_equal' else 'least'} {context.get('le', context.get('ge'))}"
    elif kind == "literal_error":
        said = f"must be {context['expected']}"
    elif kind in ("string_too_long", "string_too_short"):
        said = f"must have {context.get('min_length', 0)} to {context.get('max_length', 'any number of')} characters"
    else:
        said = WORDS.get(kind, f"is wrong: {first['msg'][:1].lower()}{first['msg'][1:]}".rstrip("."))
    return Refusal(
        422, f"invalid_{field}" if kind != "extra_forbidden" else "unknown_field", f"{field[:60]} {said}.", field[:60]
    )


def unforeseen(error: BaseException) -> Refusal:
    """Tell what nobody foresaw; the log has the rest."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return Refusal(503, "no_memory", "The server has not enough memory for this request now: ask for fewer.", retry=5)
    log.error("a request could not be answered", exc_info=error)
    return Refusal(500, "defect", "This should not have happened, and is a defect of condgen.")
