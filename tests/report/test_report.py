import base64
import json
import re
import sys

import pytest
import torch
from pages import FROM_TRAINING, MEASURED, NAMES, Page
from PIL import Image
from safetensors.torch import load_file, save_file

from ddim import report
from ddim.errors import UserError
from ddim.report.sections import sections
from ddim.run_folder import read as read_run
from madeup import leave, leave_all, results

pytestmark = pytest.mark.slow


def read(folder):
    return Page(report.write(folder).read_text(encoding="utf-8"))


@pytest.fixture
def unpainted(monkeypatch):
    """Figures are made, but their files are empty: for tests that read the text of the page only."""

    def save(figure, stem):
        stem.parent.mkdir(exist_ok=True)
        stem.with_suffix(".png").write_bytes(b"")
        stem.with_suffix(".svg").write_text("<svg/>")

    monkeypatch.setattr(sys.modules["ddim.report.sections"], "save", save)


def test_a_complete_run_shows_every_figure_and_loads_nothing(reproduced):
    page = read(reproduced)
    assert page.figures == NAMES
    assert page.missing == []
    assert len(page.loads) == len(NAMES)
    assert all(re.match(r"data:image/(svg\+xml|gif);base64,", load) for load in page.loads)
    shown = [base64.b64decode(load.split(",")[1]) for load in page.loads]
    for name, content in zip(NAMES, shown, strict=True):
        suffix = "gif" if name == "denoising" else "svg"
        assert content == (reproduced / f"figures/{name}.{suffix}").read_bytes()
        if suffix == "svg":
            assert not re.search(rb'(href|src)="(?!#|data:)', content)
            with Image.open(reproduced / f"figures/{name}.png") as png:
                assert png.width == 2000
    assert "url(" not in page.text
    assert "@import" not in page.text
    for number in range(1, len(NAMES) + 1):
        assert f"Figure {number}." in page.text


def test_the_same_folder_gives_the_same_files(reproduced):
    def files():
        report.write(reproduced)
        paths = [reproduced / "report.html", *reproduced.glob("figures/*")]
        return {path.name: path.read_bytes() for path in paths}

    first = files()
    assert len(first) == 1 + 2 * (len(NAMES) - 1) + 1
    assert files() == first


@pytest.mark.usefixtures("unpainted")
def test_a_run_that_is_only_trained_says_what_is_missing(trained):
    folder = trained()
    page = read(folder)
    assert page.figures == FROM_TRAINING
    assert page.missing == NAMES[6:]
    assert page.text.count("ddim report RUN makes it.") == 4
    assert page.text.count("ddim reproduce RUN makes it.") == 7
    assert page.text.count("ddim verify RUN makes it.") == 1
    assert {path.stem for path in folder.glob("figures/*")} == set(FROM_TRAINING)


@pytest.mark.usefixtures("unpainted")
def test_results_of_other_weights_are_not_shown(complete):
    read(complete)
    facts = json.loads((complete / "results/gallery.json").read_text())
    (complete / "results/gallery.json").write_text(json.dumps({**facts, "weights": "others"}))
    assert read(complete).missing == ["samples", *MEASURED]
    assert not list(complete.glob("figures/samples.*"))


@pytest.mark.parametrize("lines", [0, 1])
@pytest.mark.usefixtures("unpainted")
def test_too_short_a_history_is_no_curve(trained, lines):
    assert "learning" in read(trained(lines=lines)).missing


@pytest.mark.usefixtures("unpainted")
def test_the_head_states_the_facts(trained):
    text = read(trained()).text
    for fact in ("3 epochs", "27 updates of 64 images, 1,728 images seen", "5 minutes on cpu"):
        assert fact in text
    assert "0.2667 on training images; 0.3000 on held-out images, both with averaged weights" in text


@pytest.mark.usefixtures("unpainted")
def test_a_run_of_before_there_were_levels_is_still_a_page(trained):
    page = read(trained(old=True))
    assert page.figures == ["data", "forward", "network", "learning"]
    assert page.missing == NAMES[4:]
    assert "0.3333 on training images; 0.3000 on held-out images, with averaged weights" in page.text


@pytest.mark.usefixtures("unpainted")
def test_what_a_limit_cut_is_said(complete):
    facts = json.loads((complete / "results/gallery.json").read_text())
    (complete / "results/gallery.json").write_text(json.dumps({**facts, "cut": "a limit of 3 s cut <it>"}))
    assert "Not everything was measured: a limit of 3 s cut <it>." in read(complete).text


def test_names_from_files_are_escaped(trained):
    folder = trained(data="<script>alert(1)</script>", classes="<b>&amp;")
    page = read(folder)
    assert "<script>alert" not in (folder / "report.html").read_text(encoding="utf-8")
    assert "Diffusion on <script>alert(1)</script>" in page.text
    assert "only <b>&amp;" in page.text


