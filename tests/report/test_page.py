"""What the page says and how it is built. Its figures are not drawn: empty ones stand in their places."""

import re
import time

import pytest
from matplotlib.figure import Figure
from pages import MEASURED, NAMES, Page

from ddim import experiments, model_io, report
from ddim.cli import main
from ddim.experiments import gallery as gallery_module
from ddim.experiments import timing as timing_module
from ddim.experiments.base import Setup
from ddim.experiments.results import read as read_result
from ddim.report.page import render, tiles
from ddim.report.sections import sections
from ddim.run_folder import read as read_run
from madeup import leave, leave_all, results

CUT = "a limit of 13 s cut it from 1,000 to 64 images"


@pytest.fixture
def folder(trained):
    """A trained run with all made-up results, without galleries, strips and timing."""
    one = trained()
    leave_all(one)
    return one


def html(folder, missing=()):
    """The page of a run, with an empty figure for each name but these."""
    for name in set(NAMES) - set(missing):
        path = folder / f"figures/{name}.svg"
        path.parent.mkdir(exist_ok=True)
        path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    run = read_run(folder)
    return render(run, sections(run, draw=False))


def page(folder, missing=()):
    return Page(html(folder, missing))


def words(name, run):
    """What stands on the figure of an experiment."""
    figure = experiments.experiments[name].figure(run.results[name], run.samples(name) or {})
    assert isinstance(figure, Figure)
    return [text.get_text() for text in figure.texts] + [text.get_text() for axes in figure.axes for text in axes.texts]


# Times


@pytest.fixture
def timed(trained, monkeypatch):
    """A run with galleries and timing on a clock that only network calls move: the first 1,000 s, each other 1 s."""
    one = trained()
    model, now = model_io.load(one), [0.0]

    def call(*_):
        now[0] += 1 if now[0] else 1000

    model.network.register_forward_hook(call)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    list(experiments.run(Setup(one, model), names=("gallery", "timing")))
    return one


def test_every_time_on_the_page_is_of_one_warm_measurement(timed):
    run = read_run(timed)
    timing = run.results["timing"]
    [table] = experiments.experiments["timing"].tables(timing)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["10", "10.0", "156", "1.00"],  # S calls of 1 s for a batch of 64
        ["20", "20.0", "312", "1.00"],
    ]
    assert tiles(run)[-1] == ("312 ms", "an image, S = 20, batch of 64")
    drawn = words("timing", run)
    assert [word for word in drawn if word.endswith(" s")] == ["10.0 s", "20.0 s"]


def test_a_gallery_has_calls_and_no_time_of_its_own(timed):
    run = read_run(timed)
    gallery, timing = run.results["gallery"], run.results["timing"]
    assert isinstance(gallery, gallery_module.Result)
    assert isinstance(timing, timing_module.Result)
    assert words("gallery", run) == ["DDIM   η = 0   S = 20", "DDPM   η = 1   S = 20"]
    assert gallery.ddim.calls == gallery.ddim.steps
    [row] = [row for row in timing.rows if row.steps == gallery.ddim.steps]
    calls = gallery.ddim.calls * gallery.ddim.count  # on single images
    assert gallery.ddim.count * row.seconds_per_image == calls * row.forward_seconds / timing.batch


def test_a_gallery_of_before_that_timed_a_cold_run_is_drawn_without_its_time(timed):
    facts = read_run(timed).facts["gallery"]
    for half in ("ddim", "ddpm"):
        facts[half]["seconds"] = 7.6
    leave(timed, "gallery", facts)
    run = read_run(timed)
    assert run.problems.get("gallery") is None
    titles = words("gallery", run)
    assert not any("7.6" in title for title in titles)
    assert tiles(run)[-1][0] == "312 ms"


def test_what_all_steps_of_ddpm_cost_is_said_where_a_limit_left_them_out(timed):
    one = experiments.experiments["timing"]
    facts = read_run(timed).facts["timing"]
    model = model_io.load(timed)
    assert one.note(read_result(timed, one).result, model) == ""
    leave(timed, "timing", {**facts, "rows": facts["rows"][:1]})
    assert (
        one.note(read_result(timed, one).result, model)
        == "At this rate the T = 20 steps of DDPM take 0.312 s an image."
    )


