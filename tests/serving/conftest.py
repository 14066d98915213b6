"""Untrained models of several kinds, as a server has them: what they draw does not matter here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from recipes import SMALL_LANGUAGE, make_model
from serving.api import Run, running

from condgen.conditions import Attributes, Captions, Category, ClassLabel, Inpaint, Number, Tags
from condgen.serving.app import Server
from condgen.serving.models import Served, load_models
from condgen.spaces import Points
from condgen.tokens import Tokens


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of each model, as a run would leave it."""
    folder = tmp_path_factory.mktemp("served")
    models = {
        "digits": make_model("model=cgan_mlp"),
        "attributes": make_model(
            "model=cgan_mlp", condition=Attributes([Category("digit", tuple("0123456789")), Number("rotation", -45, 45)])
        ),
        "inpaint": make_model("model=pix2pix", condition=Inpaint((1, 28, 28))),
        "captions": make_model("model=cgan_mlp", condition=Captions(["a red cat", "a blue dog"], width=8, heads=2)),
        "tags": make_model("model=cgan_mlp", condition=Tags([Category("colour", ("red", "blue"))], ["dog"])),
        "texts": make_model("model=language", *SMALL_LANGUAGE, space=Tokens("abcde", 12), condition=ClassLabel("ab")),
        "points": make_model("model=flow_points", space=Points()),
    }
    for name, model in models.items():
        content = {"condgen": model.recipe, "state_dict": model.state_dict(), "global_step": 0}
        torch.save(content, folder / f"{name}.ckpt")
    return folder


@pytest.fixture(scope="session")
def models(folder: Path) -> dict[str, Served]:
    """The models by name."""
    return load_models([str(path) for path in sorted(folder.glob("*.ckpt"))])


@pytest.fixture(scope="session")
def server(models: dict[str, Served]) -> Iterator[tuple[Server, Run]]:
    """A server that tests share."""
    with running(models) as found:
        yield found
