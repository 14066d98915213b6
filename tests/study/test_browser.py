"""The page of a study in a real browser, answered by a made-up respondent of known error."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import CLASSES, put_study, stored_answers
from scipy.stats import binomtest

from condgen.studies.trials import Study

if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("needs Debian's chromium and chromium-driver", allow_module_level=True)
selenium = pytest.importorskip("selenium", reason="needs selenium, of the development group")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = pytest.mark.slow
FLAGS = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
FLAGS += ["disable-component-update", "disable-sync", "disable-dev-shm-usage"]
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
DESK = {"width": 1100, "height": 800, "deviceScaleFactor": 1, "mobile": False}
Driver = Any


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A browser with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in [*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    yield browser
    browser.quit()


@pytest.fixture
def serve() -> Iterator[Any]:
    """Return ``serve(folder) -> address``, the real command in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> tuple[str, subprocess.Popen[str]]:
        command = [sys.executable, "-u", "-m", "condgen", "study", str(folder), "--port", "0"]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        line = started[-1].stdout.readline()  # type: ignore[union-attr]
        return line.partition(" at ")[2].split()[0], started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def shape(driver: Driver, metrics: dict[str, Any], scheme: str) -> None:
    """Give the page a size and a colour scheme."""
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def picture(driver: Driver, name: str) -> None:
    """Keep what is seen where ``CONDGEN_SCREENSHOTS`` says, for whoever wants to look."""
    if folder := os.environ.get("CONDGEN_SCREENSHOTS"):
        driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def wait(driver: Driver, condition: str) -> Any:
    """Wait until JavaScript's ``condition`` holds, and return it."""
    return WebDriverWait(driver, 120, poll_frequency=0.05).until(lambda d: d.execute_script(f"return {condition}"))


def answered(driver: Driver, count: int) -> None:
    """Wait until the page asks the next question."""
    wait(driver, f"state && state.answered === {count} && !busy")


def require_sound(driver: Driver) -> None:
    """Every control has a name, nothing is wider than the page, the picture is there."""
    controls = driver.find_elements(By.CSS_SELECTOR, "button, input, progress")
    assert all(element.accessible_name for element in controls if element.is_displayed())
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    shown = "[...document.images].every((image) => image.complete && image.naturalWidth === 8)"
    assert wait(driver, shown)
    assert all(image.get_attribute("alt").startswith("Picture ") for image in driver.find_elements(By.TAG_NAME, "img"))


def contrasts(driver: Driver) -> list[float]:
    """Return the contrast of each text that is seen to what lies behind it (WCAG 2)."""
    return driver.execute_script(
        """
        const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
          .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const back = (e) => { let c; do { c = getComputedStyle(e).backgroundColor; e = e.parentElement; }
          while (e && c === "rgba(0, 0, 0, 0)"); return c; };
        const texts = document.querySelectorAll("h1, p, label, button, td, th, span, kbd");
        return [...texts].filter((e) => e.offsetParent && e.innerText)
          .map((e) => [light(getComputedStyle(e).color), light(back(e))].sort((a, b) => b - a))
          .map(([a, b]) => (a + 0.05) / (b + 0.05));
        """
    )


def begin(driver: Driver, name: str) -> None:
    """Write a name, or none, and begin."""
    wait(driver, "!document.getElementById('welcome').hidden")
    driver.find_element(By.ID, "name").send_keys(name, Keys.ENTER)


def press(driver: Driver, key: str) -> None:
    """Press a key, wherever the focus is."""
    webdriver.ActionChains(driver).send_keys(key).perform()


def click(driver: Driver, text: str) -> None:
    """Click the button that begins with ``text``."""
    (button,) = [b for b in driver.find_elements(By.CSS_SELECTOR, "#choices button") if b.text.split("\n")[0].strip() == text]
    button.click()


def give(driver: Driver, study: Study, place: int, wrong: bool) -> None:
    """Answer question ``place``, by turns with the mouse and with the keyboard."""
    trial, question = study.slots[place]
    right, choices = study.right(trial, question), study.choices(question)
    choice = next(c for c in choices if c != right) if wrong else right
    if question == "condition":
        click(driver, choice) if place % 4 == 1 else press(driver, choice[0])
    elif place % 3 == 0:
        click(driver, choice.capitalize())
    else:
        keys = {"real": ("r", Keys.ARROW_LEFT), "generated": ("g", Keys.ARROW_RIGHT)}
        press(driver, keys[choice][place % 2])


