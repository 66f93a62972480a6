"""What experiments show of their results, and which results count as absent."""

import copy

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from safetensors.torch import save_file

from ddim.experiments import experiments
from ddim.experiments.base import EMPTY
from ddim.experiments.results import load_samples, read
from ddim.plots.canvas import styled
from madeup import FEW, leave, leave_all, quality, results, samples, table1

NAMES = tuple(results())


@pytest.fixture
def folder(trained):
    """A trained run with all made-up results."""
    one = trained()
    leave_all(one)
    return one


def draw(folder, name):
    """The figure of an experiment; None if its result or its samples are absent."""
    one = experiments[name]
    result, samples = read(folder, one).result, load_samples(folder, one, (1, 8, 8)) if one.shows_samples else {}
    return None if result is None or samples is None else one.figure(result, samples)


def tables(folder, name):
    return experiments[name].tables(read(folder, experiments[name]).result)


def words(figure):
    """All that stands on a figure."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_result_has_a_figure(folder, name):
    with styled():
        draw(folder, name).draw_without_rendering()


@pytest.mark.parametrize("name", NAMES)
def test_no_words_overlap_or_leave_the_sheet(folder, name):
    with styled():
        figure = draw(folder, name)
        figure.draw_without_rendering()
        extents = [text.get_window_extent() for text in figure.texts if text.get_text()]
        for axes in figure.axes:
            extents += [text.get_window_extent() for text in axes.texts if text.get_text()]
            extents += [axes.xaxis.label.get_window_extent()] if axes.get_xlabel() else []
        for i, one in enumerate(extents):
            assert figure.bbox.x0 <= one.x0 < one.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= one.y0 < one.y1 <= figure.bbox.y1
            assert not any(one.overlaps(other) for other in extents[:i])


def missing(folder, names=NAMES):
    """Those of the names that have no figure."""
    with styled():
        return [name for name in names if draw(folder, name) is None]


def test_a_run_that_is_not_reproduced_has_none_of_them(trained):
    assert missing(trained()) == list(NAMES)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "{}"])
def test_a_result_that_is_no_table_is_absent(folder, text):
    for name in NAMES:
        (folder / f"results/{name}.json").write_text(text)
    assert missing(folder) == list(NAMES)


def without(facts, *path):
    """Facts that lack the last of a path."""
    found = copy.deepcopy(facts)
    place = found
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return found


def changed(facts, value, *path):
    """Facts with another value at the end of a path."""
    found = copy.deepcopy(facts)
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return found


PATHS = [
    ("table1", "rows", 0, "few_low"),
    ("table1", "rows", 3, "frechet"),
    ("table1", "floor"),
    ("table1", "few_floor", "high"),
    ("table1", "count"),
    ("consistency", "between"),
    ("consistency", "rows", 1, "rms"),
    ("interpolation", "steps"),
    ("reconstruction", "rows", 2, "error"),
    ("reconstruction", "count"),
    ("likelihood", "bound", "rows"),
    ("likelihood", "bound", "bits"),
    ("likelihood", "flow", "coarse"),
    ("solvers", "usual"),
    ("solvers", "rows", 0, "budget"),
    ("solvers", "rows", 0, "distance"),
    ("evaluation", "sampling"),
    ("evaluation", "floor"),
    ("evaluation", "figures"),
    ("compare", "rows"),
    ("compare", "rows", 1, "name"),
    ("compare", "rows", 0, "frechet_low"),
    ("compare", "rows", 2, "floor_count"),
    ("memorisation", "p_value"),
    ("memorisation", "nearer_low"),
]


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_a_result_without_one_of_its_parts_is_absent(folder, path):
    name, *rest = path
    leave(folder, name, without(results()[name], *rest))
    assert missing(folder, [name]) == [name]


@pytest.mark.parametrize("value", [None, "<script>", [], {}, float("nan"), True])
@pytest.mark.parametrize("path", [path for path in PATHS[::3] if path[-1] != "distance"], ids=str)
def test_a_result_with_a_part_of_another_kind_is_absent(folder, path, value):
    name, *rest = path
    leave(folder, name, changed(results()[name], value, *rest))
    assert missing(folder, [name]) == [name]


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("table1", "0.3", ("rows", 0, "eta")),
        ("table1", "<b>", ("rows", 0, "spacing")),
        ("table1", [], ("rows",)),
        ("table1", -1.0, ("rows", 0, "frechet")),
        ("consistency", 0, ("rows", 0, "steps")),
        ("solvers", ["ddim"], ("usual",)),
        ("solvers", "far", ("rows", 0, "distance")),
        ("evaluation", {}, ("figures",)),
        ("compare", "\udcff", ("rows", 0, "name")),
        ("compare", 1.5, ("rows", 0, "parameters")),
        ("table1", 2**63, ("rows", 0, "steps")),
    ],
)
def test_a_result_that_says_nonsense_is_absent(folder, name, value, path):
    leave(folder, name, changed(results()[name], value, *path))
    assert missing(folder, [name]) == [name]


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("consistency", {"images": torch.zeros(2, 8, 1, 8, 8, dtype=torch.uint8)}),  # a row too few
        ("consistency", {"images": torch.zeros(3, 8, 1, 8, 8)}),
        ("interpolation", {"images": torch.zeros(6, 11, 3, 8, 8, dtype=torch.uint8)}),
        ("interpolation", {"pictures": torch.zeros(6, 11, 1, 8, 8, dtype=torch.uint8)}),
        ("reconstruction", {"images": torch.zeros(3, 8, 1, 8, 8, dtype=torch.uint8)}),  # no originals
        ("compare", {"images": torch.zeros(2, 20, 1, 8, 8, dtype=torch.uint8)}),  # of a model too few
        ("compare", {"images": torch.zeros(3, 19, 1, 8, 8, dtype=torch.uint8)}),
        ("memorisation", {"samples": torch.zeros(7, 1, 8, 8, dtype=torch.uint8)}),
        (
            "memorisation",
            {
                "samples": torch.zeros(7, 1, 8, 8, dtype=torch.uint8),
                "neighbours": torch.zeros(6, 3, 1, 8, 8, dtype=torch.uint8),
            },
        ),
    ],
)
def test_samples_of_another_kind_are_absent(folder, name, tensors):
    save_file(tensors, folder / f"samples/{name}.safetensors")
    assert missing(folder, [name]) == [name]


@pytest.mark.parametrize("content", [b"", b"none", b"\xff" * 64])
def test_broken_samples_are_absent(folder, content):
    for name in samples():
        (folder / f"samples/{name}.safetensors").write_bytes(content)
    assert missing(folder, samples()) == list(samples())


# Table 1


def curves(axes):
    return {line.get_color(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines[1:]}


def test_there_is_a_panel_for_each_spacing_at_each_number_of_images(folder):
    figure = draw(folder, "table1")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "linear spacing, 500 images each",
        "quadratic spacing, 500 images each",
        "linear spacing, 100 images each",
        "quadratic spacing, 100 images each",
    ]
    assert [len(next(iter(curves(axes).values()))[0]) for axes in figure.axes] == [2, 2, 3, 3]  # S = T has few


def test_the_panels_draw_the_distances_at_their_number_of_images(folder):
    rows = [quality("linear", 2, "0", 40.0), quality("linear", 20, "0", 35.0, count=FEW)]
    leave(folder, "table1", table1(rows))
    many, few = draw(folder, "table1").axes
    assert list(curves(many).values()) == [([2.0], [40.0])]
    assert list(curves(few).values()) == [([2.0, 20.0], [60.0, 35.0])]
    bars = [one for one in few.collections if isinstance(one, LineCollection)]
    assert np.allclose([segment[:, 1] for segment in bars[0].get_segments()], [[58, 62], [34, 36]])
    assert few.lines[0].get_ydata()[0] == 30.0  # as many real images


def test_without_unequal_numbers_there_is_one_row_of_panels(folder):
    leave(folder, "table1", table1([quality("linear", S, "1", 9.0) for S in (2, 10)]))
    assert len(draw(folder, "table1").axes) == 1


def test_a_row_of_neither_number_is_compared_at_the_few(folder):
    leave(folder, "table1", table1([quality("linear", 2, "0", 9.0, count=200)]))
    [axes] = draw(folder, "table1").axes
    assert list(curves(axes).values()) == [([2.0], [29.0])]


def test_an_interval_that_does_not_hold_its_value_is_drawn_all_the_same(folder):
    leave(folder, "table1", table1([{**quality("linear", 2, "0", 9.0), "low": 10.0, "high": 0.0}]))
    with styled():
        draw(folder, "table1").draw_without_rendering()


def test_table1_is_the_papers(folder):
    linear, quadratic, *few = tables(folder, "table1")
    assert linear.head == ["σ", "S = 2", "S = 10", "S = 20"]
    assert [row[0].text for row in linear.rows] == ["η = 0", "η = 0.2", "η = 0.5", "η = 1", "σ̂"]
    assert linear.rows[0][3] == EMPTY  # S = T is of few images
    assert few[0].rows[0][3].text == "36.0 ± 3.0"
    assert linear.rows[0][1].value == pytest.approx(17.0)
    assert linear.caption == "Linear spacing, 500 images each"
    assert "500 real images have 12.1 [11.0, 13.5] and 100 real images have 30.0" in few[-1].note
    assert len(few) == 2
    assert quadratic.rows[4][1].value == pytest.approx(0.95 * 265)


# The others


def test_the_rms_stands_beside_its_row(folder):
    found = words(draw(folder, "consistency"))
    assert {"$S=2$", "0.270", "0.070", "0.710", "–"} <= set(found)


def test_the_interpolation_counts_from_one_noise_to_the_other(folder):
    found = words(draw(folder, "interpolation"))
    assert found == ["$x_T^{(0)}$", *(f"{i / 10:.2g}" for i in range(1, 10)), "$x_T^{(1)}$"]


def test_the_likelihood_shows_what_the_bound_adds_up(folder):
    [table] = tables(folder, "likelihood")
    found = {row[0].text: row[1] for row in table.rows}
    assert found["the bound"].text == "1.620 ± 0.050"
    assert found["its terms in between"].value == pytest.approx(1.62 - 1e-5 - 0.31)
    assert found["its prior term, L_T"].text == "1.0 × 10⁻⁵"


def test_the_bound_stands_alone_where_there_is_no_flow(folder):
    """Where alpha_T = 0 the probability flow has no end in log-SNR."""
    leave(folder, "likelihood", without(results()["likelihood"], "flow"))
    [table] = tables(folder, "likelihood")
    assert [row[0].text.split(",")[0] for row in table.rows] == [
        "the bound",
        "its prior term",
        "its terms in between",
        "its decoder term",
    ]
    with styled():
        figure = draw(folder, "likelihood")
        figure.draw_without_rendering()
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["bound"]


def test_the_solvers_are_drawn_as_ddim_verify_draws_them(folder):
    figure = draw(folder, "solvers")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["ddim", "heun", "dpmpp-2m"]
    [table] = tables(folder, "solvers")
    assert [row[0].text for row in table.rows] == ["ddim", "heun", "dpmpp-2m"]
    assert table.rows[0][1].text == "0.240 trailing"


def test_a_walk_that_went_astray_is_a_gap(folder):
    facts = results()["solvers"]
    for row in facts["rows"]:
        if (row["solver"], row["budget"]) == ("heun", 5):
            row["distance"] = float("inf")
    leave(folder, "solvers", facts)
    with styled():
        draw(folder, "solvers").draw_without_rendering()
    assert tables(folder, "solvers")[0].rows[1][1] == EMPTY


def test_each_figure_of_the_evaluation_has_its_strip(folder):
    figure = draw(folder, "evaluation")
    assert len(figure.axes) == 7
    shares = {axes.get_xlim() for axes in figure.axes[2:]}
    assert len(shares) == 1  # one axis for all of them
    assert "0.9850 [0.9810, 0.9890]" in words(figure)
    [table] = tables(folder, "evaluation")
    assert "Real images: 20 draws of 5,000 others against the same 10,000." in table.note


def test_a_figure_of_another_name_has_its_strip_too(folder):
    facts = results()["evaluation"]
    facts["figures"]["<b>$new\\_$</b>"] = {"value": -3.0, "low": -4.0, "high": -2.0}
    leave(folder, "evaluation", facts)
    with styled():
        figure = draw(folder, "evaluation")
        figure.draw_without_rendering()
    assert len(figure.axes) == 8
    assert tables(folder, "evaluation")[0].rows[-1][0].text == "<b>$new\\_$</b>"


@pytest.mark.parametrize("figure", [None, {}, {"value": 0.5, "low": None, "high": 0.6}, {"value": 0.5, "low": 0.4}])
def test_a_figure_that_is_no_number_is_left_out_alone(folder, figure):
    leave(folder, "evaluation", changed(results()["evaluation"], figure, "figures", "recall"))
    assert len(draw(folder, "evaluation").axes) == 6
    assert len(tables(folder, "evaluation")[0].rows) == 6
    leave(folder, "evaluation", changed(results()["evaluation"], {"recall": figure}, "figures"))
    assert missing(folder, ["evaluation"]) == ["evaluation"]
    assert not any(row for row in tables(folder, "evaluation")[0].rows)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 12, 20])
def test_suspicious_samples_stand_in_three_columns_at_most(folder, count):
    tensors = samples()["memorisation"]
    some = {name: images.repeat(3, *[1] * (images.ndim - 1))[:count].clone() for name, images in tensors.items()}
    save_file(some, folder / "samples/memorisation.safetensors")
    grids = draw(folder, "memorisation").axes
    assert len(grids) == 2 * min(3, -(-min(count, 12) // -(-min(count, 12) // 3)))
