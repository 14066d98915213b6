"""The server's page in a real browser: drawn with, painted on, broken, heard and looked at."""

import base64
import io
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import CONTRAST, SECONDS, Page, Serving
from PIL import Image
from recipes import make_model
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from condgen.conditions import Attributes, Inpaint
from condgen.spaces import Points

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver"),
]
FIELDS = {
    "digit": [str(digit) for digit in range(10)],
    "rotation": {"low": -45.0, "high": 45.0},
    "colour": ["red", "green", "blue"],
}
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-device-scale-factor=1 --window-size=1280,900"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Untrained models with classes, attributes, a hole, many steps, and samples that are no pictures."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "classes": make_model("model=cgan_mlp"),
        "attributes": make_model(
            "model=cgan_mlp", "model.options.expects=null", shape=(3, 28, 28), condition=Attributes(FIELDS)
        ),
        "inpaint": make_model("model=pix2pix", condition=Inpaint((1, 28, 28))),
        "slow": make_model("model=flow_matching"),
        "points": make_model("model=gan_points", space=Points()),
    }
    for name, model in made.items():
        torch.save({"condgen": model.recipe, "state_dict": model.state_dict(), "global_step": 0}, folder / f"{name}.ckpt")
    return [folder / f"{name}.ckpt" for name in made]


