"""The closed forms that solvers are judged by are right: by other formulas, by samples, by quadrature."""

import math

import pytest
import torch

from ddim.samplers import DDIM, DDPM
from ddim.schedule import from_betas, linear
from ddim.verify.exact import GAUSSIAN, MIXTURE, POINT, Gaussian, Law, Mixture, error, law, sampled
from ddim.verify.orders import SCHEDULE, stretched

AT = SCHEDULE(600.3)


def test_the_schedule_is_ddpm_s_and_agrees_with_itself():
    for t in (1.0, 10.0, 500.0, 1000.0):
        level, table = SCHEDULE(t), from_betas(SCHEDULE.betas[1:])(t)
        torch.testing.assert_close(level.sigma, table.sigma, rtol=1e-9, atol=0)
        torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones_like(level.alpha))
        assert float(level.alpha) == pytest.approx(float(linear()(t).alpha), rel=0.05)
    for t in (0.01, 3.3, 777.7, 1000.0):
        level = SCHEDULE(t)
        back = SCHEDULE.at_log_snr(2 * (level.alpha / level.sigma).log())
        torch.testing.assert_close(torch.stack(back), torch.stack(level), rtol=1e-9, atol=1e-12)
    assert SCHEDULE(0.0).sigma == 0


def test_the_mixture_s_denoiser_is_the_posterior_mean():
    """By quadrature over x0."""
    x0 = torch.linspace(-4, 4, 20001, dtype=torch.float64)

    def bump(mean):
        return torch.exp(-((x0 - mean) ** 2) / (2 * MIXTURE.std**2))

    prior = (1 - MIXTURE.share) * bump(MIXTURE.low) + MIXTURE.share * bump(MIXTURE.high)
    for x in (-1.3, 0.0, 0.2, 2.0):
        weight = prior * torch.exp(-((x - AT.alpha * x0) ** 2) / (2 * AT.sigma**2))
        found = MIXTURE.denoise(torch.tensor([[[[x]]]], dtype=torch.float64), AT)
        assert float(found.x0) == pytest.approx(float((weight * x0).sum() / weight.sum()), rel=1e-9)
        assert float(AT.alpha * found.x0 + AT.sigma * found.eps) == pytest.approx(x, abs=1e-12)


def test_the_mixture_s_law_is_that_of_its_samples():
    x = MIXTURE.draw(AT, 200_000, torch.Generator().manual_seed(0))
    mean, std = MIXTURE.law(AT)
    assert float(x.mean()) == pytest.approx(float(mean), abs=4 * float(std) / math.sqrt(200_000))
    assert float(x.std()) == pytest.approx(float(std), rel=0.01)


def test_two_ways_to_integrate_agree():
    """With both bumps in one place the mixture is a Gaussian, whose flow is a formula; and the flow leads back."""
    same, one = Mixture(0.2, 0.2, 0.5), Gaussian((0.2,), (0.5,))
    start, end = stretched(1)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(same.flow(x, start, end), one.flow(x, start, end), rtol=0, atol=1e-11)
    there = MIXTURE.flow(x, start, end)
    torch.testing.assert_close(MIXTURE.flow(there, end, start, 1000), x, rtol=0, atol=1e-9)
    torch.testing.assert_close(MIXTURE.flow(x, start, end, 1250), there, rtol=0, atol=2e-11)  # 16 times its error


def test_the_law_of_a_trajectory_is_what_samples_show():
    levels, narrow = stretched(6), Mixture(0.3, 0.3, 0.4)
    exact = law(DDPM(), Gaussian((0.3,), (0.4,)), levels, SCHEDULE)
    found = sampled(DDPM(), narrow, levels, SCHEDULE, 100_000)
    assert error(Law(found.mean[None], found.std[None]), exact) < 0.004
    wide = law(DDIM(), GAUSSIAN, levels, SCHEDULE)
    assert wide.mean.shape == wide.std.shape == (4,)
    assert error(wide, GAUSSIAN.law(levels[-1])) > 0.01  # six steps are few, unless there is one image only
    assert error(law(DDIM(), POINT, levels, SCHEDULE), POINT.law(levels[-1])) < 1e-12
