"""The page without a server, in a browser: the digits of Python, and nothing asked from elsewhere."""

import importlib.util
import shutil
import time

import numpy as np
import pytest
import torch

import ddim
from browsing import CHROMIUM, FLAGS, serious, serving
from ddim.noise import stream

MISSING = [
    name
    for name, found in {
        "Chromium": CHROMIUM,
        "playwright": importlib.util.find_spec("playwright"),
        "npm": shutil.which("npm"),
        "onnx": importlib.util.find_spec("onnx"),
    }.items()
    if not found
]
pytestmark = [  # slow: it exports a network and starts a browser, under a minute on two idle cores
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"the page is tested with {', '.join(MISSING)}, which is not installed"),
]
TOLERANCE = 1e-4  # of pixels in [-1, 1]: the rounding of two networks in float32, as for `ddim.interop.to_onnx`
LARGEST = 15e6  # bytes


@pytest.fixture(scope="module")
def site(build, axe, tmp_path_factory):
    """The address of the page, built into a temporary folder and served from it, and the folder."""
    folder = build.build(tmp_path_factory.mktemp("page"))
    with serving(folder) as address:
        yield address, folder


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def log():
    """What the page asked for, and its errors."""
    return {"asked": [], "errors": []}


@pytest.fixture(scope="module")
def page(site, browser, log):
    """The page once its network is ready, in a window 400 pixels wide."""
    address, _ = site
    page = browser.new_page(viewport={"width": 400, "height": 900}, color_scheme="dark")
    page.on("request", lambda request: log["asked"].append(request.url))
    page.on("pageerror", lambda error: log["errors"].append(str(error)))
    page.goto(address)
    ready(page)
    return page


@pytest.fixture(scope="module")
def model():
    return ddim.load("mnist", backend="torch")


def ready(page):
    """Wait until the network is loaded."""
    page.wait_for_function("document.querySelector('#status').textContent.includes('ready')", timeout=60_000)


def settle(page, seconds=30):
    """Wait until what was started is done; return the sentence that says so."""
    page.wait_for_function("document.body.getAttribute('aria-busy') === 'false'", timeout=1000 * seconds)
    return page.locator("#status").text_content()


def put(page, **values):
    for name, value in values.items():
        page.eval_on_selector(
            f"#{name}", "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", str(value)
        )


def images(page, expression):
    """An array of the page, as images."""
    return torch.tensor(page.evaluate(f"Array.from({expression})")).reshape(-1, 1, 28, 28)


def test_the_page_is_small_and_whole(site):
    _, folder = site
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST


def test_the_random_bits_are_those_of_numpy_and_the_normals_are_to_rounding(page):
    seed, index = 2**53 + 1, 2**64 - 1
    script = """async ([seed, index, count]) => {
        const { Stream } = await import("./noise.js");
        const [bits, normals] = [new Stream(seed, index), new Stream(seed, index)];
        const draws = (one) => Array.from({ length: count }, one);
        return [draws(() => bits.bits()), draws(() => normals.normal())];
    }"""
    bits, normals = page.evaluate(script, [str(seed), str(index), 20_000])
    words = stream(seed, index).bit_generator.random_raw(10_000)
    assert bits == np.stack([words & 0xFFFFFFFF, words >> np.uint64(32)], axis=1).ravel().tolist()
    expected = stream(seed, index).standard_normal(20_000, dtype=np.float32)
    assert np.abs(np.array(normals, np.float32) - expected).max() < 1e-6
    assert np.mean(np.array(normals, np.float32) == expected) > 0.999


@pytest.mark.parametrize(
    ("digit", "steps", "eta", "guidance", "seed"), [(3, 10, 0, 1, 0), (8, 16, 0.5, 2, 5), (-1, 5, 1, 1, 7)]
)
def test_a_digit_is_that_of_python(page, model, digit, steps, eta, guidance, seed):
    page.locator(f"input[name=digit][value='{digit}']").check(force=True)
    put(page, steps=steps, eta=eta, guidance=guidance, seed=seed)
    began = time.perf_counter()
    page.locator("#draw").click()
    assert settle(page).startswith("A digit in ")
    seconds = time.perf_counter() - began
    same = {"steps": steps, "sampler": "ddim", "eta": eta, "guidance": guidance, "seed": seed, "labels": [digit]}
    expected = model.sample(1, **same, progress=False)
    found = images(page, "ddimPage.trajectory().at(-1).x")
    error = float((found - expected).abs().max())
    print(f"{steps} steps, guidance {guidance}: {seconds:.2f} s from click to digit, {error:.1e} from Python")
    assert error < TOLERANCE
    assert page.evaluate("ddimPage.trajectory().length") == steps + 1
    assert page.locator("#step").get_attribute("max") == page.locator("#step").input_value() == str(steps)


def test_a_hidden_half_is_filled_as_by_python(page, model):
    put(page, steps=10, eta=0, guidance=1, seed=3)
    page.locator("#draw").click()
    settle(page)
    page.select_option("#part", "lower")
    page.locator("#told").check()
    page.locator("#fill-in").click()
    assert settle(page).startswith("Four fillings in ")
    digit = int(page.locator("input[name=digit]:checked").get_attribute("value"))
    x = images(page, "ddimPage.trajectory().at(-1).x")
    operator = ddim.edit.Mask(torch.arange(28)[:, None].expand(28, 28) < 14)
    same = {"method": "ddnm", "steps": 10, "seed": 3, "count": 4, "labels": [digit]}
    expected = ddim.edit.restore(model, operator.forward(x), operator, **same, progress=False)[0]
    found = images(page, "ddimPage.trajectory().filled")
    error = float((found - expected).abs().max())
    print(f"four fillings: {error:.1e} from Python")
    assert error < TOLERANCE
    assert (found[:, :, :14] == x[:, :, :14]).all()


def test_the_keyboard_alone_draws_moves_and_hides(page):
    page.reload()
    ready(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "digit"
    before = page.evaluate("document.activeElement.value")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('input[name=digit]:checked').value") != before
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        if reached[-1] == "steps":
            page.keyboard.press("Home")  # one call
        if reached[-1] == "draw":
            page.keyboard.press("Enter")
            settle(page)
        if reached[-1] == "step":
            page.keyboard.press("ArrowLeft")
            assert page.locator("#level").text_content().startswith("Step 0: t = 1000, SNR")
        if reached[-1] == "mask":
            break
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    assert page.evaluate("ddimPage.known().filter((one) => !one).length") == 9
    assert not page.evaluate(f"ddimPage.known()[{28 * 13 + 14}]")
    page.keyboard.press("Delete")
    assert page.evaluate("ddimPage.known().every(Boolean)")
    assert {"steps", "eta", "guidance", "seed", "draw", "another", "step", "part", "told", "mask"} <= set(reached)


def test_nothing_hidden_and_nothing_seen_are_told(page):
    page.locator("#clear").click()
    page.locator("#fill-in").click()
    assert page.locator("#status").text_content().startswith("All pixels are seen")
    page.evaluate("ddimPage.known().fill(false)")
    page.locator("#fill-in").click()
    assert page.locator("#status").text_content().startswith("No pixel is seen")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_400_pixels_are_enough_and_axe_finds_nothing_serious(page, axe, scheme):
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert serious(page, axe) == []


def test_nothing_is_asked_from_elsewhere_and_nothing_fails(page, site, log):
    """The last test: it looks back on all of them."""
    address, _ = site
    assert len(log["asked"]) > 10
    assert {url for url in log["asked"] if not url.startswith((address, "blob:", "data:"))} == set()
    assert log["errors"] == []
