"""Convergence: each solver has the order that it claims, start-up included, on uneven levels."""

import functools
import math
from itertools import pairwise

import pytest
import torch
from closed import FINE, GAUSSIAN, START, flow_mixture, gaussian, mixture, smooth

from ddim import schedule as schedules
from ddim.samplers import DEIS, ERSDE, DPMpp2M, DPMpp3M, Heun, UniPC, get, names, trajectory
from ddim.timesteps import levels as levels_at
from ddim.timesteps import timesteps
from ddim.verify.exact import MIXTURE, law

PROBLEMS = {"gaussian": (gaussian, GAUSSIAN.flow), "mixture": (mixture, flow_mixture)}
VARIANTS = [
    *(get(name) for name in names()),
    DEIS(2),
    DEIS(3, corrected=False),
    DEIS(3, "lambda"),
    DPMpp3M(corrected=False),
    UniPC(1),
    UniPC(2),
    UniPC(2, "bh1"),
    UniPC(1, corrector=False),
    UniPC(2, corrector=False),
    UniPC(3, corrector=False),
]
SAMPLERS = [pytest.param(sampler, id=str(sampler)) for sampler in VARIANTS if not sampler.stochastic]
NOISY = [
    pytest.param(sampler, id=str(sampler))
    for sampler in (
        *(get(name) for name in names()),
        DPMpp2M(0.5),
        ERSDE(1),
        ERSDE(2),
        Heun(churn=10),
    )
    if sampler.stochastic
]


SCHEDULES = {"linear": FINE, "edm": schedules.edm(), "flow": schedules.flow()}


@functools.cache
def exact(problem, on="linear"):
    levels = smooth(1, on=SCHEDULES[on])
    return PROBLEMS[problem][1](START, levels[0], levels[-1])


def error(sampler, problem, S, on="linear"):
    given = FINE if on == "linear" else None  # the levels of the others tell their schedule
    *_, x = trajectory(sampler, PROBLEMS[problem][0], START, smooth(S, on=SCHEDULES[on]), None, given)
    return (x - exact(problem, on)).square().mean().sqrt().item()


def agrees(measured, order):
    """Not below the claim; nor a whole order above it, where the claim would be too modest."""
    return order - 0.2 < measured < order + 0.9


def test_two_solutions_of_the_mixture_s_flow_agree():
    """By quantiles, as here, and by a Runge-Kutta method, as in `ddim verify`."""
    start, end = smooth(1)
    torch.testing.assert_close(MIXTURE.flow(START, start, end), exact("mixture"), rtol=0, atol=1e-11)


@pytest.mark.parametrize("on", SCHEDULES)
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_order_is_the_one_claimed(sampler, problem, on):
    errors = [error(sampler, problem, S, on) for S in (80, 160)]
    assert agrees(math.log2(errors[0] / errors[1]), sampler.order), errors
    assert errors[1] < {1: 1e-2, 2: 1e-3, 3: 1e-4}[sampler.order]


def spread(sampler, S, on):
    """The error of the variance after S steps, starting from the exact marginal; the mean is exact."""
    levels = smooth(S, on=SCHEDULES[on])
    (mean, std), (exact_mean, exact_std) = law(sampler, GAUSSIAN, levels, SCHEDULES[on]), GAUSSIAN.law(levels[-1])
    assert mean.item() == pytest.approx(exact_mean.item(), abs=1e-12)
    return abs(std**2 - exact_std**2).item()


@pytest.mark.parametrize("on", SCHEDULES)
@pytest.mark.parametrize("sampler", NOISY)
def test_the_variance_converges_in_the_order_claimed(sampler, on):
    errors = [spread(sampler, S, on) for S in (80, 160)]
    assert agrees(math.log2(errors[0] / errors[1]), sampler.order), errors


