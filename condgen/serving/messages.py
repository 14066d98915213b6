"""What goes over the wire: requests and answers, as the OpenAPI document describes them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(max_length=2000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Named = Annotated[dict[Annotated[str, Field(max_length=200)], Text | Whole | Number], Field(max_length=200)]
One = Text | Whole | Number | Named
Several = Annotated[list[One], Field(min_length=1, max_length=64)]
Format = Literal["png", "pngs", "npz", "json", "wav", "txt"]


class Question(BaseModel):
    """What somebody asks a model for."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Request")

    model: Annotated[str, Field(max_length=200, description="The name of a model, see GET /v1/models.")]
    condition: Annotated[
        One | Several | None, Field(description="What to generate: an object as the model's schema says, a text as for condgen "
        "sample, or a list of these; null: every class.")
    ] = None  # fmt: skip
    to: Annotated[One | Several | None, Field(description="A second condition, to which the samples walk.")] = None
    image: Annotated[str | None, Field(description="A picture to start from, PNG or JPEG in base64; of a vocoder a wav.")] = (
        None
    )
    count: Annotated[int, Field(ge=1, description="Samples for each condition, or on the way to the second one.")] = 1
    seed: Annotated[Whole, Field(description="The same seed gives the same bytes.")] = 0
    sampling: Annotated[
        dict[Annotated[str, Field(max_length=40)], Annotated[str, Field(max_length=40)] | Whole | Number | None],
        Field(description="Sampling options, as the model's schema says.", max_length=20),
    ] = {}
    format: Annotated[
        Format,
        Field(
            description="png: one grid; pngs: a picture each; npz: arrays of numpy; json: numbers in [-1, 1], and texts; of "
            "sounds wav, of texts txt: one after another."
        ),
    ] = "png"
    metadata: Annotated[bool, Field(description="Whether files say where they come from.")] = True


class Pictures(BaseModel):
    """The answer to format=pngs."""

    id: str
    seed: int
    labels: Annotated[list[str], Field(description="What each sample was asked for.")]
    images: Annotated[list[str], Field(description="PNGs in base64; of sounds their spectrograms.")]
    sounds: Annotated[list[str] | None, Field(description="wav files in base64, where samples are sounds.")] = None


class Numbers(BaseModel):
    """The answer to format=json."""

    id: str
    seed: int
    labels: Annotated[list[str], Field(description="What each sample was asked for.")]
    shape: Annotated[list[int], Field(description="Of one sample, such as channels, height, width.")]
    samples: Annotated[list[list[float]], Field(description="The values of each sample, row by row: in [-1, 1], or tokens.")]
    texts: Annotated[list[str] | None, Field(description="The text of each sample, where samples are texts.")] = None


class Space(BaseModel):
    """What a sample is."""

    kind: str
    shape: list[int]
    view: Annotated[list[int] | None, Field(description="Shape of the picture of one sample, where each has one.")]
    file: Annotated[str, Field(description="Format of the file of one sample: png, wav or txt; empty where there is none.")]


class Limits(BaseModel):
    """How much a request may ask for."""

    count: Annotated[int, Field(description="Samples for each condition.")]
    samples: Annotated[int, Field(description="Samples in all.")]
    image_bytes: Annotated[int, Field(description="Size of an uploaded file.")]


class Figure(BaseModel):
    """A measured figure; further fields are those of the model's card."""

    model_config = ConfigDict(extra="allow")

    name: str
    value: float | None = None


class Model(BaseModel):
    """A model that is served."""

    name: str
    family: str
    space: Space
    condition: Annotated[dict[str, Any], Field(description="JSON schema of what can be asked for.")]
    sampling: Annotated[dict[str, Any], Field(description="JSON schema of the sampling options.")]
    limits: Limits
    card: dict[str, Any] | None
    figures: list[Figure]
    weights: Annotated[str, Field(description="SHA-256 of the weights.")]


class Models(BaseModel):
    """All models that are served."""

    models: list[Model]


class Mistake(BaseModel):
    """What is wrong."""

    type: Annotated[str, Field(description="For programs, such as invalid_condition.")]
    message: Annotated[str, Field(description="One sentence.")]
    field: Annotated[str | None, Field(description="The field of the request that is meant.")] = None


class Error(BaseModel):
    """The body of every answer that is none."""

    error: Mistake
