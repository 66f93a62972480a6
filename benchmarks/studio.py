"""Measure how fast `ddim studio` is, in a real browser, and take the picture of its page for the README.

    python benchmarks/studio.py                          # about 2 minutes
    python benchmarks/studio.py --users 1 2 --repeats 1  # only checks that it works

Seconds from the command to the address, and to the first images in the browser; from the click on "Draw" to one digit;
and from the request to the digit for several users who ask at the same time: the slowest of them. It needs Debian's
Chromium and the extra `test`. It writes results/studio.json, .md and docs/images/studio.png.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import harness
from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
)
LIMIT = 5.0  # seconds for a digit
DIGIT = ["mnist", 1, "3", 0, 20, "model's own", 0, "model's own", ""]  # the widgets of the tab Sample, in order


def draw(page: Page, seed: int) -> float:
    """Click on "Draw" for one digit and return the seconds until it is there."""
    before = page.locator("#sample-way").inner_html()
    page.get_by_label("Seed", exact=True).first.fill(str(seed))
    began = time.monotonic()
    page.get_by_role("button", name="Draw", exact=True).click()
    page.wait_for_function("b => document.querySelector('#sample-way').innerHTML != b", arg=before)
    return time.monotonic() - began


def picture(page: Page) -> None:
    """Write the picture for the README: the tab Sample, at a state of the trajectory."""
    page.locator("input[type=range][aria-label*=trajectory]").first.fill("10")
    page.wait_for_timeout(1000)
    page.screenshot(path=harness.ROOT / "docs/images/studio.png")


def ask(url: str, seed: int) -> float:
    """Ask for one digit by HTTP, as the page does, and return the seconds until it is there."""
    body = json.dumps({"data": [*DIGIT[:3], seed, *DIGIT[4:]]}).encode()
    began = time.monotonic()
    request = urllib.request.Request(f"{url}gradio_api/call/sample", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}gradio_api/call/sample/{event}") as answer:
        text = answer.read().decode()
    if "event: complete" not in text:
        raise SystemExit(f"The studio did not draw: {text[:300]}")
    return time.monotonic() - began


def measure(url: str, began: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of each part; `began` is when the command was started."""
    served = time.monotonic() - began
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(300_000)
        opened = time.monotonic()
        page.goto(url)
        page.wait_for_selector("#sample-way img", state="attached")
        loaded = time.monotonic() - opened
        picture(page)
        page.locator("input[type=number][aria-label*=Images]").first.fill("1")
        clicks = [draw(page, seed) for seed in range(1, arguments.repeats + 1)]
        browser.close()
    users = {}
    for count in arguments.users:
        with ThreadPoolExecutor(count) as pool:
            users[count] = max(pool.map(lambda seed: ask(url, seed), range(count)))
        if users[count] > LIMIT:
            break
    return {"address": served, "first_images": loaded, "click": median(clicks), "users": users}


def report(found: dict[str, Any]) -> str:
    """Return the page of the results."""
    fast = [int(count) for count, seconds in found["users"].items() if seconds < LIMIT]
    most = f"{max(fast)} users" if fast else "not even one user"
    lines = "".join(f"| {count} | {seconds:.2f} |\n" for count, seconds in found["users"].items())
    return (
        f"From `ddim studio` to its address: {found['address']:.1f} s. From there to the first images in the browser: "
        f"{found['first_images']:.1f} s.\nFrom the click to one digit: {found['click']:.2f} s (the model `mnist`, its "
        f"preset of 20 network calls).\nOf the numbers tried, {most} at once had each digit in under {LIMIT:g} s.\n"
        f"On {os.cpu_count()} cores, on which {found['load_before']:.1f} other threads wanted to run when it began.\n\n"
        f"| users at once | seconds to the last digit |\n|--:|--:|\n{lines}"
    )


def main() -> None:
    """Start the studio, measure it, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 2, 5, 10, 20, 40])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    load, began = os.getloadavg()[0], time.monotonic()
    words = [sys.executable, "-m", "ddim", "studio", "--port", str(port)]
    studio = subprocess.Popen(words, env=harness.variables(), stdout=subprocess.PIPE, text=True)
    assert studio.stdout is not None
    studio.stdout.readline()
    try:
        found = measure(f"http://127.0.0.1:{port}/", began, arguments)
    finally:
        studio.send_signal(signal.SIGINT)
        studio.wait(60)
    found |= {"load_before": load, "machine": harness.machine()}
    harness.save(found, report(found), harness.ROOT / "benchmarks/results/studio.json")


if __name__ == "__main__":
    main()
