import base64
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ddim import report
from ddim.errors import UserError

FROM_TRAINING = ["data", "forward", "network", "learning", "levels", "along"]
LOOK = ["samples", "strips", "denoising", "timing"]
MEASURED = [
    "table1",
    "consistency",
    "interpolation",
    "reconstruction",
    "likelihood",
    "solvers",
    "evaluation",
    "compare",
    "memorisation",
]
NAMES = [*FROM_TRAINING, *LOOK, *MEASURED]
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that each tag is closed in its turn, and gathers what the page loads and shows."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.figures, self.missing, self.text = [], [], [], [], ""
        self.ids, self.targets = [], []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        assert set(self.targets) <= set(self.ids)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        links = [found[name] for name in ("src", "href", "srcset", "data") if name in found]
        self.loads += [link for link in links if not link.startswith("#")]
        self.ids += [found["id"]] if "id" in found else []
        self.targets += [link[1:] for link in links if link.startswith("#")]
        if tag == "figure":
            self.figures.append(found["id"])
        if found.get("class") == "missing":
            self.missing.append(found["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(folder):
    return Page(report.write(folder).read_text(encoding="utf-8"))


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


def test_a_run_that_is_only_trained_says_what_is_missing(trained):
    folder = trained()
    page = read(folder)
    assert page.figures == FROM_TRAINING
    assert page.missing == NAMES[6:]
    assert page.text.count("ddim report RUN makes it.") == 4
    assert page.text.count("ddim reproduce RECIPE makes it.") == 7
    assert page.text.count("ddim verify RUN makes it.") == 1
    assert {path.stem for path in folder.glob("figures/*")} == set(FROM_TRAINING)


def test_results_of_other_weights_are_not_shown(complete):
    read(complete)
    facts = json.loads((complete / "results/gallery.json").read_text())
    (complete / "results/gallery.json").write_text(json.dumps({**facts, "weights": "others"}))
    assert read(complete).missing == ["samples", *MEASURED]
    assert not list(complete.glob("figures/samples.*"))


@pytest.mark.parametrize("lines", [0, 1])
def test_too_short_a_history_is_no_curve(trained, lines):
    assert "learning" in read(trained(lines=lines)).missing


def test_the_head_states_the_facts(trained):
    text = read(trained()).text
    for fact in ("3 epochs", "27 updates of 64 images, 1,728 images seen", "5 minutes on cpu"):
        assert fact in text
    assert "0.2667 on training images; 0.3000 on held-out images, both with averaged weights" in text


def test_a_run_of_before_there_were_levels_is_still_a_page(trained):
    page = read(trained(old=True))
    assert page.figures == ["data", "forward", "network", "learning"]
    assert page.missing == NAMES[4:]
    assert "0.3333 on training images; 0.3000 on held-out images, with averaged weights" in page.text


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
    return "".join(
        json.dumps(dict(zip(("epoch", "loss", "held_out"), three, strict=True))) + "\n" for three in numbers
    )


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
def test_metrics_that_make_no_curve_are_left_out(trained, text):
    folder = trained()
    (folder / "metrics.jsonl").write_text(text)
    assert "learning" in read(folder).missing


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gallery", {"ddim": None}),
        ("gallery", {"ddpm": {"eta": "<b>", "steps": 1, "count": 1, "seconds": 1.0}}),
        ("gallery", {"ddim": {"eta": 0.0, "steps": 1, "count": 0, "seconds": 1.0}}),
        ("gallery", {"ddim": {"eta": 0.0, "steps": 1, "count": 1, "seconds": float("nan")}}),
        ("timing", {"rows": []}),
        ("timing", {"rows": "x"}),
        ("timing", {"threads": "<script>alert(1)</script>"}),
        ("timing", {"machine": None}),
    ],
)
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
def test_a_head_without_its_facts_is_still_a_page(trained, file, changes):
    path = trained() / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert read(path.parent).figures == FROM_TRAINING
