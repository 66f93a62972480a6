from itertools import pairwise

import pytest
import torch

from ddim import schedule
from ddim.forward import added_noise, q_sample, q_step


@pytest.mark.parametrize("name", schedule.names())
def test_T_single_steps_make_the_one_jump(name):
    """q(x_t | x_0) has the mean and variance of t steps of q(x_t | x_(t-1)), for every t."""
    s = schedule.get(name)
    mean, variance = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for before, t in pairwise(s.times):
        at, to = s(before), s(t)
        signal, noise = q_step(one, at, to, zero), q_step(zero, at, to, one)
        mean, variance = mean * signal, variance * signal**2 + noise**2
        assert abs(mean - q_sample(one, to, zero)) < 1e-10
        assert abs(variance - q_sample(zero, to, one) ** 2) < 1e-10 * max(1.0, float(to.sigma) ** 2)


@pytest.mark.parametrize("t", [1, 2, 500, 1000])
def test_one_step_is_ddpms(t):
    s = schedule.linear()
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    assert q_step(one, s(t - 1), s(t), zero).item() == pytest.approx((1 - s.betas[t].item()) ** 0.5, rel=1e-12)
    assert q_step(zero, s(t - 1), s(t), one).item() == pytest.approx(s.betas[t].item() ** 0.5, rel=1e-9)


def test_added_noise_is_the_ratio_of_alpha_bars():
    s = schedule.linear()
    expected = (1 - s.alpha_bar[800] / s.alpha_bar[300]).sqrt()
    torch.testing.assert_close(added_noise(s(300), s(800)), expected, rtol=1e-12, atol=0)
    assert added_noise(s(800), s(300)) == 0
