"""The studio in a real browser: tabs, the keyboard alone, a narrow window, dark mode, many users."""

import json
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from browsing import OF_THE_STUDIO, PIXELS, draws_anew, editor_value, open_tab, press, shown

pytest.importorskip("gradio", reason="needs ddim[studio]")
pytest.importorskip("playwright", reason="needs playwright")
pytestmark = OF_THE_STUDIO
TABS = ("Sample", "Compare", "Latent", "Restore", "Train")


def test_sample_draws_again_and_shows_the_way(page):
    draws_anew(page, seed=1)
    last = shown(page, "#sample-way")
    page.locator("input[type=range][aria-label*=trajectory]").first.fill("0")
    page.wait_for_function("() => !document.querySelector('#sample-way [data-frame=\"0\"]').hidden")
    first = shown(page, "#sample-way")
    assert len(last) == len(first) == 2
    assert set(first).isdisjoint(last)
    assert page.locator("#sample-curve circle[data-frame='0']").is_visible()


def test_compare_shows_the_distance_and_the_metric_of_each(page):
    open_tab(page, "Compare")
    press(page, "Compare")
    page.wait_for_selector("#compare-result img")
    text = page.locator("#compare-result").inner_text()
    assert re.search(r"rms distance between A and B is 0\.\d+", text)
    assert len(re.findall(r"Accuracy \d+% \[\d+%, \d+%\] of 32 samples\.", text)) == 2


def test_latent_goes_between_drawn_and_sampled_images(page):
    open_tab(page, "Latent")
    canvas = page.locator("#latent-A canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 40, steps=10)
    page.mouse.up()
    blank = editor_value(page, "latent-B")
    press(page, "Sample B")
    page.wait_for_function("([name, blank]) => " + PIXELS + " != blank", arg=["latent-B", blank], polling=500)
    page.get_by_role("tabpanel").locator("input[type=number][aria-label*=Steps]:visible").fill("5")
    press(page, "Interpolate")
    page.wait_for_selector("#latent-result img")
    text = page.locator("#latent-result").inner_text()
    assert float(re.findall(r"O-BELM\): rms error ([\d.e-]+)", text)[0]) < 1e-9
    assert len(shown(page, "#latent-result")) == 4


def test_restore_fills_in_what_is_brushed_away(page):
    open_tab(page, "Restore")
    press(page, "Restore")
    page.get_by_text("All pixels are known").wait_for()
    blank = editor_value(page, "restore-image")
    press(page, "Sample an image")
    page.wait_for_function("([name, blank]) => " + PIXELS + " != blank", arg=["restore-image", blank], polling=500)
    canvas = page.locator("#restore-image canvas")
    canvas.focus()
    for _ in range(8):  # by the keyboard: a column of unknown pixels
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
    page.wait_for_timeout(300)
    press(page, "Restore")
    page.wait_for_selector("#restore-result img")
    assert re.search(r"On the \d+ unknown pixels", page.locator("#restore-result").inner_text())


def test_the_keyboard_alone_draws_and_changes_tabs(page):
    before = shown(page, "#sample-way")[0]
    page.get_by_label("Seed").first.fill("2")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Draw":
            break
    page.keyboard.press("Enter")
    page.wait_for_function("b => document.querySelector('#sample-way div:not([hidden]) img').src != b", arg=before)
    page.get_by_role("tab", name="Sample").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_by_role("tab", name="Compare").get_attribute("aria-selected") == "true"


@pytest.mark.parametrize("page", [{"viewport": {"width": 400, "height": 800}, "color_scheme": "dark"}], indirect=True)
def test_a_narrow_window_in_dark_mode_shows_every_tab(page):
    for name in TABS:
        if page.get_by_role("tab", name=name).count():
            open_tab(page, name)
        else:  # tabs without a place are in a menu
            page.get_by_label("More tabs").click()
            page.locator(".overflow-dropdown button", has_text=name).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    light = "e => getComputedStyle(e).color.match(/\\d+/g).slice(0, 3).map(Number)"
    assert min(page.locator("#sample-way figcaption").last.evaluate(light)) > 150
    assert max(page.locator("body").evaluate(light.replace(".color", ".backgroundColor"))) < 60


def ask(studio, seed):
    """Draw one image as a page does, by HTTP; return the seconds and the answer."""
    data = ["mnist", 1, "3", seed, 20, "model's own", 0, "model's own", ""]
    headers = {"Content-Type": "application/json"}
    url, began = f"{studio.url}gradio_api/call/sample", time.monotonic()
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps({"data": data}).encode(), headers)) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as answer:
        return time.monotonic() - began, answer.read().decode()


def test_twenty_users_at_once_get_their_own_images(studio):
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda seed: ask(studio, seed)[1], range(20)))
    assert all("event: complete" in answer for answer in answers)
    assert len({re.findall(r"base64,([^\"\\]+)", answer)[0] for answer in answers}) == 20


def test_the_server_requested_nothing_from_outside(studio):
    """The last test: it looks back on all of them."""
    assert studio.proxied == []
