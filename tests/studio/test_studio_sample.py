"""The tab Sample draws what the library and the command line draw, and shows the way there."""

import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from ddim import samplers
from ddim.cli import main
from ddim.errors import UserError
from ddim.noise import ImageNoise
from ddim.pictures import grid, to_uint8
from ddim.samplers import trajectory

gr = pytest.importorskip("gradio", reason="needs ddim[studio]")

from ddim.studio.models import Models, sentences  # noqa: E402
from ddim.studio.sample import OWN, Request, Solver, draw, log_snr_curve, way  # noqa: E402

SOLVERS = [Solver(3), Solver(4, "ddim", 0.5, "quadratic"), Solver(3, "heun")]


@pytest.fixture
def models(run_folder):
    return Models([str(run_folder)])


def drawn_picture(models, request, solver):
    drawn = draw(models.get(request.model), request, solver)
    return np.asarray(grid(to_uint8(drawn.images)))


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_shown_python_gives_the_shown_images(models, run_folder, solver, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = Request(str(run_folder), 3, "", 7)
    exec(request.python(models, solver), {})
    assert np.array_equal(np.asarray(Image.open("samples.png")), drawn_picture(models, request, solver))


def test_python_and_command_line_repeat_labels_and_guidance(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request, solver = Request("mnist", 4, "3, 1", 5), Solver(2, "ddim", 0.0, None, 2.0)
    shown = drawn_picture(models, request, solver)
    exec(request.python(models, solver), {})
    assert np.array_equal(np.asarray(Image.open("samples.png")), shown)
    main(shlex.split(request.command(solver))[1:])
    assert np.array_equal(np.asarray(Image.open("samples.png")), shown)


@pytest.mark.parametrize("name", samplers.names())
def test_each_frame_shows_the_prediction_at_its_own_state(models, run_folder, name):
    model = models.get(str(run_folder))
    drawn = draw(model, Request(str(run_folder), 1, "", 3), Solver(4, name))
    method, levels = model.sampling.resolve(model.schedule, 4, name)
    noise = ImageNoise(3, [0])
    x, denoise = noise(torch.empty(1, *model.shape)), model.denoise()
    with torch.no_grad():
        states = [x, *trajectory(method, denoise, x, levels, noise, model.schedule)]
        for frame, state, level in zip(drawn.frames[:-1], states, levels, strict=False):
            assert torch.equal(frame.x, to_uint8(state))
            assert (frame.x0.int() - to_uint8(denoise(state, level).x0).int()).abs().max() <= 1
    assert drawn.calls == method.calls(levels)


def test_a_long_trajectory_keeps_its_ends_among_few_frames(models, run_folder):
    model = models.get(str(run_folder))
    drawn = draw(model, Request(str(run_folder), 1), Solver(100, "ddim", 0.0))
    times = [float(frame.at.t) for frame in drawn.frames]
    assert (len(times), times[0], times[-1]) == (25, 1000, 0)
    html = way(model, drawn)
    assert re.findall(r'data-frame="(\d+)">', html) == ["24"]  # the others are hidden
    assert log_snr_curve(model, drawn).count('r="3"') == 100


def test_eta_is_for_ddim_only():
    assert Solver.of(10, "ddim", 0.5, OWN, "") == Solver(10, "ddim", 0.5)
    assert Solver.of(10, OWN, 0.5, "leading", "2") == Solver(10, None, None, "leading", 2)


@pytest.mark.parametrize(
    ("request_", "solver", "sentence"),
    [
        (Request("mnist", 99), Solver(2), "1 to 16 images"),
        (Request("mnist", 2, "three"), Solver(2), "whole numbers with commas"),
        (Request("mnist", 3, "1,2"), Solver(2), "multiple"),
        (Request("mnist", 1, "10"), Solver(2), "class"),
        (Request("mnist", 1), Solver(2000, "ddim"), "1 to T = 1000"),
        (Request("airplanes", 1, "3"), Solver(2), "without classes"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(models, request_, solver, sentence):
    with pytest.raises(UserError, match=sentence):
        draw(models.get(request_.model), request_, solver)


def test_a_run_that_vanishes_is_a_sentence_and_the_others_stay(models, run_folder):
    (run_folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no model"):
        models.get(str(run_folder))
    (run_folder / "config.json").unlink()
    run_folder.rmdir()
    with pytest.raises(UserError, match="There is no run"):
        models.get(str(run_folder))
    assert models.get("mnist").classes == 10
    with pytest.raises(UserError, match="not started with"):
        models.get("/etc")


def test_new_weights_are_loaded_again(models, run_folder):
    from ddim import model_io

    before = models.get(str(run_folder))
    assert models.get(str(run_folder)) is before
    with torch.no_grad():
        next(before.network.parameters()).add_(1)
    model_io.save(before, run_folder)
    assert models.get(str(run_folder)) is not before


def test_errors_are_sentences_without_markup_or_traceback(capsys):
    def fail(error):
        raise error

    with pytest.raises(gr.Error) as refused:
        sentences(fail)(UserError("There is no run at <img src=x>; train one."))
    assert refused.value.message == "There is no run at &lt;img src=x&gt;; train one."
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(gr.Error, match="the terminal shows it"):
        sentences(fail)(ZeroDivisionError("secret"))
    assert "ZeroDivisionError: secret" in capsys.readouterr().err
