"""What a solver must do without any error, and which solvers are one and the same."""

import itertools
import math

import numpy as np
import pytest
import torch
from closed import FINE, START, mixture, smooth

from ddim import schedule
from ddim.errors import UserError
from ddim.level import Level
from ddim.predict import from_eps, from_x0
from ddim.samplers import (
    DDIM,
    DDPM,
    DEIS,
    DPM2,
    ERSDE,
    IPNDM,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    Heun,
    UniPC,
    get,
    names,
    trajectory,
)
from ddim.samplers.multistep import integration_weights, phi
from ddim.timesteps import levels as levels_at
from ddim.timesteps import timesteps

LINEAR = schedule.linear()
GAUSS = np.polynomial.legendre.leggauss(80)


def silent(x):
    return torch.zeros_like(x)


def polynomial(variable, degree):
    """The function of a level that this polynomial in t / T, lambda or rho is."""
    of = {
        "t": lambda at: at.t / FINE.T,
        "lambda": lambda at: (at.alpha / at.sigma).log(),
        "rho": lambda at: at.sigma / at.alpha,
    }[variable]
    return lambda at: sum((k + 1) * (of(at) - 0.3) ** k for k in range(degree + 1))


@pytest.mark.parametrize(
    ("sampler", "space", "variable", "degree"),
    [
        (DPMpp3M(), "x0", "lambda", 2),
        (UniPC(3, corrector=False), "x0", "lambda", 2),
        (DEIS(2, "lambda"), "eps", "lambda", 1),
        (DEIS(3, "lambda"), "eps", "lambda", 2),
        (DEIS(4, "lambda"), "eps", "lambda", 3),
        (DEIS(2), "eps", "t", 1),
        (DEIS(3), "eps", "t", 2),
        (DEIS(4), "eps", "t", 3),
        (IPNDM(), "eps", "rho", 3),
    ],
    ids=str,
)
def test_a_polynomial_is_integrated_exactly(sampler, space, variable, degree):
    """If the prediction is a polynomial along the trajectory, the step is its integral, here by quadrature."""
    ends = (math.exp(1.0), math.exp(-1.0))
    rho = torch.linspace(*ends, 31, dtype=torch.float64) if variable == "rho" else None
    levels = smooth(30) if rho is None else [FINE.at_log_snr(-2 * value.log()) for value in rho]
    y = polynomial(variable, degree)

    def denoise(x, at):
        value = torch.zeros_like(x) + y(at)
        return from_x0(x, at, value) if space == "x0" else from_eps(x, at, value)

    xs = [
        torch.zeros(1, dtype=torch.float64),
        *trajectory(sampler, denoise, torch.zeros(1).double(), levels, None, FINE),
    ]
    for n in (5, 20, 29):
        (_, a, s), (_, b, r) = levels[n], levels[n + 1]
        low, high = (a / s).log(), (b / r).log()
        lams = (high - low) / 2 * torch.as_tensor(GAUSS[0] + 1) + low
        on = FINE.at_log_snr(2 * lams)
        on = Level(*(value.flatten() for value in on))
        kernel = r * lams.exp() if space == "x0" else -b * (-lams).exp()
        integral = ((high - low) / 2 * torch.as_tensor(GAUSS[1]) * kernel * y(on)).sum()
        carried = (r / s if space == "x0" else b / a) * xs[n]
        assert (xs[n + 1] - carried).item() == pytest.approx(integral.item(), rel=2e-6 if variable == "t" else 1e-9)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("z", [-30.0, -1.01, -0.99, -1e-3, 0.0, 1e-6, 0.99, 1.01, 12.0])
def test_phi_is_its_integral(k, z):
    u, mass = (GAUSS[0] + 1) / 2, GAUSS[1] / 2
    integral = np.sum(mass * np.exp((1 - u) * z) * u ** (k - 1)) / math.factorial(k - 1)
    assert phi(k, z) == pytest.approx(integral, rel=1e-12)


def test_the_weights_solve_the_moment_equations():
    nodes, moments = [-1.3, -0.4, 1.0], [0.7, 0.2, -0.5]
    weights = integration_weights(nodes, moments)
    for k, moment in enumerate(moments, 1):
        assert sum(w * r**k for w, r in zip(weights, nodes, strict=True)) == pytest.approx(moment, rel=1e-12)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("spacing", ["trailing", "quadratic", "log-snr"])
