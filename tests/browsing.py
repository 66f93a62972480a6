"""What the tests in a browser share: servers, what a visitor does in a page of the studio, and axe-core."""

import contextlib
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import ddim

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
)
OF_THE_STUDIO = [  # marks of a file of tests
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs Debian's Chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PATIENCE = 180_000  # milliseconds, for a busy machine
SOON = 60_000  # milliseconds, for what takes at most seconds on an idle machine
PIXELS = "document.querySelector(`#${name} canvas`).toDataURL()"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(folder):
    """Serve the files of a folder within this context, which yields the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def serious(page, axe):
    """The findings of axe-core on a page that are serious."""
    page.evaluate(axe)
    found = json.loads(page.evaluate("axe.run().then((found) => JSON.stringify(found.violations))"))
    return [one["id"] for one in found if one["impact"] in ("serious", "critical")]


class Studio:
    """The command `ddim studio` in a process; every other host would be reached through a proxy that counts."""

    def __init__(self, folder, *runs):
        self.folder, self.runs, self.port, self.proxied, self.said = folder, runs, free_port(), [], []
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
        words = [sys.executable, "-m", "ddim", "studio", *self.runs, "--port", str(self.port)]
        self.process = subprocess.Popen(
            words, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        line = self.process.stdout.readline()
        assert line == f"The studio is at {self.url} until Ctrl-C.\n", line + self.process.stdout.read()
        self.reader = threading.Thread(target=self.said.extend, args=[self.process.stdout], daemon=True)
        self.reader.start()  # a full pipe would stop the server

    def stop(self, number):
        self.process.send_signal(number)
        self.process.wait(60)
        self.reader.join()
        self.process.stdout.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def shown(page, place):
    """The images of a part of the page that are visible."""
    found = page.locator(f"{place} img").all()
    return [image.get_attribute("src") for image in found if image.is_visible()]


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def fill(page, label, text):
    """Write into a field of the open tab, and leave it."""
    field = page.get_by_role("tabpanel").get_by_label(re.compile(rf"^\s*{label}\b"))
    field.fill(text)
    field.press("Tab")


def editor_value(page, name):
    return page.evaluate("name => " + PIXELS, name)


def draws_anew(page, seed):
    """Draw images of a seed in the tab Sample, and wait until they are there."""
    before = shown(page, "#sample-way")[0]
    page.get_by_label("Seed").first.fill(str(seed))
    press(page, "Draw")
    page.wait_for_function("b => document.querySelector('#sample-way div:not([hidden]) img').src != b", arg=before)


def refusal(page):
    """The sentence of the one error that the page shows, which is then closed."""
    sentence = page.get_by_test_id("toast-text")
    sentence.wait_for(timeout=SOON)
    text = sentence.inner_text()
    page.get_by_test_id("toast-close").click()
    sentence.wait_for(state="detached", timeout=SOON)
    return text


def wait_for_text(page, place, text):
    page.locator(place, has_text=text).wait_for(timeout=SOON)
