"""The tab Compare measures the distance between two solvers, and of each to the solution of the ODE."""

import pytest
from torch import nn

from ddim import Denoiser, schedule

pytest.importorskip("gradio", reason="needs ddim[studio]")

from ddim.studio.compare import compare, python_of, rms, view
from ddim.studio.models import Models
from ddim.studio.sample import Request, Solver, draw

FEW, MANY = Solver(4, "ddim", 0.0, "log-snr"), Solver(16, "ddim", 0.0, "log-snr")
REQUEST = Request("smooth", 2, "", 1)


class Smooth(nn.Module):
    """A network that costs nothing, with an ODE that has no closed form."""

    def forward(self, x, t):
        return 0.9 * x.tanh()


@pytest.fixture
def smooth():
    return Denoiser(Smooth(), schedule.linear(), shape=(1, 8, 8))


def test_more_steps_are_nearer_to_the_solution(smooth):
    compared = compare(smooth, REQUEST, (FEW, MANY))
    few, many = compared.errors
    assert few is not None
    assert many is not None
    assert 0 < many < few / 2
    assert compared.distance == pytest.approx(rms(compared.first.images, compared.second.images))
    assert f"rms distance between A and B is {compared.distance:.3g}" in view(compared)


def test_a_sampler_that_injects_noise_has_no_solution_to_compare_with(smooth):
    compared = compare(smooth, REQUEST, (FEW, Solver(4, "ddim", 1.0)))
    assert compared.errors[0] is not None
    assert compared.errors[1] is None
    assert "no ODE to compare with" in view(compared)


def test_the_shown_python_prints_the_distance(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    models, request, solvers = Models([str(run_folder)]), Request(str(run_folder), 1), (FEW, Solver(3, "unipc"))
    exec(python_of(models, request, solvers), {})
    a, b = (draw(models.get(request.model), request, solver).images for solver in solvers)
    assert float(capsys.readouterr().out) == pytest.approx(rms(a, b))
    assert (tmp_path / "a.png").exists()
