"""What somebody asks a generator for, and the samples that answer it, with the bytes that files of them have."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from condgen.audio import Mel
from condgen.conditions.text import written
from condgen.errors import CondgenError
from condgen.generators.base import BLOCK, Generator
from condgen.generators.sampling import OPTIONS
from condgen.images import to_png
from condgen.origin import Origin, condgen_version, image_digest, weights_digest
from condgen.reporting.pictures import along, mixtures
from condgen.spaces import Space, Viewed, pictures
from condgen.watermark import check_key, check_markable, mark


@dataclass(frozen=True)
class Request:
    """What somebody asks a generator for.

    Attributes:
        condition: a text, an object or a list, see `Generator.sample`; None for every class.
        to: a second condition, to which the samples of each first one walk, all from the same noise.
        image: a picture to start from, as `condgen.images.read_picture` returns it.
        count: samples for each condition, or on the way from it to the second one.
        seed: the same seed gives the same samples.
        sampling: options, see `Generator.set_sampling`.
        watermark: a secret text that hides an invisible mark in images, see `condgen.watermark`; None: no mark.
    """

    condition: Any = None
    to: Any = None
    image: Tensor | None = None
    count: int = 1
    seed: int = 0
    sampling: Mapping[str, float | str | None] = field(default_factory=dict)
    watermark: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Samples:
    """Samples that were drawn, and the bytes of their files.

    Attributes:
        generator: that drew them.
        requested: their encoded conditions, (N, ...).
        values: themselves, (N, *shape), on the CPU.
        names: what each was asked for.
        rows: number of conditions that were asked for, each of which has N / rows samples.
        origin: what their files say of where they come from; None: nothing.
    """

    generator: Generator
    requested: Tensor
    values: Tensor
    names: list[str]
    rows: int
    origin: Origin | None

    def png(self) -> bytes:
        """Return one picture of them all, the file of ``condgen sample --out FILE.png``."""
        picture = self.generator.picture(self.values, self.requested, self.rows)
        return to_png(picture, self.origin.texts() if self.origin else None)

    def pngs(self) -> Iterator[bytes]:
        """Yield a picture of each, of images the files of ``condgen sample --out FOLDER``, of sounds their spectrograms."""
        return pngs(self.generator.space, iter([self.values]), self.origin)

    def file(self) -> bytes:
        """Return all of them one after another, sounds or texts only: what ``condgen sample`` writes as .wav or .txt."""
        return self.generator.space.file(self.values, self.origin.texts() if self.origin else None)

    def wavs(self) -> Iterator[bytes]:
        """Yield the sound of each, sounds only: the files of ``condgen sample --out FOLDER``."""
        return files(self.generator.space, iter([self.values]), self.origin)

    def npz(self) -> bytes:
        """Return all of them as numbers, the file of ``condgen sample --out FILE.npz``."""
        file = io.BytesIO()
        write_npz(file, self.generator.space, self.requested, iter([self.values]), self.origin)
        return file.getvalue()


def draw(generator: Generator, request: Request, metadata: bool = True) -> Samples:
    """Draw what is asked for; the files of it say where they come from, unless ``metadata`` is False.

    Raises:
        CondgenError: the request is none for this generator.
    """
    requested, rows, names = encode(generator, request)
    origin = origin_of(generator, request) if metadata else None
    values = torch.cat(list(blocks(generator, request, requested)))
    return Samples(generator, requested, values, names, rows, origin)


def encode(generator: Generator, request: Request) -> tuple[Tensor, int, list[str]]:
    """Return the encoded conditions (N, ...) of the samples asked for, how many were asked for, and the samples' names.

    Everything is checked and no sample is drawn.

    Raises:
        CondgenError: the request is none for this generator.
    """
    requested, rows = conditions(generator, request)
    return requested, rows, names_of(generator, request, requested)


def conditions(generator: Generator, request: Request) -> tuple[Tensor, int]:
    """Return the encoded conditions (N, ...) of the samples asked for, and how many were asked for; see `encode`."""
    generator.chosen_sampling(**request.sampling)
    if request.watermark is not None:
        check_key(request.watermark)
        if not pictures(generator.space):
            raise CondgenError("A watermark is for images, and this model makes none: leave it out.")
        check_markable(*generator.space.shape[1:])
    if request.to is None:
        encoded = asked(generator, request)
        return generator.requested(encoded, request.count, request.seed), len(encoded)
    starts, ends = walks(generator, request)
    pairs = zip(torch.split(starts, 1), torch.split(ends, 1), strict=True)
    return torch.cat([mixtures(generator, start, end, request.count) for start, end in pairs]), len(starts)


def asked(generator: Generator, request: Request) -> Tensor:
    """Encode each condition that is asked for once, (N, ...)."""
    text = None if request.condition is None else written(request.condition)
    return generator.condition.ask(text, request.image)


def walks(generator: Generator, request: Request) -> tuple[Tensor, Tensor]:
    """Return the encoded conditions (N, ...) that walks start from, and the ones beside them, or the only one, they end at."""
    first, last = asked(generator, request), generator.condition.ask(written(request.to), request.image)
    if len(last) not in (1, len(first)):
        raise CondgenError(f"--to names {len(last)} conditions and --condition {len(first)}: name one, or as many.")
    if request.count < 2:
        raise CondgenError("--to needs a --count of at least 2: the first sample and the last.")
    last = last.expand(len(first), *last.shape[1:])
    return generator.requested(first, seed=request.seed), generator.requested(last, seed=request.seed)


def names_of(generator: Generator, request: Request, requested: Tensor) -> list[str]:
    """Name what each sample was asked for, of encoded conditions (N, ...), which on a walk are all."""
    if request.to is None:
        return generator.condition.describe(requested)
    starts, ends = (generator.condition.describe(part) for part in walks(generator, request))
    shares = torch.linspace(0, 1, request.count).tolist()
    return [f"{a} to {b}: {share:.3g}" for a, b in zip(starts, ends, strict=True) for share in shares]


def blocks(generator: Generator, request: Request, requested: Tensor) -> Iterator[Tensor]:
    """Draw the samples (B, *shape) of encoded conditions (N, ...) some at a time, on the CPU."""
    generator.set_sampling(**request.sampling)
    return (block(generator, request, requested, i) for i in range(-(-len(requested) // size_of_block(request))))


def block(generator: Generator, request: Request, requested: Tensor, number: int) -> Tensor:
    """Draw one block of the samples of encoded conditions (N, ...), on the CPU, with the sampling options that are set."""
    first = number * size_of_block(request)
    part = requested[first : first + size_of_block(request)]
    drawn = generator.sample_block(number, part, request.seed) if request.to is None else along(generator, part, request.seed)
    return marked(drawn.cpu(), request, first)


def size_of_block(request: Request) -> int:
    """Return how many samples are drawn at a time; those of a walk are together."""
    return BLOCK if request.to is None else request.count


def marked(samples: Tensor, request: Request, first: int = 0) -> Tensor:
    """Return samples (B, *shape), number ``first`` of the request and those after it, with the watermark that it asks for."""
    return samples if request.watermark is None else mark(samples, request.watermark, first)


def origin_of(generator: Generator, request: Request, weights: str | None = None) -> Origin:
    """Return what the files of an answer say of where they come from; ``weights`` is `digest_of` the generator, if known."""
    sampling = {name: OPTIONS[name].kind(value) for name, value in generator.chosen_sampling(**request.sampling).items()}
    card, space = generator.card or {}, generator.space
    vocoder = space.vocoder if isinstance(space, Mel) else None
    return Origin(
        version=condgen_version(),
        model=str(card.get("name") or type(generator).__name__.removesuffix("Generator")),
        weights=weights or digest_of(generator),
        condition=None if request.condition is None else written(request.condition),
        to=None if request.to is None else written(request.to),
        image=None if request.image is None else image_digest(request.image),
        count=request.count,
        seed=request.seed,
        sampling=dict(sorted(sampling.items())),
        watermark=request.watermark is not None,
        vocoder=digest_of(vocoder) if isinstance(vocoder, Generator) else None,
    )


def digest_of(generator: Generator) -> str:
    """Return `weights_digest` of a generator, which is worked out once for as long as nothing changes its weights."""
    state = generator.trained_state()
    now = [(name, tensor.data_ptr(), None if tensor.is_inference() else tensor._version) for name, tensor in state.items()]
    known: Any = generator.__dict__.get("_weights_digest")
    if known is None or known[0] != now:
        known = generator.__dict__["_weights_digest"] = (now, weights_digest(state))
    return str(known[1])


def pngs(space: Space, samples: Iterator[Tensor], origin: Origin | None) -> Iterator[bytes]:
    """Yield a PNG of each sample, of blocks (B, *shape) that can be viewed; each says which one of its origin it is."""
    assert isinstance(space, Viewed)
    images = (image for block in samples for image in space.view.pixels(space.viewed(block)))
    for index, image in enumerate(images):
        yield to_png(image, origin.one(index).texts() if origin else None)


def files(space: Space, samples: Iterator[Tensor], origin: Origin | None) -> Iterator[bytes]:
    """Yield the bytes of the file of each sample, of blocks (B, *shape), which says which one of its origin it is."""
    singles = (sample[None] for block in samples for sample in block)
    for index, sample in enumerate(singles):
        yield space.file(sample, origin.one(index).texts() if origin else None)


def write_npz(file: IO[bytes], space: Space, requested: Tensor, samples: Iterator[Tensor], origin: Origin | None) -> None:
    """Write samples beside ``labels``, -1 where no class was asked for, and then ``conditions`` as encoded; and ``origin``.

    The file is what `numpy.savez` writes, though no more than a block of samples (B, *shape) is in memory; equal samples give
    equal bytes.
    """
    labels = requested.numpy() if requested.dim() == 1 else np.full(len(requested), -1)
    rest = {"labels": labels} | ({"conditions": requested.numpy()} if requested.dim() > 1 and requested[0].numel() else {})
    rest |= {"origin": np.array(origin.text())} if origin else {}
    with zipfile.ZipFile(file, "w") as archive:
        exported = map(space.export, samples)
        name, first = next(exported)
        with entry(archive, name) as member:
            head = {"descr": first.numpy().dtype.str, "fortran_order": False, "shape": (len(requested), *first.shape[1:])}
            np.lib.format.write_array_header_1_0(member, head)
            for values in chain([first], (values for _, values in exported)):
                member.write(values.contiguous().numpy().tobytes())
        for name, array in rest.items():
            with entry(archive, name) as member:
                np.lib.format.write_array(member, array)


def entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Open an array of an .npz to be written; neither time nor system is in it."""
    info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o600 << 16
    return archive.open(info, "w", force_zip64=True)
