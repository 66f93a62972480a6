"""`docs/ddim_on_one_page.py` computes what the library computes."""

import runpy
from pathlib import Path

import pytest
import torch

from ddim import Denoiser, samplers, schedule
from ddim.timesteps import levels, timesteps

SCRIPT = Path(__file__).parent.parent / "docs/ddim_on_one_page.py"
PAGE = runpy.run_path(str(SCRIPT), run_name="page")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Denoiser(PAGE["UNet"](width=8), schedule.linear(), predicts="eps", shape=(1, 8, 8)).eval()


def test_its_schedule_is_the_linear_one():
    assert (PAGE["alpha_bar"] - schedule.linear().alpha_bar).abs().max() < 1e-12


@pytest.mark.parametrize("S", [1, 3, 7, 10, 999, 1000])
def test_its_times_are_the_trailing_ones(S):
    assert PAGE["timesteps"](S) == timesteps(schedule.linear(), S, "trailing").tolist()


def test_its_loss_is_the_loss_of_a_denoiser(model):
    x0, eps, t = torch.rand(6, 1, 8, 8) * 2 - 1, torch.randn(6, 1, 8, 8), torch.tensor([1, 2, 300, 600, 999, 1000])
    assert abs(PAGE["loss"](model.network, x0, t, eps) - model.loss(x0, t, eps).mean()) < 1e-6


@pytest.mark.parametrize("S", [1, 7, 20])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_its_samples_are_those_of_the_sampler(model, S, eta):
    """In float64, because the output of an untrained network is divided by alpha_T = 0.006."""
    model.double()
    xT = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    torch.manual_seed(1)
    mine = PAGE["sample"](model.network, xT, PAGE["timesteps"](S), eta)
    torch.manual_seed(1)
    visited = levels(model.schedule, timesteps(model.schedule, S))
    *_, ours = samplers.trajectory(samplers.DDIM(eta), model.denoise(clip=False), xT, visited, torch.randn_like)
    assert (mine - ours).abs().max() < 1e-6 * ours.abs().max()


def test_it_trains():
    torch.manual_seed(0)
    images, network = torch.rand(8, 1, 8, 8) * 2 - 1, PAGE["UNet"](width=8)
    x0, eps, t = images, torch.randn(8, 1, 8, 8), torch.full((8,), 500)
    before = PAGE["loss"](network, x0, t, eps).item()
    PAGE["train"](network, images, steps=40, batch=8)
    assert PAGE["loss"](network, x0, t, eps).item() < 0.9 * before
