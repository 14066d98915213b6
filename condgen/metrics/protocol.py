"""The protocol under which a figure stands. Figures of different protocols are never compared or averaged."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, get_type_hints

from condgen.errors import CondgenError


@dataclass(frozen=True)
class Protocol:
    """How a set of images was measured, and how it was drawn.

    Attributes:
        extractor: name of the network whose features are compared, e.g. "mnist-cnn".
        sha256: of its weights.
        reference: split of the real images: "val" or "test".
        data: hash of the real images and their labels.
        real: number of real images.
        generated: number of generated images.
        resize: what was done to a generated image of another size, e.g. "none" or "32x32 to 28x28, bilinear, antialiased".
        seed: decides the noise of the samples and the subsets that a metric draws.
        weights: "ema" or "raw"; "given" for images from files.
        truncation: of the latent, None where there is none.
        temperature: of the latent, None where there is none.
        guidance: scale of classifier-free guidance, None where there is none.
        standing: batches over which batch norm's statistics were measured anew, None where they are those of the training.
        steps: in which a sample was made, None where it is made at once.
        solver: of the ODE that made them, None where there is none.
        top_k: number of the likeliest characters among which each was drawn, None where it was all.
        top_p: probability that these had together, None where it was all.
        likelihood: what likelihoods are of and from how many draws each, such as "bits-50"; None where there are none.
        start: the image that each sample was made from, e.g. "edges, threshold 0.15"; None where there is none.
        trials: shown to each person, where people judge; then ``extractor`` says how they are asked, and there are no weights.
    """

    extractor: str
    sha256: str
    reference: str
    data: str
    real: int
    generated: int
    resize: str
    seed: int
    weights: str
    truncation: float | None = None
    temperature: float | None = None
    guidance: float | None = None
    standing: float | None = None
    steps: int | None = None
    solver: str | None = None
    likelihood: str | None = None
    start: str | None = None
    trials: int | None = None
    top_k: int | None = None
    top_p: float | None = None

    @property
    def name(self) -> str:
        """The short form that metric names end in: ``mnist-cnn/val-5k``, after the number of generated images.

        Where people judge, after the number of trials: ``hype/test-n60``.
        """
        count = thousands(self.generated) if self.trials is None else f"n{self.trials}"
        return f"{self.extractor}/{self.reference}-{count}"

    @property
    def measurement(self) -> "Protocol":
        """This protocol without what belongs to the model: figures may stand in one table where this is equal."""
        return Protocol(**{**asdict(self), **dict.fromkeys(SAMPLING)})

    def stamp(self) -> dict[str, Any]:
        """Return all of it as plain values, to be stored beside the figures."""
        return asdict(self)


SAMPLING = ("weights", "truncation", "temperature", "guidance", "standing", "steps", "solver", "likelihood", "top_k", "top_p")
"""The half of a protocol that says how a model was used; the other half says how images were measured."""


def read_protocol(stamp: Any, source: str) -> Protocol:
    """Return the protocol that was stored as ``stamp`` in ``source``; raises CondgenError if it is none."""
    if isinstance(stamp, dict) and "sampler" in stamp:  # the word of condgen 0.1
        stamp = {"solver" if key == "sampler" else key: value for key, value in stamp.items()}
    try:
        protocol = Protocol(**stamp)
    except TypeError as error:
        raise CondgenError(
            f"{source} holds figures without a complete protocol; measure again with condgen evaluate."
        ) from error
    for name, kind in get_type_hints(Protocol).items():
        value = getattr(protocol, name)
        if not isinstance(value, kind | int if kind == float | None else kind):  # a truncation of 1 is one of 1.0
            raise CondgenError(f"{source} holds figures whose protocol is damaged: {name} cannot be {value!r}.")
    return protocol


def require_same(protocols: Iterable[Protocol], purpose: str) -> None:
    """Raise CondgenError where unlike protocols would be ``purpose`` ("averaged", "compared"), naming what differs."""
    for one, other in pairwise(protocols):
        for field in fields(Protocol):
            a, b = getattr(one, field.name), getattr(other, field.name)
            if a != b:
                raise CondgenError(
                    f"Figures of different protocols cannot be {purpose}: {field.name} is {a} in one and {b} in another."
                )


def thousands(count: int) -> str:
    """Write 5000 as 5k and 2500 as 2500."""
    return f"{count // 1000}k" if count and count % 1000 == 0 else str(count)
