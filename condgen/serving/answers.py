"""The bodies of answers, in the formats that can be asked for."""

import base64
import json
from typing import Any

from torch import Tensor

from condgen.audio import Sound
from condgen.samples import Samples, pngs
from condgen.serving.messages import Format
from condgen.spaces import Readable, Space

KINDS: dict[Format, str] = {
    "png": "image/png",
    "npz": "application/octet-stream",
    "pngs": "application/json",
    "json": "application/json",
    "wav": "audio/wav",
    "txt": "text/plain; charset=utf-8",
}
"""Media types of the formats."""


def written(samples: Samples, form: Format, about: dict[str, Any]) -> bytes:
    """Return the body of an answer: a file of samples, or JSON of them and what else is told ``about`` them."""
    if form == "png":
        return samples.png()
    if form == "npz":
        return samples.npz()
    if form in ("wav", "txt"):
        return samples.file()
    answer = about | {"labels": samples.names}
    if form == "pngs":
        answer |= {"images": [base64.b64encode(picture).decode() for picture in samples.pngs()]}
        if isinstance(samples.generator.space, Sound):
            answer |= {"sounds": [base64.b64encode(sound).decode() for sound in samples.wavs()]}
    else:
        answer |= {"shape": list(samples.values.shape[1:]), "samples": samples.values.flatten(1).tolist()}
        if isinstance(samples.generator.space, Readable):
            answer |= {"texts": samples.generator.space.texts(samples.values)}
    return json.dumps(answer).encode()


def pictures(space: Space, values: Tensor) -> list[str]:
    """Return images of samples (B, *shape) as PNGs in base64 that do not say where they come from: they are no result."""
    return [base64.b64encode(picture).decode() for picture in pngs(space, iter([values]), None)]