# The parts of the page


def test_the_contents_name_every_section_that_is_shown(folder):
    one = page(folder)
    assert one.contents == ["verdict", "doctor", "run", *one.figures, "left-out"]
    assert one.figures == [*NAMES[:6], *MEASURED]
    assert one.missing == ["samples", "strips", "denoising", "timing"]


def test_headings_language_and_pictures_are_those_of_an_accessible_page(folder):
    one = page(folder)
    assert one.headings[0] == "h1"
    assert set(one.headings[1:]) == {"h2"}
    assert one.language == "en"
    assert one.alternatives[0] == "Figure 1: The data"
    assert len(set(one.alternatives)) == len(one.figures)


def test_every_figure_lies_on_a_light_card_in_both_colour_schemes(folder):
    text = html(folder)
    assert text.count('<div class="card"><img ') == text.count("<img ") == text.count("<figure ")
    light, dark = re.findall(r"--card: #([0-9a-f]+);", text)
    assert (light, dark[:1]) == ("fff", "e")  # figures are drawn in dark ink
    assert text.index("prefers-color-scheme: dark") < text.index(f"--card: #{dark}")


def test_what_is_left_out_is_one_line_and_a_list_with_titles(folder):
    leave(folder, "table1", {**results()["table1"], "cut": CUT})
    leave(folder, "solvers", {**results()["solvers"], "cut": CUT})
    one = page(folder, missing=["data"])
    assert "2 experiments were shortened and 5 figures are not shown. What is left out" in one.text
    assert f"Quality against steps: {CUT}." in one.text
    assert "The data is not shown. The folder holds no training images" in one.text
    assert "table1" not in one.text
    assert one.text.index("5 figures are not shown") < one.text.index("Figure 1.") < one.text.index(f": {CUT}.")


def test_a_page_that_shows_all_leaves_nothing_out(folder, monkeypatch):
    for name in ("gallery", "strips", "timing"):
        monkeypatch.delitem(experiments.experiments, name)
    one = page(folder)
    assert "left-out" not in one.contents
    assert "left out" not in one.text


def test_one_number_of_network_calls_is_a_table_without_panels(folder):
    facts = results()["solvers"]
    leave(folder, "solvers", {**facts, "rows": [row for row in facts["rows"] if row["budget"] == 5]})
    solvers = experiments.experiments["solvers"]
    why = solvers.figure(read_result(folder, solvers).result, {})
    assert why == "One number of network calls makes no curve."
    one = page(folder, missing=["solvers"])
    assert "solvers" in one.figures
    assert "Other solvers of the same equation has no figure." in one.text
    assert "Each panel shows one method" not in one.text
    assert "5 calls" in one.text


@pytest.mark.slow
def test_the_reason_of_an_experiment_that_draws_nothing_is_on_the_page(trained):
    one = trained(old=True)
    (one / "figures").mkdir()
    (one / "figures/solvers.png").write_bytes(b"of an earlier time")
    facts = results()["solvers"]
    leave(one, "solvers", {**facts, "rows": [row for row in facts["rows"] if row["budget"] == 5]})
    text = report.write(one).read_text(encoding="utf-8")
    assert text.count("One number of network calls makes no curve") == 2  # above the table, and in what is left out
    assert not (one / "figures/solvers.png").exists()


def test_numbers_of_one_are_singular(trained):
    one = trained(lines=1, plan={"batch_size": 1})
    text = page(one).text
    assert "1 epoch; 9 updates of 1 image, 9 images seen" in text
    assert ("1", "epoch") in tiles(read_run(one))
    leave(one, "reconstruction", {**results()["reconstruction"], "count": 1})
    assert "1 held-out image, ±" in page(one).text


# Folders


def test_a_tilde_is_the_home_folder(trained, monkeypatch, tmp_path, capsys):
    one = trained(old=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr(experiments, "run", lambda *_, **__: iter(()))
    main(["report", "~", "--digest=~/small", "--device", "cpu"])
    assert (one / "report.html").is_file()
    assert (tmp_path / "small/README.md").is_file()
    assert str(tmp_path / "small") in capsys.readouterr().out
    assert len(report.verdict("~")) == 6
