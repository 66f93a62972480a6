"""The studio in a process, and pages of it in Debian's Chromium."""

import re
import signal

import pytest

from browsing import CHROMIUM, FLAGS, PATIENCE, Studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    running = Studio(tmp_path_factory.mktemp("studio"))
    yield running
    running.stop(signal.SIGTERM)
    running.proxy.close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())


@pytest.fixture
def visit(studio, browser):
    """Open a page with an empty profile and wait for its first images; it must not fail, nor ask another host."""
    contexts, failures = [], []
    elsewhere = re.compile(r"^(?!(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:)")

    def refuse(route):
        failures.append(f"asked for {route.request.url}")
        route.abort()

    def visit(**options):
        contexts.append(browser.new_context(**options))
        contexts[-1].route(elsewhere, refuse)
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(studio.url)
        page.wait_for_selector("#sample-way img", state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert failures == []


@pytest.fixture
def page(visit, request):
    return visit(**getattr(request, "param", {}))
