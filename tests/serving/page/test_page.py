"""The server's page in a real browser: drawn with, painted on, and broken."""

import base64
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from data.recordings import tone, wav
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from serving.page.browser import SECONDS, Page, Serving, a_picture, picture_of

pytestmark = pytest.mark.slow


def test_a_class_is_chosen_and_eight_pictures_are_seen(page, server):
    page.open()
    before = page.shown
    page.press("7", "#condition")  # draws at once
    page.until(lambda: page.title == "7" and not page.busy)
    assert len(page.shown) == 8 and page.shown != before
    answer = json.loads(server.ask(model="classes", condition={"class": "7"}, count=8, seed=0, format="pngs"))
    assert page.shown == [f"data:image/png;base64,{image}" for image in answer["images"]]
    first = "const i = document.querySelector('#pictures button img');"
    natural, width, rendering = page.run(first + "return [i.naturalWidth, i.width, getComputedStyle(i).imageRendering]")
    assert (natural, width % 28, rendering) == (28, 0, "pixelated") and width > 100
    page.press("Several", "#condition")
    page.press("3", "#condition")
    page.until(lambda: page.title == "3, 7" and not page.busy)
    assert len(page.shown) == 16
    page.press("All", "#condition")
    page.until(lambda: page.title == "Every class" and not page.busy)
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


def hole_of(page: Page) -> np.ndarray:
    """Return where the picture that is sent is unknown, (H, W)."""
    return picture_of(page)[..., 3] == 0


def test_a_walk_has_a_slider_that_shows_its_step(page):
    page.open()
    page.press("Walk to another", "#ask")
    page.until(lambda: page.title == "3 → 4" and not page.busy)
    slider, output = page.one(".walk input"), page.one(".walk output")
    assert output.text == "Step 1 of 12" and len(page.run("return document.querySelectorAll('.strip img')")) == 12
    first = page.pictures
    slider.send_keys(Keys.END)
    assert output.text == slider.get_attribute("aria-valuetext") == "Step 12 of 12" and (page.pictures != first).any()
    page.press("9", "#to")
    page.until(lambda: page.title == "3 → 9" and not page.busy)
    assert page.state["to"] == {"class": "9"} and (page.pictures == first).all()  # both start at the same 3


def test_points_are_shown_as_one_picture(page, server):
    page.open(model="points", condition={"class": "3"}, count=9)
    picture = server.ask(model="points", condition={"class": "3"}, count=9, seed=0)
    assert page.shown == [f"data:image/png;base64,{base64.b64encode(picture).decode()}"]
    assert page.one("#draw").text == "Draw 9 points" and "9 points" in page.one("#subtitle").text


def test_texts_are_read_and_taken_along_as_such(page, server):
    page.open(model="texts", condition=[{"class": "a"}, {"class": "b"}], count=3)
    asked = {"model": "texts", "condition": [{"class": "a"}, {"class": "b"}], "count": 3, "seed": 0}
    wanted = json.loads(server.ask(**asked, format="json"))["texts"]
    assert page.texts == [text.replace("。", "。\n").strip() for text in wanted] and any("。" in text for text in wanted)
    assert page.run("return document.querySelectorAll('.group').length") == 2 and page.one("#draw").text == "Draw 6 texts"
    assert page.one("#txt").is_displayed() and not page.one("#png").is_displayed() and not page.one("#walk").is_displayed()
    page.press("As code")
    assert '"format":"txt"' in page.one("#written pre").text and "-o samples.txt" in page.one("#written pre").text


def test_a_recording_is_chosen_and_heard_again(page, tmp_path):
    page.open(model="vocoder", count=2)
    assert page.texts == ["Choose a recording, a wav file."]
    (tmp_path / "a.wav").write_bytes(wav(tone(440.0, 0.3, 8000)))
    page.one("#start input[type=file]").send_keys(str(tmp_path / "a.wav"))
    page.until(lambda: not page.busy and len(page.shown) == 2)
    assert page.one("#start audio").is_displayed() and page.one("#wav").is_displayed()
    assert page.one("#subtitle").text == "vocoder · 2 sounds · seed 0"
    (tmp_path / "b.wav").write_bytes(b"nothing")
    page.one("#start input[type=file]").send_keys(str(tmp_path / "b.wav"))
    page.until(lambda: "not a readable sound file" in page.one("#start").text)
    assert all("422" in error for error in page.errors())


def test_tags_are_chips_of_one_set_and_a_caption_is_a_line(page):
    page.open(model="tags", count=2)
    page.press("red", "#condition")
    page.press("dog", "#condition")
    page.until(lambda: not page.busy and page.state.get("condition") == {"tags": "red dog"})
    shown = page.shown
    page.open(**page.state)
    assert page.shown == shown and len(shown) == 2 and page.state["condition"] == {"tags": "red dog"}
    page.open(model="captions", count=2)
    page.one("#condition input[type=text]").send_keys("a red dog", Keys.ENTER)
    page.until(lambda: not page.busy and page.state.get("condition") == {"caption": "a red dog"})
    assert len(page.shown) == 2


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
    page.until(lambda: page.run("return document.querySelectorAll('#pictures .waiting img').length") == 64)  # as they come
    page.one("#cancel").click()
    page.until(lambda: not page.busy)
    assert page.one("#status").get_property("textContent") == "Cancelled." and page.driver.current_url == address
    assert page.shown == before and "1 picture" in page.one("#subtitle").text
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
