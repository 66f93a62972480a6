"""The studio in a real browser: tabs, the keyboard alone, a narrow window, dark mode, many users."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ddim

pytest.importorskip("gradio", reason="needs ddim[studio]")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's Chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
)
PATIENCE = 180_000  # milliseconds, for a busy machine
TABS = ("Sample", "Compare", "Latent", "Restore", "Train")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Studio:
    """The command `ddim studio` in a process; every other host would be reached through a proxy that counts."""

    def __init__(self, folder):
        self.folder, self.port, self.proxied = folder, free_port(), []
        self.proxy = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._count, daemon=True).start()
        self.start()

    def _count(self):
        while True:
            try:
                connection, _ = self.proxy.accept()
            except OSError:
                return
            self.proxied.append(connection.recv(1000))
            connection.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def start(self):
        proxy = f"http://127.0.0.1:{self.proxy.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        proxies = {name: proxy for one in names for name in (one, one.lower())}
        proxies |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        environment = {**os.environ, **proxies, "PYTHONPATH": str(Path(ddim.__file__).parents[1])}
        words = [sys.executable, "-m", "ddim", "studio", "--port", str(self.port)]
        self.process = subprocess.Popen(
            words, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        line = self.process.stdout.readline()
        assert line == f"The studio is at {self.url} until Ctrl-C.\n", line + self.process.stdout.read()

    def stop(self, number):
        self.process.send_signal(number)
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    running = Studio(tmp_path_factory.mktemp("studio"))
    yield running
    running.stop(signal.SIGTERM)
    running.proxy.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())


@pytest.fixture(scope="module")
def outside():
    """The requests of all pages that were not to this machine."""
    return []


@pytest.fixture
def page(studio, browser, outside, request):
    """A page with an empty profile that has drawn its first images; no other host answers."""
    context = browser.new_context(**getattr(request, "param", {}))
    elsewhere = re.compile(r"^(?!(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:)")
    context.route(elsewhere, lambda route: (outside.append(route.request.url), route.abort()))
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    failures = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.goto(studio.url)
    page.wait_for_selector("#sample-way img", state="attached")
    yield page
    context.close()
    assert not failures


def shown(page, place):
    """The images of a part of the page that are visible."""
    found = page.locator(f"{place} img").all()
    return [image.get_attribute("src") for image in found if image.is_visible()]


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


PIXELS = "document.querySelector(`#${name} canvas`).toDataURL()"


def editor_value(page, name):
    return page.evaluate("name => " + PIXELS, name)


def test_sample_draws_again_and_shows_the_way(page):
    before = shown(page, "#sample-way")
    page.get_by_label("Seed").first.fill("1")
    press(page, "Draw")
    page.wait_for_function("b => document.querySelector('#sample-way div:not([hidden]) img').src != b", arg=before[0])
    last = shown(page, "#sample-way")
    page.locator("input[type=range][aria-label*=trajectory]").first.fill("0")
    page.wait_for_function("() => !document.querySelector('#sample-way [data-frame=\"0\"]').hidden")
    first = shown(page, "#sample-way")
    assert len(last) == len(first) == 2
    assert set(first).isdisjoint(last)
    assert page.locator("#sample-curve circle[data-frame='0']").is_visible()


def test_compare_shows_the_distance(page):
    open_tab(page, "Compare")
    press(page, "Compare")
    page.wait_for_selector("#compare-result img")
    assert re.search(r"rms distance between A and B is 0\.\d+", page.locator("#compare-result").inner_text())


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


def test_nothing_was_requested_from_outside(studio, outside):
    assert outside == []
    assert studio.proxied == []