def test_a_point_mass_is_reached_exactly(name, spacing):
    """Data that is one image c: the deterministic ones follow x = alpha c + sigma eps, all end at c."""
    c = -0.7
    levels = levels_at(LINEAR, timesteps(LINEAR, 12, spacing))
    eps = torch.tensor([[0.3], [-1.2]], dtype=torch.float64).reshape(2, 1, 1, 1)
    x = levels[0].alpha * c + levels[0].sigma * eps
    sampler, denoise = get(name), lambda x, at: from_x0(x, at, torch.full_like(x, c))
    steps = trajectory(sampler, denoise, x, levels, torch.randn_like, LINEAR)
    for y, at in zip(steps, levels[1:], strict=True):
        if not sampler.stochastic:
            torch.testing.assert_close(y, at.alpha * c + at.sigma * eps, rtol=0, atol=1e-12)
    torch.testing.assert_close(y, torch.full_like(x, c), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", names())
def test_the_way_up_is_exact_on_a_point_mass_too(name):
    """No noise is removed towards noisier levels, so none is injected, and the marginal is kept."""
    c, x = -0.7, torch.tensor([0.3, -1.2], dtype=torch.float64).reshape(2, 1, 1, 1)
    levels = [LINEAR(t) for t in (100.0, 300.0, 300.0, 620.0, 900.0)]
    sampler, denoise = get(name), lambda x, at: from_x0(x, at, torch.full_like(x, c))
    start = levels[0].alpha * c + levels[0].sigma * x
    steps = trajectory(sampler, denoise, start, levels, torch.randn_like, LINEAR)
    for y, at in zip(steps, levels[1:], strict=True):
        torch.testing.assert_close(y, at.alpha * c + at.sigma * x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", names())
def test_one_step_from_T_is_the_predicted_image(name):
    x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = levels_at(LINEAR, timesteps(LINEAR, 1))
    (only,) = trajectory(get(name), mixture, x, levels, silent, LINEAR)
    torch.testing.assert_close(only, mixture(x, levels[0]).x0, rtol=0, atol=1e-13)


FIRST = [UniPC(1, corrector=False), UniPC(1, "bh1", corrector=False), DEIS(1), DEIS(1, "lambda")]


@pytest.mark.parametrize("same", FIRST, ids=str)
def test_first_order_is_ddim(same):
    """Whatever is interpolated, through one point it is DDIM."""
    levels = smooth(8)
    *_, x = trajectory(same, mixture, START, levels, None, FINE)
    *_, ddim = trajectory(DDIM(), mixture, START, levels)
    torch.testing.assert_close(x, ddim, rtol=0, atol=1e-13)


def test_the_first_step_of_the_sde_is_ddpm():
    levels, noise = smooth(1), lambda x: torch.full_like(x, 0.7)
    (x,) = trajectory(get("dpmpp-2m-sde"), mixture, START, levels, noise)
    (ddpm,) = trajectory(DDPM(), mixture, START, levels, noise)
    torch.testing.assert_close(x, ddpm, rtol=0, atol=1e-13)


def test_from_pure_noise_the_sde_draws_its_noise_anew():
    """As DDPM does: where alpha = 0 nothing of x_t is kept."""
    levels = [LINEAR(1000.0)._replace(alpha=torch.zeros(()).double()), LINEAR(600.0)]
    denoise = lambda x, at: from_x0(x, at, torch.tanh(x))  # noqa: E731
    (x,) = trajectory(get("dpmpp-2m-sde"), denoise, START, levels, lambda x: torch.full_like(x, 0.7))
    (ddpm,) = trajectory(DDPM(), denoise, START, levels, lambda x: torch.full_like(x, 0.7))
    torch.testing.assert_close(x, ddpm, rtol=0, atol=1e-13)


def test_deis_does_not_correct_before_the_step_that_shows_x0():
    """DDIM's step to t = 0 shows the x0 of the image that it starts from: a change there comes out / alpha."""
    levels = levels_at(LINEAR, timesteps(LINEAR, 2))
    ends = [list(trajectory(DEIS(3, corrected=c), mixture, START, levels, None, LINEAR))[-1] for c in (True, False)]
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (UniPC(2, corrector=False), DPMpp2M()),
        (UniPC(3, corrector=False), DPMpp3M(corrected=False)),
    ],
    ids=str,
)
def test_two_names_of_one_solver(first, second):
    """UniP-2 with bh2 is DPM-Solver++(2M); UniP-3 is (3M) with the coefficient of its expansion."""
    levels = smooth(20)
    ends = [list(trajectory(sampler, mixture, START, levels, None, FINE))[-1] for sampler in (first, second)]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-11)


def test_a_churn_that_reaches_no_level_is_no_churn():
    levels = smooth(10)
    *_, still = trajectory(Heun(), mixture, START, levels)
    *_, outside = trajectory(Heun(churn=20, churn_to=100.0), mixture, START, levels, torch.randn_like, FINE)
    *_, inside = trajectory(Heun(churn=20), mixture, START, levels, torch.randn_like, FINE)
    torch.testing.assert_close(outside, still, rtol=0, atol=1e-13)
    assert (inside - still).abs().max() > 1e-3
    with pytest.raises(UserError, match="give a larger churn_from"):
        Heun(churn=20, churn_from=0.1, churn_to=2.0)


