"""The studio in a browser when things go wrong: bad uploads, one training twice, a killed server, runs that vanish."""

import json
import re
import shutil
import signal
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browsing import (
    OF_THE_STUDIO,
    PIXELS,
    SOON,
    Studio,
    draws_anew,
    editor_value,
    fill,
    open_tab,
    press,
    refusal,
    wait_for_text,
)
from ddim.loading import find

pytest.importorskip("gradio", reason="needs ddim[studio]")
pytest.importorskip("playwright", reason="needs playwright")
pytestmark = OF_THE_STUDIO
HOSTILE = r"<img src=\\192.0.2.1\x onerror=window.hacked=1>.png"  # a browser reads \\ as //


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A studio that offers the model `runs/mine`, in a folder with images in `small`."""
    folder = tmp_path_factory.mktemp("studio")
    shutil.copytree(find("mnist"), folder / "runs/mine")
    (folder / "small").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"small/{i}.png")
    running = Studio(folder, "runs/mine")
    yield running
    running.stop(signal.SIGTERM)
    running.proxy.close()
    assert "Traceback" not in "".join(running.said)


def upload(page, path):
    with page.expect_file_chooser() as chooser:
        press(page, "Upload an image")
    chooser.value.set_files(path)


@pytest.mark.parametrize("name", ["no.png", HOSTILE])
@pytest.mark.parametrize("content", [b"", b"no image"], ids=["empty", "text"])
def test_an_upload_that_is_no_image_is_refused_in_a_sentence(page, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    open_tab(page, "Restore")
    blank = editor_value(page, "restore-image")
    upload(page, tmp_path / name)
    assert re.fullmatch(r"The file cannot be used: it .*; upload a PNG, JPEG, WebP, BMP or TIFF\.", refusal(page))
    assert editor_value(page, "restore-image") == blank
    assert page.evaluate("window.hacked") is None


def test_an_upload_of_100_megabytes_is_refused_before_it_is_sent(page, studio, tmp_path):
    with (tmp_path / HOSTILE).open("wb") as file:
        file.truncate(100_000_000)
    open_tab(page, "Restore")
    upload(page, tmp_path / HOSTILE)
    assert refusal(page).startswith("File(s) exceed the maximum allowed size of 10.0 Mb")
    assert page.evaluate("window.hacked") is None
    with pytest.raises(urllib.error.HTTPError, match="413"):
        post(studio, "large.png", bytes(11_000_000))
    open_tab(page, "Sample")
    draws_anew(page, seed=1)


def post(studio, name, content):
    """Upload a file by HTTP under any name, and return the path that the server gives it."""
    body = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n--edge--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    request = urllib.request.Request(f"{studio.url}gradio_api/upload", body % (name.encode(), content), headers)
    with urllib.request.urlopen(request) as answer:
        return Path(json.load(answer)[0])


@pytest.mark.parametrize("name", [HOSTILE, "../../x.png"])
def test_an_image_with_a_hostile_name_is_used_as_any_other(page, studio, tmp_path, name):
    image = Image.new("L", (30, 40), 200)
    image.save(tmp_path / "image.png")
    content = (tmp_path / "image.png").read_bytes()
    stored = post(studio, name, content)
    assert Path(tempfile.gettempdir()) in stored.resolve().parents
    assert stored.resolve().parent.parent.name == "gradio"
    open_tab(page, "Restore")
    blank = editor_value(page, "restore-image")
    upload(page, {"name": name, "mimeType": "image/png", "buffer": content})
    page.wait_for_function("([name, blank]) => " + PIXELS + " != blank", arg=["restore-image", blank], timeout=SOON)
    assert page.evaluate("window.hacked") is None
    assert not page.get_by_test_id("toast-text").count()


def test_two_browsers_share_one_training(visit, studio):
    first, second = visit(), visit()
    for page in (first, second):
        open_tab(page, "Train")
        fill(page, "Run", "runs/new")
        wait_for_text(page, "#train-state", "is not there, or has vanished")
    for label, text in (("Images x_0", "small"), ("Minutes", "2"), ("Image size", "8")):
        fill(first, label, text)
    press(first, "Start")
    for page in (first, second):
        wait_for_text(page, "#train-state", "Training in")
    press(second, "Start")
    assert re.match(r"A training runs in .*/runs/new already; watch it here", refusal(second))
    for page in (first, second):
        wait_for_text(page, "#train-curves", "Step ")
        page.locator("#train-samples img").first.wait_for(state="attached", timeout=SOON)
        wait_for_text(page, "#train-findings", "The end of the noise schedule (fine).")

    press(second, "Stop")
    for page in (first, second):
        wait_for_text(page, "#train-state", "it can be resumed")
    press(first, "Stop")
    assert re.match(r"The training in .*/runs/new does not run\.", refusal(first))

    before = trained_steps(first)
    fill(first, "Minutes", "4")
    press(first, "Resume")
    wait_for_text(second, "#train-state", "Training in")
    while trained_steps(second) == before:
        second.wait_for_timeout(500)
        assert "Training in" in second.locator("#train-state").inner_text()
    assert trained_steps(second) > before
    press(first, "Stop")
    wait_for_text(second, "#train-state", "it can be resumed")


def trained_steps(page):
    (step,) = re.findall(r"Step ([\d,]+)", page.locator("#train-curves").inner_text())
    return int(step.replace(",", ""))


def test_a_run_that_vanishes_is_a_sentence_in_each_tab(page, studio):
    run, elsewhere = studio.folder / "runs/mine", studio.folder / "elsewhere"
    open_tab(page, "Train")
    fill(page, "Run", "runs/mine")
    wait_for_text(page, "#train-state", "it can be resumed")
    wait_for_text(page, "#train-findings", "The end of the noise schedule")
    run.rename(elsewhere)
    wait_for_text(page, "#train-state", "is not there, or has vanished; choose another run.")
    assert page.locator("#train-findings").inner_text().strip() == ""
    press(page, "Resume")
    assert re.match(r"There is no run at .*/runs/mine; start one\.", refusal(page))
    for tab, button in (("Sample", "Draw"), ("Compare", "Compare"), ("Restore", "Sample an image")):
        open_tab(page, tab)
        press(page, button)
        assert refusal(page).startswith("There is no run at runs/mine; ")
    elsewhere.rename(run)
    open_tab(page, "Sample")
    draws_anew(page, seed=1)


def test_a_page_says_that_the_server_is_killed_and_works_after_its_restart(page, studio):
    page.evaluate("window.before = true")
    studio.stop(signal.SIGKILL)
    try:
        press(page, "Draw")
        assert refusal(page).startswith("Connection to the server was lost.")
    finally:
        studio.start()
    page.wait_for_function("!window.before && document.querySelector('#sample-way img')")  # it loads itself again
    draws_anew(page, seed=1)


def test_a_page_that_slept_while_the_server_was_restarted_works(page, studio):
    studio.stop(signal.SIGKILL)
    studio.start()
    draws_anew(page, seed=2)
