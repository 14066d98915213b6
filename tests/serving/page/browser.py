"""A browser that finds its way on the page by words, and a server in a process of its own."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

SECONDS = 60
"""After which something that does not happen is taken for a fault, on a busy machine too."""


class Page:
    """The page in a browser, as whoever uses it finds their way: by words.

    Args:
        driver: the browser.
        address: of the server.
    """

    def __init__(self, driver: webdriver.Chrome, address: str):
        self.driver, self.address = driver, address

    def prefer(self, theme: str) -> None:
        """Play a system that prefers a theme, and no motion, so that nothing is clicked while it moves."""
        wanted = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, **state: Any) -> None:
        """Open the page, at a link where there is a ``state``, and wait for what it shows first."""
        self.driver.get("about:blank")
        fields = {name: value if name in ("model", "image") else json.dumps(value) for name, value in state.items()}
        self.driver.get(self.address + (f"#{urlencode(fields)}" if fields else ""))
        self.until(lambda: (self.shown or self.texts) and not self.busy)

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait until something is true, and return it."""
        return WebDriverWait(self.driver, SECONDS, poll_frequency=0.1).until(lambda _: what())

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def press(self, text: str, within: str = "body") -> None:
        """Click the button, the chip or the switch of a name."""
        (found,) = [
            node
            for node in self.one(within).find_elements(By.CSS_SELECTOR, "button, label, summary, a.button")
            if node.is_displayed() and node.text.strip() == text
        ]
        found.click()

    @property
    def busy(self) -> bool:
        return self.one("#wall").get_attribute("aria-busy") == "true"

    @property
    def shown(self) -> list[str]:
        """The addresses of the pictures on the wall."""
        return [str(node) for node in self.run("return [...document.querySelectorAll('#pictures button img')].map(i => i.src)")]

    @property
    def texts(self) -> list[str]:
        """What is written on the wall: samples that are read, or what is missing."""
        return [str(text) for text in self.run("return [...document.querySelectorAll('#pictures p')].map(p => p.textContent)")]

    @property
    def pictures(self) -> np.ndarray:
        """The pixels of the pictures on the wall, (N, H, W) or (N, H, W, 3)."""
        return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(src.split(",")[1])))) for src in self.shown])

    @property
    def title(self) -> str:
        return self.one("#title").text.replace("\u00a0", " ")

    @property
    def state(self) -> dict[str, Any]:
        """What the address holds."""
        fields = {name: values[0] for name, values in parse_qs(urlsplit(self.driver.current_url).fragment).items()}
        return {name: value if name in ("model", "image") else json.loads(value) for name, value in fields.items()}

    def drawn(self, before: list[str]) -> None:
        """Wait for other pictures than those ``before``."""
        self.until(lambda: not self.busy and self.shown and self.shown != before)

    def complaint(self) -> str:
        """Wait for a sentence about what is wrong, and return it."""
        return str(self.until(lambda: self.run("return document.querySelector('.complaint span')?.textContent")))

    def errors(self) -> list[str]:
        """Return what the browser's console has had to say since this was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


class Serving:
    """``condgen serve`` in a process of its own.

    Args:
        models: what is served.
        log: a file for what it says.
    """

    def __init__(self, models: list[Path], log: Path):
        self.models, self.log = models, log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "condgen", "serve", *map(str, self.models), "--port", str(self.port), *options]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.log.parent)
        until = time.monotonic() + 4 * SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.address + "readyz", timeout=5).close()
                return
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.2)
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ask(self, **request: Any) -> bytes:
        """Return what the API answers."""
        sent = urllib.request.Request(
            self.address + "v1/samples", json.dumps(request).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(sent, timeout=SECONDS) as answer:
            content: bytes = answer.read()
            return content


def a_picture(side: int) -> str:
    """Return a PNG of grey values without a hole, in base64."""
    file = io.BytesIO()
    values = np.arange(side * side, dtype=np.uint32).reshape(side, side) * 255 // (side * side)
    Image.fromarray(values.astype(np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def picture_of(page: Page) -> np.ndarray:
    """Return the picture that is sent, (H, W, 4)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(page.state["image"]))).convert("RGBA"))
