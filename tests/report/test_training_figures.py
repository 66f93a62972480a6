"""What the report draws and says of the training itself."""

import json
import math
import os
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ddim import model_io, report
from ddim.denoiser import Denoiser
from ddim.doctor.losses import gap
from ddim.plots.canvas import mosaic, separator
from ddim.report.losses import learning, levels, overfitting
from ddim.report.page import facts, tiles
from ddim.report.sections import sections
from ddim.report.training import along
from ddim.run_folder import SNAPSHOTS, read


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def rewrite(folder, lines):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def drawn(figure, axes=0):
    """The lines of a figure, as {label: (xs, ys)}."""
    return {one.get_label(): one.get_data() for one in figure.axes[axes].lines}


def pixels(figure):
    """The images on a figure."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def notes(run):
    """What each section says about this run alone."""
    return {section.name: section.note for section in sections(run, draw=False)}


# The learning curve


def test_the_learning_curve_draws_the_numbers_of_the_metrics(trained):
    figure = learning(read(trained()))
    found = {label: list(map(list, data)) for label, data in drawn(figure).items()}
    assert found == {
        "held-out images, averaged weights": [[1, 2, 3], [0.9, 0.45, 0.9 / 3]],
        "training images, averaged weights": [[1, 2, 3], [0.8, 0.4, 0.8 / 3]],
        "training images, latest weights": [[1, 2, 3], [1, 0.5, 1 / 3]],
    }
    assert {text.get_text() for text in figure.axes[0].texts} == {"0.3000", "0.2667"}


def test_a_weighted_loss_is_another_quantity_and_not_drawn(trained):
    record = read(trained(plan={"weighting": "min-snr"}))
    assert set(drawn(learning(record))) == {
        "held-out images, averaged weights",
        "training images, averaged weights",
    }
    assert "a weighted loss (min-snr), which is another quantity" in notes(record)["learning"]


def test_lines_from_before_the_training_images_were_scored_leave_a_gap(trained):
    folder = trained()
    first, *rest = lines_of(folder)
    rewrite(folder, [{name: n for name, n in first.items() if name != "train"}, *rest])
    _, ys = drawn(learning(read(folder)))["training images, averaged weights"]
    assert math.isnan(ys[0])
    assert list(ys[1:]) == [0.4, 0.8 / 3]


# The loss by level


def test_the_levels_are_drawn_in_the_middle_of_their_parts(trained):
    folder = trained()
    last = lines_of(folder)[-1]
    figure = levels(read(folder))
    found = drawn(figure)
    for name, label in (("held_out_by_level", "held-out images, now"), ("train_by_level", "training images, now")):
        assert list(found[label][0]) == pytest.approx([2 * b + 1 for b in range(10)])  # T is 20
        assert list(found[label][1]) == last[name]
    assert figure.axes[0].get_yscale() == "log"
    heights = [bar.get_height() for bar in figure.axes[1].containers[0]]
    assert heights == pytest.approx([12.5] * 10)


@pytest.mark.parametrize(
    ("count", "earlier"), [(1, []), (2, [0]), (3, [0, 1]), (17, [1, 2, 4, 8]), (80, [4, 9, 19, 39])]
)
def test_earlier_lines_halve_the_way_back(trained, count, earlier):
    folder = trained(lines=count)
    every = [line["held_out_by_level"] for line in lines_of(folder)]
    faint = [
        np.asarray(one.get_ydata()).tolist()
        for one in levels(read(folder)).axes[0].lines
        if one.get_alpha() and np.asarray(one.get_xdata()).size
    ]
    assert faint == [every[i] for i in earlier]


def plant(folder, gaps, first=None):
    """A history in which held-out images lose more by these shares, one for each level."""
    lines = lines_of(folder)
    for line, shares in zip(lines, [first or gaps, first or gaps, gaps], strict=True):
        line["train_by_level"] = [1 / (line["epoch"] * (b + 1)) for b in range(10)]
        line["held_out_by_level"] = [t * (1 + g) for t, g in zip(line["train_by_level"], shares, strict=True)]
    rewrite(folder, lines)
    return read(folder)


CHANCE = [0.05, -0.04, 0.06, -0.05, 0.03, -0.06, 0.05, -0.02, 0.04, -0.05]


def test_chance_is_no_sign_of_overfitting(trained):
    said = overfitting(plant(trained(), CHANCE))
    assert said.startswith(
        "The loss on held-out images exceeds that on training images most between t = 4 and 6, by 6.0%."
    )
    assert said.endswith("at most 32 images of each set: no sign of overfitting.")


def test_a_bump_beyond_chance_is_a_sign_of_overfitting(trained):
    bump = [0.1, 0.3, 0.6, 0.8, 0.7, 0.4, 0.2, 0.1, 0.05, 0.0]
    said = overfitting(plant(trained(), [a + b for a, b in zip(bump, CHANCE, strict=True)]))
    assert "most between t = 6 and 8, by 75%." in said
    assert "a sign of overfitting, or of held-out images that are harder." in said
    assert said.endswith("The held-out loss itself has not risen.")


def test_a_held_out_loss_that_rises_again_is_told(trained):
    said = overfitting(plant(trained(), [3.0] * 10, first=[0.0] * 10))
    assert said.endswith("The held-out loss was lowest after 2 epochs and is 167% higher now.")


def test_held_out_images_that_are_easier_are_no_overfitting(trained):
    said = overfitting(plant(trained(), [-0.3] * 10))
    assert said == (
        "At no level does the loss on held-out images exceed that on training images. Over all levels it is 30% "
        "lower; up to 0.0% may be chance, as each level has at most 32 images of each set: no sign of "
        "overfitting."
    )


@pytest.mark.parametrize("noisier", [[1] * 10, [5, 3, 2, *[1] * 7], [1, 1, 2, 3, 3, 2, *[1] * 4]])
def test_chance_alone_is_called_overfitting_once_in_forty_runs(noisier):
    rng = np.random.default_rng(0)
    draws = np.exp(0.05 * np.array(noisier) * rng.standard_normal((4000, 10)))
    gaps = [gap({"held_out_by_level": row, "train_by_level": [1.0] * 10}) for row in draws]
    assert sum(one.mean > one.chance for one in gaps) / len(gaps) < 0.031  # 1 / 40, and three standard errors


def test_the_words_stand_below_the_figure(trained):
    folder = trained()
    page = report.write(folder).read_text(encoding="utf-8")
    assert overfitting(read(folder)) in page.split('<figure id="levels">')[1].split("</figure>")[0]


# Along the way


def test_the_rows_are_the_images_of_their_steps(trained):
    folder = trained()
    figure = along(read(folder))
    tensors = [load_file(folder / f"samples/step-{step:08d}.safetensors") for step in (9, 18, 27)]
    averaged, latest = pixels(figure)
    for found, name in ((averaged, "averaged"), (latest, "latest")):
        assert np.array_equal(found, mosaic(torch.cat([one[name][:8] for one in tensors]), 8))
    said = [text.get_text() for text in figure.texts]
    assert said[:2] == ["averaged weights", "latest weights"]
    assert said[2:] == ["step 9", "epoch 1", "step 18", "epoch 2", "step 27", "epoch 3"]


def test_a_run_without_averages_says_so(trained):
    assert "both sides are equal" in notes(read(trained(plan={"ema": [0.0]})))["along"]
    assert notes(read(trained(plan={"ema": [0.1, 0.0]})))["along"] == ""


def test_many_steps_are_thinned_evenly_from_the_first_to_the_last(trained):
    stops = read(trained(lines=36)).snapshots
    assert len(stops) == SNAPSHOTS == 8
    assert [stop.step for stop in stops] == [9 * (5 * i + 1) for i in range(8)]


def test_a_step_without_a_line_of_metrics_has_no_epoch(trained):
    folder = trained()
    rewrite(folder, lines_of(folder)[1:])
    said = [text.get_text() for text in along(read(folder)).texts]
    assert said[2:] == ["step 9", "step 18", "epoch 2", "step 27", "epoch 3"]


@pytest.mark.parametrize(("size", "columns"), [(28, 8), (32, 8), (64, 8), (128, 5), (900, 1)])
def test_large_images_are_fewer(trained, size, columns):
    record = read(trained())
    images = torch.zeros(16, 3, size, size, dtype=torch.uint8)
    for stop in record.snapshots:
        object.__setattr__(stop, "averaged", images)
        object.__setattr__(stop, "latest", images)
    for found in pixels(along(record)):
        assert found.shape[1] == columns * (size + separator(size)) + separator(size)


# What is broken is absent


def black(*shape):
    return torch.zeros(*shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    "tensors",
    [
        {"averaged": black(16, 1, 8, 8)},
        {"averaged": black(16, 1, 8, 8), "latest": black(9, 1, 8, 8)},
        {"averaged": torch.zeros(16, 1, 8, 8), "latest": torch.zeros(16, 1, 8, 8)},
        {"averaged": black(0, 1, 8, 8), "latest": black(0, 1, 8, 8)},
        {"averaged": black(16, 3, 8, 8), "latest": black(16, 3, 8, 8)},
        {"averaged": black(2, 16, 1, 8, 8), "latest": black(2, 16, 1, 8, 8)},
    ],
)
def test_samples_of_another_kind_are_no_row(trained, tensors):
    folder = trained()
    save_file(tensors, folder / "samples/step-00000018.safetensors")
    assert [stop.step for stop in read(folder).snapshots] == [9, 27]


def test_what_is_no_file_of_samples_is_passed_over(trained):
    folder = trained()
    (folder / "samples/step-00000018.safetensors").write_bytes(b"half")
    (folder / "samples/step-00000027.safetensors").unlink()
    (folder / "samples/step-00000027.safetensors").mkdir()
    for name in ("step-", "step-x", "step--1", "step-1.5"):
        (folder / f"samples/{name}.safetensors").write_bytes(b"")
    assert [stop.step for stop in read(folder).snapshots] == [9]


GOOD = [0.5] * 10


@pytest.mark.parametrize(
    "broken",
    [None, 3, "x", [], [0.5] * 9, [0.5] * 11, [*GOOD[:9], 0], [*GOOD[:9], -1], [*GOOD[:9], math.nan]]
    + [[*GOOD[:9], other] for other in (math.inf, None, True, "1", [1], 10**400, 1e300, 1e-300)],
)
@pytest.mark.parametrize("name", ["held_out_by_level", "train_by_level"])
def test_levels_that_are_none_are_left_out(trained, name, broken):
    folder = trained()
    rewrite(folder, [{**line, name: broken} for line in lines_of(folder)])
    record = read(folder)
    assert len(record.metrics) == 3
    assert record.levels == []
    assert levels(record) is None
    assert overfitting(record) == ""


VALUES = [
    0,
    -1,
    1,
    0.5,
    1e-320,
    1e300,
    -1e308,
    math.nan,
    math.inf,
    10**400,
    True,
    None,
    "x",
    "<b>",
    [],
    {},
    [0.5] * 10,
]


def fuzzed(rng, line):
    changed = {name: rng.choice(VALUES) if rng.random() < 0.3 else value for name, value in line.items()}
    for name in ("held_out_by_level", "train_by_level"):
        if isinstance(changed[name], list) and rng.random() < 0.5:
            changed[name] = [
                rng.choice([*VALUES[:9], 1e-8, 1e8, x]) if rng.random() < 0.1 else x for x in changed[name]
            ]
    text = json.dumps(changed)
    return text[: rng.randrange(len(text))] if rng.random() < 0.1 else text


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("seed", range(12))
def test_no_metrics_break_the_report(trained, seed):
    rng = random.Random(seed)
    folder = trained(plan={"weighting": rng.choice(["simple", "min-snr", 3])})
    every = lines_of(folder)
    (folder / "metrics.jsonl").write_text("\n".join(fuzzed(rng, rng.choice(every)) for _ in range(6)))
    record = read(folder)
    assert notes(record).keys() >= {"learning", "levels"}
    sections(record)
    assert tiles(record)
    assert facts(record)


# While training goes on


def going_on(folder, finished=False):
    """The run as it stands after more training than its experiments knew."""
    model = model_io.load(folder)
    with torch.no_grad():
        next(model.network.parameters()).add_(1)
    recipe = model_io.read_config(folder)["recipe"]
    model_io.save(Denoiser(model.network, model.schedule, shape=model.shape), folder, recipe=recipe, finished=finished)


@pytest.mark.slow
def test_a_run_that_trains_on_shows_what_was_made_with_its_earlier_weights(complete):
    os.utime(complete / "environment.json", (1, 1))  # written when it began
    going_on(complete)
    record = read(complete)
    assert record.earlier == {"gallery", "strips", "timing"}
    said = notes(record)
    for name in ("samples", "strips", "denoising", "timing"):
        assert "Training has continued since: this shows earlier weights." in said[name]
    assert 'id="samples"><h2' in report.write(complete).read_text(encoding="utf-8").replace("\n", "")


def test_what_is_older_than_the_training_is_not_of_its_weights(complete):
    os.utime(complete / "environment.json", (4e9, 4e9))
    going_on(complete)
    assert read(complete).results == {}


def test_a_finished_run_shows_its_own_weights_alone(complete):
    os.utime(complete / "environment.json", (1, 1))
    going_on(complete, finished=True)
    assert read(complete).results == {}


def test_a_line_that_is_being_written_waits_for_the_next_report(trained):
    folder = trained()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 36, "epoch": 4.0, "loss": 0.2, "held_')
    assert [line["step"] for line in read(folder).metrics] == [9, 18, 27]
