"""The digest: small, whole, and without a word about the machine."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from ddim import experiments, report
from ddim.cli import main
from ddim.errors import UserError
from ddim.report import markdown
from madeup import leave, leave_all, results

SHOWN = ("learning", "levels", "samples", "strips", "timing", *results())


@pytest.fixture
def folder(trained):
    """A trained run with all made-up results, and no figures."""
    one = trained()
    leave_all(one)
    return one


@pytest.fixture
def written(folder, tmp_path):
    """Write the digest of what the folder holds by now, and give its text and its numbers."""

    def write():
        readme = markdown.write(folder, tmp_path / "small")
        return readme.read_text(encoding="utf-8"), json.loads((tmp_path / "small/numbers.json").read_text())

    return write


def noise(height=100, width=1000):
    """A picture that no palette makes small."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.mark.slow
def test_a_run_as_markdown(reproduced, tmp_path):
    out = report.digest(reproduced, tmp_path / "docs" / "small").parent
    files = {path.name: path for path in out.iterdir()}
    assert set(files) == {"README.md", "numbers.json", *(f"{name}.png" for name in SHOWN)}
    assert sum(path.stat().st_size for path in files.values()) <= 400_000
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "P"
            assert picture.width <= 1000
    text = files["README.md"].read_text(encoding="utf-8")
    assert set(re.findall(r"!\[[^]]+\]\((\w+)\.png\)", text)) == set(SHOWN)
    assert set(json.loads(files["numbers.json"].read_text())) == {"gallery", "strips", "timing", *results()}
    assert (reproduced / "report.html").is_file()


def test_the_readme_has_the_verdict_and_the_tables(written):
    text, _ = written()
    assert text.startswith("# Diffusion on digits\n")
    assert text.count("\n- ✓ **holds: ") == 6
    assert text.count("| --- |") == 10
    assert "| η = 0 | 17.0 ± 1.0 |" in text
    assert "class=" not in text
    widths = {len(line.split(" | ")) for line in re.findall(r"^\| η.*$", text, re.M)}
    assert widths == {4}


def test_the_numbers_are_those_of_the_results(written):
    _, numbers = written()
    assert numbers["consistency"]["rows"] == results()["consistency"]["rows"]
    assert numbers["table1"]["rows"][3]["frechet"] == pytest.approx(results()["table1"]["rows"][3]["frechet"])


def test_a_number_that_is_none_is_null(folder, written):
    facts = results()["solvers"]
    facts["rows"][0]["distance"] = float("inf")
    leave(folder, "solvers", facts)
    assert written()[1]["solvers"]["rows"][0]["distance"] is None


def test_neither_folders_nor_command_lines_are_told(folder, written):
    config = json.loads((folder / "config.json").read_text())
    config["recipe"]["data"] = "/home/someone/pictures/cats"
    (folder / "config.json").write_text(json.dumps(config))
    cut = "the images in C:\\Users\\someone\\own were too few, see ~/someone/why.txt and '/home/someone/x.txt'"
    machine = {"processor": "A fast one", "command": ["/home/someone/bin/ddim"], "platform": "someone's"}
    leave(folder, "table1", {**results()["table1"], "about": "Read from /home/someone/net.pt.", "cut": cut})
    leave(folder, "evaluation", {**results()["evaluation"], "machine": machine})
    text, numbers = written()
    assert "someone" not in text + json.dumps(numbers)
    assert "Read from net.pt." in text
    assert text.startswith("# Diffusion on cats\n")
    assert numbers["evaluation"]["machine"] == {"processor": "A fast one"}


@pytest.mark.parametrize(
    "text", ["a / b", "1/2", "bits/dim", "https://arxiv.org/abs/2010.02502", "(a)/(b)", "docs/paper.md"]
)
def test_other_slashes_stay(text):
    assert markdown.clean(text) == text


def test_text_from_results_means_nothing_to_markdown(folder, written):
    leave(folder, "evaluation", {**results()["evaluation"], "about": "<b>a|b</b>\n\n# [x](y) `c` *d*"})
    assert "&lt;b&gt;a\\|b&lt;/b&gt; # [x\\](y) \\`c\\` \\*d\\*" in written()[0]


def test_a_run_that_is_only_trained_has_a_digest_too(trained, tmp_path):
    out = tmp_path / "small"
    out.mkdir()
    (out / "table1.png").write_bytes(b"of an earlier time")
    (out / "mine.txt").write_text("stays")
    text = report.digest(trained(), out).read_text(encoding="utf-8")
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "numbers.json",
        "learning.png",
        "levels.png",
        "mine.txt",
    }
    assert text.count("**not measured: ") == 6
    assert json.loads((out / "numbers.json").read_text()) == {}


def test_the_command_writes_the_page_and_the_digest(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "run", lambda *_, **__: iter(()))
    out = tmp_path / "small"
    main(["report", str(trained()), "--digest", str(out), "--device", "cpu"])
    said = capsys.readouterr().out
    for path in (tmp_path / "report.html", out / "README.md"):
        assert path.is_file()
        assert str(path) in said


def test_a_digest_that_cannot_be_written_is_refused(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Could not write"):
        markdown.write(folder, tmp_path / "file")


def test_a_large_picture_has_what_a_small_one_leaves():
    pictures = {"large": noise(), "small": noise(10, 100)}
    small, large = (
        markdown.shrink(pictures["small"], *markdown.TRIES[0]),
        markdown.shrink(noise(), *markdown.TRIES[-2]),
    )
    assert len(small) < len(large)
    assert Image.open(io.BytesIO(small)).info["ddim:picture"] == "sheet"
    assert markdown.fitting(pictures, len(small) + len(large)) == {"small": small, "large": large}
