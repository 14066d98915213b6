"""The server's page heard, looked at in two themes and on a phone, and opened at links that mean harm."""

import base64
import time
import urllib.request

import pytest
from selenium.webdriver import Keys
from serving.page.browser import Page, a_picture, picture_of

pytestmark = pytest.mark.slow
CONTRAST = """
const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const read = (colour) => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const [r, g, b, a] = read(getComputedStyle(node).backgroundColor);
    if (a > 0) return [r, g, b];
  }
  return [255, 255, 255];
};
const seen = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const node = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
  if (!text || !node.checkVisibility() || node.closest("svg, .unseen, noscript, option")) continue;
  const [front, back] = [light(read(getComputedStyle(node).color)), light(behind(node))];
  const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
  seen.push([text.slice(0, 40), Math.round(100 * ratio) / 100]);
}
return seen;
"""
"""The ratio of contrast of every text that is seen with what is behind it, by WCAG 2.2."""


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
    click = "const one = document.querySelector('#pictures button'); one?.click(); return Boolean(one)"
    page.until(lambda: page.run(click))  # the walk may just be drawn
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
    background = "return getComputedStyle(document.documentElement).backgroundColor"
    light = page.run(background)
    switch.click()
    assert switch.get_attribute("aria-pressed") == "true"
    page.until(lambda: page.run(background) != light)
    page.open()
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    page.run("localStorage.clear()")


def test_a_phone_that_is_turned_has_its_pictures_beside_each_other(page):
    page.open()
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        places = "return [...document.querySelectorAll('#pictures button')].map(b => b.getBoundingClientRect().top)"
        page.until(lambda: (tops := page.run(places)).count(tops[0]) == 2)
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


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


def test_a_link_cannot_do_harm(page):
    script = "<img src=x onerror=alert(1)>"
    page.open(model=script, condition={"class": script}, image="AAAA", count=-3, seed="x", sampling=[1], other="y")
    assert script in page.complaint() and len(page.shown) == 80  # no class that there is: every one
    assert page.run("return document.querySelectorAll('img[src=x]').length") == 0
    bomb = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4) * 2 + bytes(20)).decode()
    page.open(model="inpaint", image=bomb)  # starts from another model's sample instead
    assert picture_of(page).shape == (28, 28, 4)
