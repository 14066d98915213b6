"""What somebody asks a generator for, and the samples that answer it, with the bytes that files of them have."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condgen.conditions.text import SEPARATORS, quoted
from condgen.errors import CondgenError
from condgen.generators.base import Generator
from condgen.images import to_picture
from condgen.spaces import to_uint8


@dataclass(frozen=True)
class Request:
    """What somebody asks a generator for; see `Generator.sample` and `Generator.set_sampling`."""

    condition: Any = None
    to: Any = None
    image: Tensor | None = None
    count: int = 1
    seed: int = 0
    sampling: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """Samples (N, *shape) that were drawn for encoded conditions (N, ...), and the bytes of their files."""

    generator: Generator
    requested: Tensor
    values: Tensor
    names: list[str]
    rows: int
    origin: None = None

    def png(self) -> bytes:
        """Return one picture of them all."""
        return to_png(self.generator.picture(self.values, self.requested, self.rows))

    def pngs(self) -> Iterator[bytes]:
        """Yield a picture of each."""
        return (to_png(image) for image in to_uint8(self.values))

    def npz(self) -> bytes:
        """Return all of them as numbers."""
        file, requested = io.BytesIO(), self.requested
        labels = requested.numpy() if requested.dim() == 1 else np.full(len(requested), -1)
        name, values = self.generator.space.export(self.values)
        rest = {"labels": labels} | ({"conditions": requested.numpy()} if requested.dim() > 1 and requested[0].numel() else {})
        with zipfile.ZipFile(file, "w") as archive:
            for entry, array in {name: values.contiguous().numpy(), **rest}.items():
                info = zipfile.ZipInfo(f"{entry}.npy", (1980, 1, 1, 0, 0, 0))
                with archive.open(info, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array)
        return file.getvalue()


def encode(generator: Generator, request: Request) -> tuple[Tensor, int, list[str]]:
    """Return the encoded conditions (N, ...) of the samples asked for, how many were asked for, and the samples' names."""
    first = generator.condition.ask(said(request.condition), request.image)
    if request.to is None:
        requested = generator.requested(first, request.count, request.seed)
        return requested, len(first), generator.condition.describe(requested)
    last = generator.condition.ask(said(request.to), request.image)
    if len(last) not in (1, len(first)):
        raise CondgenError(f"--to names {len(last)} conditions and --condition {len(first)}: name one, or as many.")
    if request.count < 2:
        raise CondgenError("--to needs a --count of at least 2: the first sample and the last.")
    starts = generator.requested(first, seed=request.seed)
    ends = generator.requested(last.expand(len(first), *last.shape[1:]), seed=request.seed)
    mixtures, names = [], []
    for start, end in zip(torch.split(starts, 1), torch.split(ends, 1), strict=True):
        shares = torch.linspace(0, 1, request.count).tolist()
        mixtures += [generator.condition.between(start, end, share) for share in shares]
        (a,), (b,) = generator.condition.describe(start), generator.condition.describe(end)
        names += [f"{a} to {b}: {share:.3g}" for share in shares]
    return torch.cat(mixtures), len(first), names


def said(value: Any) -> Any:
    """Write an object or a list of some as the text that `Condition.ask` takes."""
    if isinstance(value, dict):
        given = {quoted(str(name), SEPARATORS): str(part) for name, part in value.items()}
        return ",".join(f"{n}={p if chr(34) in p else quoted(p, ',=')}" for n, p in given.items())
    return [said(one) for one in value] if isinstance(value, list) else value if value is None else str(value)


def to_png(pixels: Tensor) -> bytes:
    """Return a uint8 tensor (C, H, W) as the bytes of a PNG."""
    file = io.BytesIO()
    to_picture(pixels).save(file, format="PNG")
    return file.getvalue()