@pytest.mark.parametrize("name", ["unipc", "dpmpp-3m", "dpmpp-2m"])
@pytest.mark.parametrize("spacing", ["leading", "linear"])
@pytest.mark.parametrize("on", ["linear", "cosine", "scaled-linear", "sigmoid"])
def test_more_calls_come_nearer_where_the_last_step_is_wide(on, spacing, name):
    """The step to t = 1 is several times as wide as the one before: no polynomial may be extrapolated over it."""
    schedule = schedules.get(on)
    errors = []
    for S in (5, 8, 10, 14, 15, 20, 30, 50, 100):
        levels = levels_at(schedule, timesteps(schedule, S, spacing))
        *_, x = trajectory(get(name), mixture, START, levels)
        errors.append((x - flow_mixture(START, levels[0], levels[-1])).square().mean().sqrt().item())
    assert all(fine < coarse for coarse, fine in pairwise(errors)), errors
    assert errors[-1] < 0.01


def published_3m(denoise, x, levels):
    """DPM-Solver++(3M) as three libraries publish it (diffusers 0.42, k-diffusion 0.1, the authors' code).

    D2 = (D1_0 - D1_1) / (r0 + r1) is h^2 x0'' / 2, yet it is multiplied by alpha_s ((e^-h - 1 + h) / h^2 - 1 / 2),
    which is what the expansion has before h^2 x0''. Started here by exact values, so that nothing else is wrong.
    """
    lams = [(at.alpha / at.sigma).log() for at in levels]
    starts = [flow_mixture(x, levels[0], at) for at in levels[:3]]
    x0s = [denoise(start, at).x0 for start, at in zip(starts[:2], levels, strict=False)]
    x = starts[2]
    for n in range(2, len(levels) - 1):
        x0s.append(denoise(x, levels[n]).x0)
        m2, m1, m0 = x0s[-3:]
        h, h0, h1 = lams[n + 1] - lams[n], lams[n] - lams[n - 1], lams[n - 1] - lams[n - 2]
        r0, r1 = h0 / h, h1 / h
        d10, d11 = (m0 - m1) / r0, (m1 - m2) / r1
        d1, d2 = d10 + r0 / (r0 + r1) * (d10 - d11), (d10 - d11) / (r0 + r1)
        alpha, shrink = levels[n + 1].alpha, torch.exp(-h)
        x = levels[n + 1].sigma / levels[n].sigma * x - alpha * (shrink - 1) * m0
        x = x + alpha * ((shrink - 1) / h + 1) * d1 - alpha * ((shrink - 1 + h) / h**2 - 0.5) * d2
    return x


def test_3m_as_published_is_of_second_order_and_ours_of_third():
    theirs = [(published_3m(mixture, START, smooth(S)) - exact("mixture")).abs().max().item() for S in (80, 160)]
    ours = [error(DPMpp3M(), "mixture", S) for S in (80, 160)]
    assert math.log2(theirs[0] / theirs[1]) < 2.3
    assert math.log2(ours[0] / ours[1]) > 2.8
    assert ours[1] < theirs[1] / 10


@pytest.mark.parametrize("maker", [DPMpp3M, DEIS])
def test_the_corrected_start_is_worth_it(maker):
    """One order more at the same number of calls."""
    assert error(maker(), "mixture", 160) < error(maker(corrected=False), "mixture", 160) / 5


@pytest.mark.parametrize("maker", [DPMpp3M, UniPC, functools.partial(DEIS, 3, "lambda")])
def test_a_start_at_pure_noise_costs_no_order(maker):
    """The first step is DDIM's, from alpha = 0; the start after it is corrected as it is elsewhere."""
    sampler = maker()

    def end(S):
        levels = [FINE(float(FINE.T))._replace(alpha=torch.zeros(()).double()), *smooth(S, -2.0, 2.0)]
        return list(trajectory(sampler, gaussian, START, levels))[-1]

    exact = end(1280)  # the same first step, the rest far finer
    errors = [(end(S) - exact).abs().max() for S in (160, 320)]
    assert math.log2(errors[0] / errors[1]) > 2.8