def test_a_respondent_of_known_error_in_the_browser(driver: Driver, serve: Any, tmp_path: Path) -> None:
    study = put_study(tmp_path / "s", trials=20, question="both")
    wrong = {0, 6, 14, 22, 30, 9, 17}  # five of the questions whether it is real, two of what is shown
    address, process = serve(tmp_path / "s")
    shape(driver, DESK, "light")
    driver.get(address)
    wait(driver, "!document.getElementById('welcome').hidden")
    picture(driver, "welcome-light")
    begin(driver, "Ada")
    for place in range(40):
        answered(driver, place)
        if place == 13:  # a reload, and an end with a new beginning
            driver.refresh()
            answered(driver, place)
            driver.find_element(By.ID, "stop").click()
            assert "13 answers are kept" in driver.find_element(By.ID, "thanks").text
            driver.refresh()
            begin(driver, "ada")
            answered(driver, place)
        if place in (2, 3):
            for scheme, metrics in (("light", DESK), ("dark", DESK), ("dark", PHONE), ("light", PHONE)):
                shape(driver, metrics, scheme)
                require_sound(driver)
                assert min(contrasts(driver)) >= 4.5
                picture(driver, f"question-{place}-{scheme}-{metrics['width']}")
        assert len(stored_answers(tmp_path / "s", "ada")) == place if place else True
        give(driver, study, place, place in wrong)
    wait(driver, "!document.getElementById('end').hidden")
    for scheme in ("light", "dark"):
        shape(driver, PHONE, scheme)
        require_sound(driver)
        assert min(contrasts(driver)) >= 4.5
        picture(driver, f"end-{scheme}")
    assert "25 %\n5 of 20\n" in driver.find_element(By.ID, "result").text
    lines = stored_answers(tmp_path / "s", "ada")
    assert {i for i, line in enumerate(lines) if line["answer"] != study.right(*study.slots[i])} == wrong
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []

    process.send_signal(signal.SIGINT)  # Ctrl-C counts the answers
    out, _ = process.communicate(timeout=120)
    shares = json.loads((tmp_path / "s" / "results.json").read_text())["shares"]
    expected = binomtest(5, 20).proportion_ci(method="wilson")
    assert (shares["hype"]["low"], shares["hype"]["high"]) == pytest.approx((expected.low, expected.high))
    assert process.returncode == 0 and f"0.250 [{expected.low:.3f}, {expected.high:.3f}]" in out
    shown = [shares[name] for name in ("human_accuracy", "human_accuracy_real")]
    assert sum(share["count"] for share in shown) == 18 and len(CLASSES) == 3


def test_pairs_in_the_browser_and_a_server_that_has_gone(driver: Driver, serve: Any, tmp_path: Path) -> None:
    study = put_study(tmp_path / "s", trials=4, pairs=True, question="both")
    address, process = serve(tmp_path / "s")
    shape(driver, PHONE, "light")
    driver.get(address)
    begin(driver, "")
    for place in range(6):
        answered(driver, place)
        require_sound(driver)
        trial, question = study.slots[place]
        asked = driver.find_element(By.ID, "question").text
        assert (study.trials[trial].condition in asked) is (question == "condition")
        picture(driver, f"pair-{place}")
        side = study.right(trial, question)
        if place % 2:
            press(driver, {"left": Keys.ARROW_LEFT, "right": Keys.ARROW_RIGHT}[side])
        else:
            driver.find_elements(By.CSS_SELECTOR, "#pictures button")[("left", "right").index(side)].click()
    answered(driver, 6)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "1.000 [" in out
    press(driver, Keys.ARROW_LEFT)
    wait(driver, "!document.getElementById('trouble').hidden")
    assert "cannot be reached" in driver.find_element(By.ID, "trouble").text
    picture(driver, "gone")
    (file,) = (tmp_path / "s").glob("answers-guest-*.jsonl")
    assert len(file.read_text().splitlines()) == 6