@pytest.mark.parametrize("name", names())
def test_at_edm_s_levels_the_trajectory_is_the_same(name):
    """alpha = 1 and sigma = rho, as EDM has it: x / alpha moves alike, for all solvers."""
    levels = smooth(9) if name in ("deis", "pndm") else [*smooth(9), FINE(0.0)]
    flat = [Level(at.t, torch.ones_like(at.alpha), at.sigma / at.alpha) for at in levels]

    def scaled(x, at):
        return from_x0(x, at, torch.tanh(x / at.alpha + at.sigma / at.alpha))

    torch.manual_seed(0)
    *_, on = trajectory(get(name), scaled, START * levels[0].alpha, levels, torch.randn_like, FINE)
    torch.manual_seed(0)
    *_, off = trajectory(get(name), scaled, START, flat, torch.randn_like, FINE)
    torch.testing.assert_close(on / levels[-1].alpha, off, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", names())
def test_no_noise_in_the_step_to_the_clean_image(name):
    at_rest = [LINEAR(5.0), LINEAR(0.0)]
    *_, loud = trajectory(get(name), mixture, START, at_rest, lambda x: torch.full_like(x, 1e6), LINEAR)
    *_, quiet = trajectory(get(name), mixture, START, at_rest, silent, LINEAR)
    assert torch.equal(loud, quiet)


@pytest.mark.parametrize(("solver", "space"), [(DPM2(), "eps"), (DPMpp2S(), "x0")], ids=str)
def test_singlestep_is_the_midpoint_rule(solver, space):
    """In the letters of the papers: Algorithm 1 of arXiv 2206.00927 and of arXiv 2211.01095, r = 1/2."""
    for at, to in itertools.pairwise(smooth(4)):
        low, high = ((level.alpha / level.sigma).log() for level in (at, to))
        h, middle = high - low, FINE.at_log_snr(low + high)
        first = mixture(START, at)
        if space == "eps":
            u = middle.alpha / at.alpha * START - middle.sigma * torch.expm1(h / 2) * first.eps
            x = to.alpha / at.alpha * START - to.sigma * torch.expm1(h) * mixture(u, middle).eps
        else:
            u = middle.sigma / at.sigma * START - middle.alpha * torch.expm1(-h / 2) * first.x0
            x = to.sigma / at.sigma * START - to.alpha * torch.expm1(-h) * mixture(u, middle).x0
        (ours,) = trajectory(solver, mixture, START, [at, to], None, FINE)
        torch.testing.assert_close(ours, x, rtol=0, atol=1e-12)


def er_phi(rho):
    return rho * (torch.exp(rho**0.3) + 10)


def riemann(low, high, power, terms):
    """int (rho - high)^power / phi d rho from low to high, as a left Riemann sum."""
    rho = low + torch.arange(terms, dtype=torch.float64) / terms * (high - low)
    return ((rho - high) ** power / er_phi(rho)).sum() * (high - low) / terms


@pytest.mark.parametrize("terms", [100, 1_000_000])
def test_er_sde_is_its_taylor_formula(terms):
    """ER-SDE-Solver-2 as published, where its integral is a sum of 100 terms: finer sums come nearer to ours."""
    levels = [Level(at.t, torch.ones_like(at.alpha), at.sigma / at.alpha) for at in smooth(16)]
    z = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(START.shape)
    x, before, off = START, None, []
    ours = trajectory(ERSDE(2), mixture, START, levels, lambda x: z)
    for n, (at, to) in enumerate(itertools.pairwise(levels)):
        x0, q = mixture(x, at).x0, er_phi(to.sigma) / er_phi(at.sigma)
        new = q * x + (1 - q) * x0 + (to.sigma**2 - (q * at.sigma) ** 2).sqrt() * z
        if before is not None:
            slope = (x0 - before) / (at.sigma - levels[n - 1].sigma)
            integral = riemann(to.sigma, at.sigma, 0, terms)
            new = new + (to.sigma - at.sigma + er_phi(to.sigma) * integral) * slope
        x, before = new, x0
        off.append((next(ours) - x).abs().max())
    assert (max(off) < 1e-6) == (terms > 100)
    assert max(off) < 1e-2


def test_er_sde_integrates_a_parabola_of_rho_exactly():
    """Three nodes and x0 of second degree: the step is int phi_s phi' / phi^2 x0 d rho, here by a fine sum."""
    levels = [Level(at.t, torch.ones_like(at.alpha), at.sigma / at.alpha) for at in smooth(16)]
    y = polynomial("rho", 2)
    zero = torch.zeros(1, dtype=torch.float64)
    xs = [zero, *trajectory(ERSDE(3), lambda x, at: from_x0(x, at, zero + y(at)), zero, levels, silent)]
    for n in (5, 15):
        low, high = levels[n + 1].sigma, levels[n].sigma
        edges = torch.linspace(float(low), float(high), 200_001, dtype=torch.float64)
        middles = (edges[1:] + edges[:-1]) / 2
        x0 = y(Level(middles, torch.ones_like(middles), middles))
        integral = er_phi(low) * (x0 * -(1 / er_phi(edges)).diff()).sum()  # phi' / phi^2 = -(1 / phi)'
        carried = er_phi(low) / er_phi(high) * xs[n]
        assert (xs[n + 1] - carried).item() == pytest.approx(integral.item(), rel=1e-8)
