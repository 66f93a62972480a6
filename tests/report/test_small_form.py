"""The digest: small, whole, and without a word about the machine."""

import json
import re

import pytest
from madeup import leave, results
from PIL import Image

from ddim import report
from ddim.errors import UserError
from ddim.report import shrink, small_form


@pytest.fixture
def digest(reproduced, tmp_path):
    """The small form of a whole run."""
    return report.digest(reproduced, tmp_path / "docs" / "small").parent


def test_the_digest_is_small_and_whole(digest, reproduced):
    files = {path.name: path for path in digest.iterdir()}
    assert set(files) == {"README.md", "numbers.json", *(f"{name}.png" for name in small_form.SHOWN)}
    assert sum(path.stat().st_size for path in files.values()) <= small_form.MOST
    for path in digest.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "P"
            assert picture.width <= 1000
    assert (reproduced / "report.html").is_file()


def test_the_readme_has_the_verdict_the_tables_and_the_pictures(digest):
    text = (digest / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Diffusion on digits\n")
    assert text.count("\n- ✓ **holds**: ") == 6
    assert set(re.findall(r"!\[[^]]+\]\((\w+)\.png\)", text)) == set(small_form.SHOWN)
    assert text.count("| --- |") == 10
    assert "| η = 0 | 17.0 ± 1.0 |" in text
    assert "class=" not in text
    for line in re.findall(r"^\|.*$", text, re.M):
        assert line.endswith(" |")


def test_the_numbers_are_all_there(digest):
    numbers = json.loads((digest / "numbers.json").read_text())
    assert set(numbers) == {"gallery", "strips", "timing", *results()}
    assert numbers["table1"]["rows"] == json.loads(json.dumps(small_form._rounded(results()["table1"]["rows"])))


def test_neither_folders_nor_command_lines_are_told(reproduced, tmp_path):
    config = json.loads((reproduced / "config.json").read_text())
    config["recipe"]["data"] = "/home/someone/pictures/cats"
    (reproduced / "config.json").write_text(json.dumps(config))
    cut = "the images in C:\\Users\\someone\\own were too few, see ~/notes/why.txt and /home/someone/x.txt"
    for name in ("table1", "evaluation"):
        leave(reproduced, name, {**results()[name], "about": "Read from /home/someone/net.pt.", "cut": cut})
    out = report.digest(reproduced, tmp_path / "small").parent
    text = "".join((out / name).read_text(encoding="utf-8") for name in ("README.md", "numbers.json"))
    assert "someone" not in text
    assert "Read from net.pt." in text
    assert "# Diffusion on cats\n" in text
    assert "command" not in json.loads((out / "numbers.json").read_text())["timing"]["machine"]
    assert str(tmp_path) not in text


def test_other_slashes_stay():
    for text in ("a / b", "1/2", "bits/dim", "see https://arxiv.org/abs/2010.02502", "(a)/(b)", "docs/paper.md"):
        assert small_form._cleaned(text) == text


def test_text_from_results_means_nothing_to_markdown(reproduced, tmp_path):
    leave(reproduced, "evaluation", {**results()["evaluation"], "about": "<b>a|b</b>\n\n# [x](y) `c` *d*"})
    text = report.digest(reproduced, tmp_path / "small").read_text(encoding="utf-8")
    assert "&lt;b&gt;a\\|b&lt;/b&gt; # [x\\](y) \\`c\\` \\*d\\*" in text


def test_a_run_that_is_only_trained_has_a_digest_too(trained, tmp_path):
    out = tmp_path / "small"
    (out).mkdir()
    (out / "table1.png").write_bytes(b"of an earlier time")
    (out / "mine.txt").write_text("stays")
    text = report.digest(trained(), out).read_text(encoding="utf-8")
    assert {path.name for path in out.iterdir()} == {"README.md", "numbers.json", "learning.png", "mine.txt"}
    assert text.count("**not measured**") == 6
    assert json.loads((out / "numbers.json").read_text()) == {}


def test_a_digest_that_cannot_be_written_is_refused(trained, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Could not write"):
        report.digest(trained(), tmp_path / "file")


def test_pictures_that_do_not_fit_become_smaller(reproduced):
    report.write(reproduced)
    pngs = {name: (reproduced / f"figures/{name}.png").read_bytes() for name in ("samples", "along", "timing")}
    large, small = (shrink.fitting(pngs, most) for most in (10**6, 30_000))
    assert sum(map(len, small.values())) <= 30_000
    assert sum(map(len, large.values())) > 30_000
    assert large["timing"] == small["timing"]  # what is small already stays as it is
