"""From a question to a request that a generator can answer: everything is checked before anything is queued."""

import base64
import binascii
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image
from torch import Tensor

from condgen.conditions.text import written
from condgen.errors import CondgenError
from condgen.generators.sampling import check_option
from condgen.images import BROKEN, Picture, picture_as_sample
from condgen.samples import Request, encode, origin_of
from condgen.serving.answers import KINDS
from condgen.serving.gate import Rules
from condgen.serving.job import Job
from condgen.serving.messages import Question
from condgen.serving.models import Served
from condgen.serving.refusals import Refusal, of_mistake
from condgen.spaces import Space, Viewed, pictures
from condgen.waveforms import Waveforms

MEGAPIXELS = 16
"""Size of an uploaded picture in memory; a file of a few bytes can hold a thousand times more."""


def prepare(model: Served, question: Question, rules: Rules) -> Job:
    """Check a question and encode its conditions.

    Raises:
        Refusal: it cannot be answered.
    """
    generator = model.generator
    if question.count > rules.count:
        raise Refusal(422, "invalid_count", f"count must be at most {rules.count}, not {question.count}.", "count")
    others = [] if isinstance(generator.space, Viewed) else ["pngs"]
    others += [form for form in ("wav", "txt") if generator.space.suffix != f".{form}"]
    if question.format in others:
        kind, fitting = type(generator.space).__name__.lower(), [form for form in KINDS if form not in others]
        said = f"{model.name} makes {kind}: ask for {', '.join(fitting[:-1])} or {fitting[-1]}."
        raise Refusal(422, "invalid_format", said, "format")
    if question.image is not None and generator.condition.image is None:
        raise Refusal(422, "invalid_image", f"{model.name} is not conditioned on an image: leave image out.", "image")
    sampling = checked_sampling(model, question.sampling)
    image = None if question.image is None else read_upload(question.image, generator.space, rules)
    with blaming("image" if generator.condition.image is not None and image is None else "condition"):
        rows = count_rows(model, question.condition, image, rules.samples // question.count)
    if question.to is not None:
        with blaming("to"):
            count_rows(model, question.to, image, rows)
    key = rules.watermark if pictures(generator.space) else None
    wanted = Request(question.condition, question.to, image, question.count, question.seed, sampling, key)
    with blaming("condition" if question.to is None else "to"):
        requested, rows, names = encode(generator, wanted)
        origin = origin_of(generator, wanted, model.weights) if question.metadata else None
    return Job(model, wanted, requested, rows, names, origin, question.format)


@contextmanager
def blaming(field: str) -> Iterator[None]:
    """Turn a mistake into the refusal of a field."""
    try:
        yield
    except CondgenError as error:
        raise of_mistake(error, field) from error


def checked_sampling(model: Served, given: dict[str, Any]) -> dict[str, Any]:
    """Return the sampling options that are not left to their defaults; raises Refusal."""
    properties = model.sampling["properties"]
    options = {name: value for name, value in given.items() if value is not None}
    with blaming("sampling"):
        for name, value in options.items():
            if name == "standing":
                raise CondgenError("standing changes a model for everybody who asks it: use condgen sample --standing.")
            if name not in properties:
                known = ", ".join(properties) or "none"
                raise CondgenError(f"{model.name} has no sampling option {name!r}; it has {known}.")
            check_option(name, value)
            low, high = (properties[name].get(end) for end in ("minimum", "maximum"))
            if low is not None and not low <= value <= high:
                raise CondgenError(f"{name} must be between {low:g} and {high:g} here, not {value:g}.")
        model.generator.check_sampling(model.generator.defaults | options)
    return options


def count_rows(model: Served, value: Any, image: Tensor | None, most: int) -> int:
    """Return how many conditions are asked for, at most ``most``; encodes them one by one, so that none is too many."""
    rows = 0
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str) and one.strip()[:1] in ("[", "{"):
            raise CondgenError("A condition is the object or the list itself, not its JSON in a text.")
        rows += len(model.generator.condition.ask(None if one is None else written(one), image))
        if rows > most:
            raise CondgenError(f"{rows} conditions or more are too many for this count: {most} would be as many as may be.")
    return rows


def read_upload(text: str, space: Space, rules: Rules) -> Tensor:
    """Read a picture, or a wav for waveforms, in base64 as a sample of ``space``, see `read_picture`; raises Refusal."""
    heard = isinstance(space, Waveforms)

    def wrong(message: str) -> Refusal:
        return Refusal(422, "invalid_image", message, "image")

    try:
        bare = re.sub(r"^data:(image/png|image/jpeg|audio/wav);base64,", "", text, count=1)
        content = base64.b64decode(bare, validate=True)
    except (binascii.Error, ValueError):
        raise wrong(f"image must be {'a wav' if heard else 'a PNG or a JPEG'} in base64.") from None
    if len(content) > rules.image_bytes:
        raise Refusal(413, "image_too_large", f"image has {len(content):,} bytes, and may have {rules.image_bytes:,}.", "image")
    if heard:
        with blaming("image"):
            return picture_as_sample(Picture("image", lambda: content), space)
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:  # the header alone
            pixels = picture.width * picture.height
    except (Image.DecompressionBombError, *BROKEN):
        raise wrong("image is no PNG and no JPEG that could be read, or has far too many pixels.") from None
    if pixels > MEGAPIXELS * 1e6:
        raise wrong(f"image has {pixels / 1e6:.0f} megapixels, and may have {MEGAPIXELS}.")
    with blaming("image"):
        return picture_as_sample(Picture("image", lambda: content), space)
