"""The section on samples during training: what it draws, which weights the model has, and when copying set in."""

import json

import numpy as np
import pytest

from ddim import model_io
from ddim.report.sections import sections
from ddim.report.validation import distances, note
from ddim.run_folder import read

LINES = [
    {"step": 10, "epoch": 1.0, "frechet": 8.0, "copies": 0.0, "copies_p": 1.0, "nearer": 0.5},
    {"step": 20, "epoch": 2.0, "frechet": 1.5, "copies": 0.02, "copies_p": 0.04, "nearer": 0.6},
    {"step": 30, "epoch": 3.0, "frechet": 2.5, "copies": 0.25, "copies_p": 1e-6, "nearer": 0.7},
]


@pytest.fixture
def measured(trained):
    """A run with such lines, the last of them whole, and a config about them."""

    def make(lines, **config):
        folder = trained()
        with (folder / "metrics.jsonl").open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 40, "epoch": 4.0, "frechet": 0')
        known = model_io.read_config(folder)
        model_io.save(model_io.load(folder), folder, recipe=known["recipe"], **config)
        return folder

    return make


def test_it_draws_the_distances_and_the_copies(measured):
    figure = distances(read(measured(LINES)))
    above, below = figure.axes
    line, best = above.lines
    assert np.stack(line.get_data()).tolist() == [[1, 2, 3], [8.0, 1.5, 2.5]]
    assert np.stack(best.get_data()).tolist() == [[2], [1.5]]
    unsure, sure = ([path[1, 1] for path in lines.get_segments()] for lines in below.collections)
    assert (unsure, sure) == ([0.0, 2.0], [25.0])


def test_it_says_which_weights_the_model_has_and_when_copying_set_in(measured):
    config = {
        "validation": {"samples": 256, "held_out": 297},
        "average": {"width": 0.1, "error": 0.0, "step": 20},
    }
    assert note(read(measured(LINES, **config))) == (
        "Each measurement took 256 samples against 297 held-out images. The distance was smallest, 1.5, after 2 "
        "epochs. The model is the average of width 0.1 after 20 updates. Copying set in after 3 epochs: 25.0% of the "
        "samples were closer to one training image than held-out images are, which chance explains with a probability "
        "of 1e-06."
    )
    assert note(read(measured(LINES[:2]))).endswith(
        "In none of 2 searches did more samples look like copies than chance explains."
    )


def test_a_run_without_measurements_has_no_such_section(trained, measured):
    assert "validation" not in [one.name for one in sections(read(trained()), draw=False)]
    names = [one.name for one in sections(read(measured(LINES[:1])), draw=False)]
    assert names.index("validation") == names.index("levels") + 1
    assert distances(read(measured(LINES[:1]))) is None


@pytest.mark.parametrize(
    "broken", [{"frechet": None}, {"epoch": "1"}, {"copies": [1]}, {"copies_p": 1e999}, {"step": None}]
)
def test_broken_lines_do_not_break_it(measured, broken):
    record = read(measured([line | broken for line in LINES], validation=3, average={"width": None, "step": "x"}))
    note(record)
    distances(record)