@pytest.mark.usefixtures("unpainted")
def test_broken_files_are_left_out(complete):
    (complete / "metrics.jsonl").write_text('{"epoch": 1.0, "loss"\nnonsense\n[1]\n')
    (complete / "environment.json").write_text("[]")
    (complete / "results/timing.json").write_text("{")
    (complete / "samples/strips.safetensors").write_bytes(b"none")
    assert read(complete).missing == ["learning", "levels", "strips", "denoising", "timing", *MEASURED]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def lines(*numbers):
    return "".join(json.dumps(dict(zip(("epoch", "loss", "held_out"), three, strict=True))) + "\n" for three in numbers)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        lines((1, "y", None), (2, None, 1)),
        lines((float("nan"), 1, 1), (2, 1, 1)),
        lines((0, 1, 1), (0, 1, 1)),
        lines((1, 1, 1)) + '{"epoch": 2, "lo',
    ],
)
@pytest.mark.usefixtures("unpainted")
def test_metrics_that_make_no_curve_are_left_out(trained, text):
    folder = trained()
    (folder / "metrics.jsonl").write_text(text)
    assert "learning" in read(folder).missing


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gallery", {"ddim": None}),
        ("gallery", {"ddpm": {"eta": "<b>", "steps": 1, "count": 1}}),
        ("gallery", {"ddim": {"eta": 0.0, "steps": 1, "count": 0}}),
        ("gallery", {"ddim": {"eta": float("nan"), "steps": 1, "count": 1}}),
        ("timing", {"rows": []}),
        ("timing", {"rows": "x"}),
        ("timing", {"threads": "<script>alert(1)</script>"}),
        ("timing", {"machine": None}),
    ],
)
@pytest.mark.usefixtures("unpainted")
def test_results_that_say_nothing_are_left_out(complete, name, changes):
    path = complete / f"results/{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    page = read(complete)
    assert {"gallery": "samples", "timing": "timing"}[name] in page.missing
    assert "<script>" not in page.text


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("data", {"images": torch.zeros(9, 8, dtype=torch.uint8)}),
        ("data", {"images": torch.zeros(9, 3, 8, 8, dtype=torch.uint8)}),
        ("data", {"images": torch.zeros(9, 1, 8, 8)}),
        ("data", {"images": torch.zeros(0, 1, 8, 8, dtype=torch.uint8)}),
        ("ddim", {"images": torch.zeros(50, 1, 16, 16, dtype=torch.uint8)}),
        ("data", {"images": torch.zeros(2, 9, 1, 8, 8, dtype=torch.uint8)}),
        ("strips", {"times": torch.zeros(0)}),
        ("strips", {"times": torch.tensor(1.0)}),
        ("strips", {"times": torch.zeros(21, 1)}),
        ("strips", {"eta1.x": torch.zeros(5, 2, 1, 8, 8, dtype=torch.uint8)}),
    ],
)
@pytest.mark.usefixtures("unpainted")
def test_samples_of_another_kind_are_left_out(complete, name, tensors):
    path = complete / f"samples/{name}.safetensors"
    save_file({**load_file(path), **tensors}, path)
    assert {"data": "data", "ddim": "samples", "strips": "strips"}[name] in read(complete).missing


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"recipe": "abc"}),
        ("config.json", {"recipe": {"data": None, "plan": None, "classes": 3}}),
        ("config.json", {"recipe": {"plan": {"batch_size": "q"}}}),
        ("environment.json", {"versions": "abc"}),
        ("environment.json", {"versions": None}),
    ],
)
@pytest.mark.usefixtures("unpainted")
def test_a_head_without_its_facts_is_still_a_page(trained, file, changes):
    path = trained() / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert read(path.parent).figures == FROM_TRAINING


# The page


@pytest.fixture
def made_up(trained):
    """A trained run with all made-up results, but without galleries, strips and timing."""
    folder = trained()
    leave_all(folder)
    return folder


@pytest.mark.usefixtures("unpainted")
def test_numbers_can_be_sorted_as_numbers(made_up):
    text = report.write(made_up).read_text(encoding="utf-8")
    assert '<td data-value="10">10</td>' in text  # steps
    values = [float(value) for value in re.findall(r'data-value="([^"]*)"', text)]
    assert len(values) > 80
    assert "aria-sort" in text
    assert text.count("<table>") == text.count("<thead>") == text.count("<tbody>") == 10


@pytest.mark.usefixtures("unpainted")
def test_the_verdict_says_each_claim_in_words(made_up):
    text = report.write(made_up).read_text(encoding="utf-8")
    verdict = text[text.index('<section id="verdict">') : text.index("</section>")]
    assert text.index('<section id="verdict">') < text.index("<figure")
    assert '<a href="#table1">Figure 7</a>' in verdict  # after the six from training
    assert verdict.count('<span aria-hidden="true">✓</span> holds') == 6
    assert "Not everything was measured" not in verdict


def test_text_from_results_is_escaped(made_up):
    evil = "<script>alert($\\x$)</script>"
    for name in ("table1", "evaluation"):
        leave(made_up, name, {**results()[name], "about": evil, "cut": evil})
    facts = results()["solvers"]
    facts["rows"][0]["solver"] = evil
    leave(made_up, "solvers", facts)
    text = report.write(made_up).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    for title in ("Quality against steps", "Quality of the samples"):
        listed = f"{title}</a>: {evil.replace('<', '&lt;').replace('>', '&gt;')}."
        assert listed in text


def test_what_a_limit_took_away_is_listed(made_up):
    leave(made_up, "table1", {**results()["table1"], "cut": "a limit of 3 minutes cut S = 1000"})
    leave(made_up, "likelihood", {**results()["likelihood"], "cut": ["no", "sentence"]})
    found = {one.name: one.cut for one in sections(read_run(made_up), draw=False) if one.cut}
    assert found == {"table1": "a limit of 3 minutes cut S = 1000"}


def test_measured_results_of_other_weights_are_absent(made_up):
    for name in results():
        path = made_up / f"results/{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "weights": "others"}))
    run = read_run(made_up)
    assert run.results == {}
    assert {run.problems[name] for name in results()} == {
        f"results/{name}.json was made with other weights." for name in results()
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"version": 9}'])
@pytest.mark.usefixtures("unpainted")
def test_a_result_that_cannot_be_read_is_announced_with_its_command(made_up, text):
    (made_up / "results/table1.json").write_text(text)
    page = read(made_up)
    assert "table1" in page.missing
    said = "results/table1.json cannot be read: it is damaged, or another version of ddim wrote it. "
    assert said + "ddim reproduce RUN makes it." in page.text