@pytest.fixture(scope="module")
def server(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = Serving(models, tmp_path_factory.mktemp("server") / "log.txt")
    serving.start()
    yield serving
    serving.stop()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
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


def test_a_class_is_chosen_and_eight_pictures_are_seen(page, server):
    page.open()
    before = page.shown
    page.press("7", "#condition")  # draws at once
    page.until(lambda: page.title == "7")
    assert len(page.shown) == 8 and page.shown != before
    answer = json.loads(server.ask(model="classes", condition={"class": "7"}, count=8, seed=0, format="pngs"))
    assert page.shown == [f"data:image/png;base64,{image}" for image in answer["images"]]
    first = "const i = document.querySelector('#pictures button img');"
    natural, width, rendering = page.run(first + "return [i.naturalWidth, i.width, getComputedStyle(i).imageRendering]")
    assert (natural, width % 28, rendering) == (28, 0, "pixelated") and width > 100
    page.press("Several", "#condition")
    page.press("3", "#condition")
    page.until(lambda: page.title == "3, 7")
    assert len(page.shown) == 16
    page.press("All", "#condition")
    page.until(lambda: page.title == "Every class")
    assert len(page.shown) == 80


def test_the_seed_changes_unless_it_is_kept(page):
    page.open()
    first = page.shown
    page.one("#count").send_keys(Keys.ENTER)  # Enter draws
    page.drawn(first)
    second, seed = page.shown, page.one("#seed").get_property("value")
    assert seed != "0" and f"seed {seed}" in page.one("#subtitle").text
    page.one("#locked").click()
    page.one("#count").send_keys(Keys.ENTER)
    page.until(lambda: not page.busy and page.state.get("locked"))
    assert page.shown == second and page.one("#seed").get_property("value") == seed
    page.one("#roll").click()
    page.drawn(second)


def test_an_attribute_is_moved_and_left_open_again(page):
    page.open(model="attributes", condition={"digit": "3"}, count=4)
    slider = page.one("input[type=range][aria-label=Rotation]")
    assert page.title == "Digit 3" and len(set(captions(page))) == 4  # rotation is drawn for each
    before = page.shown
    slider.send_keys(Keys.END)
    page.drawn(before)
    assert page.state["condition"] == {"digit": "3", "rotation": 45}
    assert page.title == "Digit 3 · rotation 45" and all("45" in caption for caption in captions(page))
    before = page.shown
    slider.send_keys(Keys.ARROW_LEFT)
    page.drawn(before)
    assert page.state["condition"]["rotation"] == 44
    before = page.shown
    colours = page.one("#condition input[value=red]").find_element(By.XPATH, "ancestor::fieldset")
    colours.find_element(By.CSS_SELECTOR, ".opener").click()  # several
    page.press("red", "#condition")
    page.press("blue", "#condition")
    page.until(lambda: len(page.shown) == 8)
    assert [one["colour"] for one in page.state["condition"]] == ["red", "blue"]
    page.press("Leave open", "#condition")
    page.until(lambda: "rotation" not in page.title)
    assert all("rotation" not in one for one in page.state["condition"])


def captions(page: Page) -> list[str]:
    """Return what stands below each picture."""
    return [str(text) for text in page.run("return [...document.querySelectorAll('.caption')].map(c => c.textContent)")]


def test_a_hole_is_painted_and_filled_while_all_else_stays(page, tmp_path):
    page.open(model="inpaint", image=a_picture(28))
    opaque = hole_of(page)
    assert not opaque.any()  # a link to a picture without a hole
    page.press("Hole", ".tools")
    before, canvas = page.shown, page.one("canvas")
    side = canvas.size["width"]
    drag = ActionChains(page.driver).move_to_element_with_offset(canvas, -side // 4, 0).click_and_hold()
    drag.move_by_offset(side // 2, 0).release().perform()
    page.drawn(before)
    hole = hole_of(page)
    assert hole[14, 8:20].all() and not hole[:8].any() and not hole[20:].any()
    start = picture_of(page)[..., 0]
    assert (page.pictures[:, ~hole] == start[~hole]).all()
    assert len(np.unique(page.pictures[:, hole], axis=0)) == 8  # each is filled in its own way

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    before = page.shown
    page.one("input[type=file]").send_keys(str(tmp_path / "photo.jpg"))
    page.drawn(before)
    assert hole_of(page)[7:21, 7:21].all() and hole_of(page).sum() == 14 * 14  # in the middle, until it is painted
    before = page.shown
    page.press("Undo", ".picture")
    page.drawn(before)
    assert (hole_of(page) == hole).all()


def test_a_picture_is_drawn_with_the_keyboard(page):
    page.open(model="inpaint", image=a_picture(28))
    before = page.shown
    page.press("Empty", ".picture")
    page.run("document.querySelector('.tools input[type=range]').value = 1")
    page.one("canvas").send_keys(Keys.ARROW_RIGHT, Keys.SPACE, Keys.ARROW_DOWN, Keys.SPACE)
    page.drawn(before)
    page.until(lambda: picture_of(page)[..., 0].sum() == 2 * 255)
    assert picture_of(page)[14, 15, 0] == picture_of(page)[15, 15, 0] == 255
    assert page.one("#status").get_attribute("aria-live") == "polite"


def a_picture(side: int) -> str:
    """Return a PNG of grey values without a hole, in base64."""
    file = io.BytesIO()
    values = np.arange(side * side, dtype=np.uint32).reshape(side, side) * 255 // (side * side)
    Image.fromarray(values.astype(np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def picture_of(page: Page) -> np.ndarray:
    """Return the picture that is sent, (H, W, 4)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(page.state["image"]))).convert("RGBA"))


def hole_of(page: Page) -> np.ndarray:
    """Return where the picture that is sent is unknown, (H, W)."""
    return picture_of(page)[..., 3] == 0


def test_a_walk_has_a_slider_that_shows_its_step(page):
    page.open()
    page.press("Walk to another", "#ask")
    page.until(lambda: page.title == "3 → 4")
    slider, output = page.one(".walk input"), page.one(".walk output")
    assert output.text == "Step 1 of 12" and len(page.run("return document.querySelectorAll('.strip img')")) == 12
    first = page.pictures
    slider.send_keys(Keys.END)
    assert output.text == slider.get_attribute("aria-valuetext") == "Step 12 of 12" and (page.pictures != first).any()
    page.press("9", "#to")
    page.until(lambda: page.title == "3 → 9")
    assert page.state["to"] == {"class": "9"} and (page.pictures == first).all()  # both start at the same 3


def test_points_are_shown_as_one_picture(page, server):
    page.open(model="points", condition={"class": "3"}, count=9)
    picture = server.ask(model="points", condition={"class": "3"}, count=9, seed=0)
    assert page.shown == [f"data:image/png;base64,{base64.b64encode(picture).decode()}"]
    assert page.one("#draw").text == "Draw 9 points" and "9 points" in page.one("#subtitle").text


def test_a_link_restores_everything(page):
    page.open(model="attributes")
    page.press("red", "#condition")
    page.one("input[aria-label=Rotation]").send_keys(Keys.HOME)
    page.press("Options", "#ask")
    page.one("input[aria-label='Truncation, exactly']").send_keys("0.7")
    page.one("#seed").send_keys(Keys.BACKSPACE, "41")
    page.one("#locked").click()
    page.one("#count").send_keys(Keys.BACKSPACE, "5", Keys.ENTER)
    page.until(lambda: not page.busy and page.state.get("count") == 5 and page.state["seed"] == 41)
    shown, state, title = page.shown, page.state, page.title
    page.open(**state)
    assert (page.shown, page.state, page.title) == (shown, state, title)
    assert state["sampling"] == {"truncation": 0.7} and state["locked"] is True
    assert (
        page.one("#locked").is_selected() and page.one("input[aria-label='Truncation, exactly']").get_property("value") == "0.7"
    )


def test_a_link_cannot_do_harm(page):
    script = "<img src=x onerror=alert(1)>"
    page.open(model=script, condition={"class": script}, image="AAAA", count=-3, seed="x", sampling=[1], other="y")
    assert script in page.complaint() and len(page.shown) == 80  # no class that there is: every one
    assert page.run("return document.querySelectorAll('img[src=x]').length") == 0
    bomb = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4) * 2 + bytes(20)).decode()
    page.open(model="inpaint", image=bomb)  # starts from another model's sample instead
    assert picture_of(page).shape == (28, 28, 4)


def test_a_picture_is_seen_large(page):
    page.open()
    first, second, *_, last = page.shown
    page.one("#pictures button").click()
    large = page.one("#large img")
    assert large.get_attribute("src") == first and page.one("#caption").text == "3, 1 of 8"
    page.until(lambda: large.size["width"] % 28 == 0 and large.size["width"] > 400)
    ActionChains(page.driver).send_keys(Keys.ARROW_RIGHT).perform()
    assert large.get_attribute("src") == second == page.one("#save").get_attribute("href")
    ActionChains(page.driver).send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT).perform()
    assert large.get_attribute("src") == last
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert not page.one("#large").is_displayed()
    assert page.run("return document.activeElement === document.querySelector('#pictures button')")


def test_the_code_that_is_copied_draws_the_same(page, server, tmp_path):
    page.open(model="inpaint", image=a_picture(28))
    page.press("As code")
    curl, python = page.run("return [...document.querySelectorAll('#written pre')].map(p => p.textContent)")
    (tmp_path / "draw.py").write_text(python)
    wanted = server.ask(**page.state, format="png")
    assert wanted.startswith(b"\x89PNG")
    commands: list[list[str]] = [[sys.executable, "draw.py"], *([["bash", "-c", curl]] if shutil.which("curl") else [])]
    for command in commands:
        subprocess.run(command, cwd=tmp_path, check=True, timeout=SECONDS, capture_output=True)
        assert (tmp_path / "samples.png").read_bytes() == wanted
        (tmp_path / "samples.png").unlink()


def test_files_are_saved_as_the_server_writes_them(page, server, tmp_path):
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.open()
    for ending in ("png", "npz"):
        page.press(f"Save {ending.upper() if ending == 'png' else ending}")
        saved = tmp_path / f"classes-0.{ending}"
        page.until(saved.exists)
        assert saved.read_bytes() == server.ask(model="classes", condition={"class": "3"}, count=8, seed=0, format=ending)


def test_a_slow_sampler_says_how_far_it_is_and_can_be_cancelled(page):
    page.open(model="slow", condition={"class": "3"}, count=1, sampling={"steps": 1})
    before, address = page.shown, page.driver.current_url
    assert not page.one("#live").is_selected()
    page.one("#options").find_element(By.CSS_SELECTOR, "input[aria-label='Steps, exactly']").send_keys(Keys.BACKSPACE, "200")
    page.one("#count").send_keys(Keys.BACKSPACE, "64", Keys.ENTER)
    page.until(lambda: page.one("#progress label").text.startswith("Step "))
    assert page.one("#progress label").text.endswith(" of 200")
    page.one("#cancel").click()
    page.until(lambda: not page.busy)
    assert page.one("#status").get_property("textContent") == "Cancelled." and page.driver.current_url == address
    page.open(model="slow", condition={"class": "3"}, count=1, sampling={"steps": 1})  # and the server is free
    assert page.shown == before


def test_mistakes_are_told_beside_what_they_are_about(page, tmp_path):
    page.open(model="inpaint", image=a_picture(28))
    (tmp_path / "bad.png").write_bytes(b"\x89PNG no more")
    page.one("input[type=file]").send_keys(str(tmp_path / "bad.png"))
    assert page.complaint() == "bad.png can't be read as a picture: choose a PNG, a JPEG or a WebP."
    assert page.one("#start .complaint").get_attribute("role") == "alert"
    page.open()
    page.one("#count").send_keys("000", Keys.ENTER)
    assert page.complaint() == "Pictures of each must be a whole number from 1 to 64."
    assert page.one("#count").get_attribute("aria-invalid") == "true"
    assert page.one("#count").get_attribute("aria-describedby") == page.one("[data-field=count] .complaint").get_attribute("id")
    page.open()
    page.press("Options", "#ask")
    page.one("input[aria-label='Truncation, exactly']").send_keys("900")
    page.until(lambda: page.one("#options .complaint").is_displayed())
    assert "truncation must be" in page.complaint()  # as the server says it
    assert len(page.shown) == 8  # what was there still hangs
    (said,) = page.errors()
    assert "422" in said  # the browser tells of each answer that is none


def test_the_server_may_go_and_come_back(page, models, tmp_path):
    serving = Serving(models[:1], tmp_path / "log.txt")
    serving.start()
    try:
        other = Page(page.driver, serving.address)
        other.open()
        before = other.shown
        serving.stop()
        other.press("7", "#condition")
        assert other.complaint().startswith("The server does not answer.")
        assert other.shown == before  # nothing is lost
        serving.start("--token", "open sesame")
        other.press("Try again")
        assert "token" in other.complaint()
        other.until(lambda: other.one("#token-form").is_displayed())
        other.one("#token").send_keys("open sesame", Keys.ENTER)
        other.until(lambda: len(other.shown) == 8 and not other.busy)
        other.press("As code")
        assert "sesame" not in other.one("#written").text and "$CONDGEN_TOKEN" in other.one("#written").text
    finally:
        serving.stop()
    assert all("Failed to load resource" in said for said in page.errors())


@pytest.mark.parametrize("model", ["classes", "attributes", "inpaint", "slow"])
def test_every_control_has_a_name(page, model):
    start = {"image": a_picture(28)} if model == "inpaint" else {"condition": {FIRST[model]: "3"}}
    page.open(model=model, **start)
    if model != "inpaint":
        page.press("Walk to another", "#ask")
    page.run("document.querySelectorAll('details').forEach(d => d.open = true); document.getElementById('written').showModal()")
    named = controls(page)
    page.run("document.getElementById('written').close()")
    named += controls(page)
    page.run("document.querySelector('#pictures button').click()")
    named += controls(page)
    assert len(named) > 15 and [role for role, name in named if not name] == []
    assert page.run("return document.documentElement.lang") == "en"
    ids = page.run("return [...document.querySelectorAll('[id]')].map(n => n.id)")
    assert len(ids) == len(set(ids))


FIRST = {"classes": "class", "attributes": "digit", "slow": "class"}


def controls(page: Page) -> list[tuple[str, str]]:
    """Return the role and the name of every control, as the browser tells them to a screen reader."""
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = "button checkbox radio slider spinbutton textbox searchbox combobox switch link Canvas application ColorWell"
    kinds = {*roles.split(), "DisclosureTriangle", "dialog", "form", "radiogroup", "group", "progressbar"}
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and node.get("role", {}).get("value") in kinds
    ]
    return [(role, name) for role, name in found if name or role != "group"]  # a group of nothing but its parts


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable(page, theme):
    page.prefer(theme)
    for state in ({"model": "attributes"}, {"model": "inpaint", "image": a_picture(28)}):
        page.open(**state)
        assert page.run("return document.documentElement.dataset.theme") == theme
        page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.one("#count").send_keys("000", Keys.ENTER)
        page.complaint()
        time.sleep(0.5)  # until colours have changed
        seen = page.run(CONTRAST)
        assert len(seen) > 25 and [one for one in seen if one[1] < 4.5] == []


def test_the_theme_is_switched_and_kept(page):
    page.open()
    switch = page.one("#theme")
    background = page.run("return getComputedStyle(document.documentElement).backgroundColor")
    switch.click()
    assert switch.get_attribute("aria-pressed") == "true"
    assert page.run("return getComputedStyle(document.documentElement).backgroundColor") != background
    page.open()
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    page.run("localStorage.clear()")


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_it_without_scrolling_sideways(page, width):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for state in ({}, {"model": "attributes"}, {"model": "inpaint", "image": a_picture(28)}):
            page.open(**state)
            page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert page.run("return document.documentElement.scrollWidth") <= width
            rows = page.run("return [...document.querySelectorAll('#pictures button')].map(b => b.getBoundingClientRect().top)")
            assert rows.count(rows[0]) >= 2  # beside each other
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_is_loaded_from_elsewhere_and_no_script_stands_in_the_page(server):
    with urllib.request.urlopen(server.address) as answer:
        policy, text = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'self'" in policy and "unsafe" not in policy
    assert "http://" not in text and "https://" not in text and " style=" not in text and " onclick=" not in text
