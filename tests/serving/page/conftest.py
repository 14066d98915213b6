"""A browser, and a server of untrained models, that the tests of the page share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from recipes import SMALL_LANGUAGE, make_model
from selenium import webdriver
from serving.page.browser import Page, Serving

from condgen.conditions import Attributes, Captions, Category, ClassLabel, Inpaint, MelImage, Tags
from condgen.spaces import Points
from condgen.tokens import Tokens
from condgen.waveforms import Waveforms

WAVEFORMS = Waveforms(8000, 0.256, 32, 256, 64)
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FIELDS = {
    "digit": [str(digit) for digit in range(10)],
    "rotation": {"low": -45.0, "high": 45.0},
    "colour": ["red", "green", "blue"],
}
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-device-scale-factor=1 --window-size=1280,900"
)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Untrained models with classes, attributes, a hole, many steps, and samples that are no pictures."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "classes": make_model("model=cgan_mlp"),
        "attributes": make_model(
            "model=cgan_mlp", "model.options.expects=null", shape=(3, 28, 28), condition=Attributes(FIELDS)
        ),
        "tags": make_model("model=cgan_mlp", condition=Tags([Category("colour", ("red", "blue"))], ["dog"])),
        "captions": make_model("model=cgan_mlp", condition=Captions(["a red cat", "a blue dog"], width=8, heads=2)),
        "inpaint": make_model("model=pix2pix", condition=Inpaint((1, 28, 28))),
        "slow": make_model("model=flow_matching"),
        "points": make_model("model=gan_points", space=Points()),
        "texts": make_model("model=language", *SMALL_LANGUAGE, space=Tokens("abcdefgh 。", 24), condition=ClassLabel("ab")),
        "vocoder": make_model(
            "model=vocoder", "model.generator.network.width=8", space=WAVEFORMS, condition=MelImage(WAVEFORMS)
        ),
    }
    for name, model in made.items():
        torch.save({"condgen": model.recipe, "state_dict": model.state_dict(), "global_step": 0}, folder / f"{name}.ckpt")
    return [folder / f"{name}.ckpt" for name in made]


@pytest.fixture(scope="session")
def server(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = Serving(models, tmp_path_factory.mktemp("server") / "log.txt")
    serving.start()
    yield serving
    serving.stop()


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver: webdriver.Chrome, server: Serving) -> Iterator[Page]:
    """The page, whose console has nothing to say in the end."""
    page = Page(driver, server.address)
    page.prefer("light")
    page.errors()
    yield page
    assert page.errors() == []
