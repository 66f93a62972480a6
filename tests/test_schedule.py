import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from ddim import schedule
from ddim.errors import UserError

ALL = schedule.names()


@pytest.mark.parametrize("name", ALL)
def test_table_is_the_cumulative_product(name):
    s = schedule.get(name)
    betas = s.betas[1:].numpy()
    np.testing.assert_allclose(s.alpha_bar[1:].numpy(), np.cumprod(1 - betas), rtol=1e-12)
    assert s.alpha_bar[0] == 1
    assert s.T == 1000


def test_linear_is_the_papers():
    s = schedule.linear()
    assert s.betas[1] == 1e-4
    assert s.betas[-1] == 0.02
    assert s.betas[2] - s.betas[1] == pytest.approx((0.02 - 1e-4) / 999, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("linear", {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        ("scaled-linear", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        ("cosine", {"beta_schedule": "squaredcos_cap_v2"}),
    ],
)
def test_same_betas_as_diffusers(name, theirs):
    peer = DDPMScheduler(num_train_timesteps=1000, **theirs).betas.double()
    torch.testing.assert_close(schedule.get(name).betas[1:], peer, rtol=2e-6, atol=0)  # theirs are float32


def test_sigmoid_follows_its_formula():
    s = schedule.sigmoid()
    f = [1 / (1 + math.exp(-(-3 + 6 * u))) for u in (0, 0.25, 1)]
    assert s.alpha_bar[250].item() == pytest.approx((f[2] - f[1]) / (f[2] - f[0]), rel=1e-12)


def test_temperature_of_the_sigmoid():
    s = schedule.sigmoid(start=0, end=3, tau=0.5)
    f = [1 / (1 + math.exp(-3 * u / 0.5)) for u in (0, 0.25, 1)]
    assert s.alpha_bar[250].item() == pytest.approx((f[2] - f[1]) / (f[2] - f[0]), rel=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_real_times_pass_through_the_table(name):
    s = schedule.get(name)
    at = s(torch.arange(1001))
    assert at.alpha.shape == (1001, 1, 1, 1)
    torch.testing.assert_close(at.alpha.flatten() ** 2, s.alpha_bar, rtol=1e-14, atol=0)
    t = torch.linspace(0, 1000, 7001, dtype=torch.float64)
    at = s(t)
    torch.testing.assert_close(at.alpha**2 + at.sigma**2, torch.ones_like(at.alpha), rtol=0, atol=1e-15)
    assert (at.sigma.flatten().diff() > 0).all()
    assert (at.alpha.flatten().diff() < 0).all()


def test_between_integers():
    s = schedule.linear()
    assert s(0.25).sigma.item() ** 2 == pytest.approx(0.25 * 1e-4, rel=1e-12)  # sigma^2 is linear on [0, 1]
    log_snr = [math.log(s(t).alpha.item() ** 2 / s(t).sigma.item() ** 2) for t in (400, 400.5, 401)]
    assert log_snr[1] == pytest.approx((log_snr[0] + log_snr[2]) / 2, abs=1e-12)


def test_terminal_signal_of_zero():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    betas[-1] = 1
    s = schedule.from_betas(betas)
    assert s(1000).alpha == 0
    assert s(1000).sigma == 1
    assert s(999.5).alpha.item() == pytest.approx(s(999).alpha.item() / 2, rel=1e-12)  # linear on the last interval
    assert s.at_log_snr(-math.inf).t == 1000
    t = torch.linspace(998, 1000, 41, dtype=torch.float64)
    log_snr = 2 * (s(t).alpha.log() - s(t).sigma.log()).flatten()
    torch.testing.assert_close(s.at_log_snr(log_snr).t.flatten(), t, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_log_snr_and_back(name):
    s = schedule.get(name)
    t = torch.cat([torch.linspace(0, 3, 61), torch.linspace(3, 1000, 997)]).double()
    there = s(t)
    log_snr = 2 * (there.alpha.log() - there.sigma.log())
    back = s.at_log_snr(log_snr.flatten().clamp(min=s.log_snr[-1]))
    for mine, expected in zip(back, there, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)


def test_one_level_or_one_per_image():
    s = schedule.cosine()
    assert s(7).alpha.shape == ()
    assert s(torch.tensor([7, 8])).sigma.shape == (2, 1, 1, 1)
    assert all(value.dtype == torch.float64 for value in s(torch.tensor([7.0], dtype=torch.float32)))


@pytest.mark.parametrize("t", [-1, 1000.5, math.nan])
def test_time_outside_the_schedule(t):
    with pytest.raises(UserError, match=r"\[0, 1000\]"):
        schedule.linear()(t)


def test_log_snr_below_the_last():
    with pytest.raises(UserError, match="log-SNR"):
        schedule.linear().at_log_snr(-50)


@pytest.mark.parametrize("betas", [[], [0.1, -0.1], [0.1, 1.0, 0.1], [0.1, math.nan], [1.5]])
def test_betas_that_make_no_schedule(betas):
    with pytest.raises(UserError, match="betas"):
        schedule.from_betas(betas)


def test_unknown_name():
    with pytest.raises(UserError, match="choose one of linear, scaled-linear, cosine, sigmoid"):
        schedule.get("quartic")
