"""The step of DDIM against closed forms, against DDPM's posterior and against diffusers."""

import itertools
import math

import pytest
import torch
from diffusers import DDIMScheduler

from ddim import schedule
from ddim.errors import UserError
from ddim.level import Level, Prediction
from ddim.noise import ImageNoise
from ddim.predict import from_eps, from_x0
from ddim.samplers import DDIM, DDPM, get, names, trajectory
from ddim.timesteps import levels as levels_at
from ddim.timesteps import timesteps

LINEAR = schedule.linear()
ETAS = [0.0, 0.2, 0.5, 1.0]


def number(value):
    return torch.tensor([value], dtype=torch.float64)


def fixed(z):
    """A `Noise` that draws z."""
    return lambda x: z


def affine(sampler, denoise, at, to):
    """(gain, shift, injected) of a step that is affine: x_s = gain x_t + shift + injected z."""
    still, loud = (lambda x: torch.zeros_like(x)), (lambda x: torch.ones_like(x))

    def step(x, noise):
        return sampler.step(denoise, number(x), at, to, None, noise)[0].item()

    shift = step(0.0, still)
    return step(1.0, still) - shift, shift, step(0.0, loud) - shift


@pytest.mark.parametrize("t", [2, 3, 100, 999, 1000])
def test_eta_1_is_the_posterior_of_ddpm(t):
    """q(x_(t-1) | x_t, x_0), arXiv 2006.11239 Eqs. 6 and 7, written with its own letters."""
    beta, abar, before = LINEAR.betas[t].item(), LINEAR.alpha_bar[t].item(), LINEAR.alpha_bar[t - 1].item()
    x0 = 0.3
    gain, shift, injected = affine(DDPM(), lambda x, at: from_x0(x, at, number(x0)), LINEAR(t), LINEAR(t - 1))
    assert shift == pytest.approx(before**0.5 * beta / (1 - abar) * x0, rel=1e-8)
    assert gain == pytest.approx((1 - beta) ** 0.5 * (1 - before) / (1 - abar), rel=1e-8)
    assert injected**2 == pytest.approx((1 - before) / (1 - abar) * beta, rel=1e-8)


@pytest.mark.parametrize(("eta", "exact"), [("max", True), (1.0, False), (0.0, False)])
def test_eta_max_keeps_the_law_of_a_network_that_predicts_an_image(eta, exact):
    """x_s = alpha_s x_0 + sigma_s z with new noise: where x_0 has the law of images, x_s has that of level s.

    The network is the end of the flow of N(0, s^2), so that each of its predictions has the law N(0, s^2).
    """
    std, count = 0.4, 40_000

    def end(x, at):
        return from_x0(x, at, std * x / (at.alpha**2 * std**2 + at.sigma**2).sqrt())

    visited = levels_at(LINEAR, timesteps(LINEAR, None, [1000, 450, 275, 110]))
    noise = ImageNoise(3, range(1))
    x = noise(torch.empty(1, count, dtype=torch.float64))
    *_, found = trajectory(DDIM(eta), end, x, visited, noise)
    ratio = found.std().item() / std
    assert (abs(ratio - 1) < 4 / (2 * count) ** 0.5) == exact, ratio  # four standard errors


def test_names():
    assert set(names()) >= {"ddim", "ddpm"}
    for sampler in (get("ddpm"), DDPM(), get("ddim", eta=1.0)):
        assert isinstance(sampler, DDIM)
        assert sampler.eta == 1


@pytest.mark.parametrize("eta", [*ETAS, "hat"])
@pytest.mark.parametrize("spacing", ["trailing", "quadratic", "log-snr"])
def test_on_a_point_mass_the_marginal_is_exact_at_every_level(eta, spacing):
    """Data that is one image c: x_t ~ N(alpha c, sigma^2) stays so at all levels. Sigma-hat injects more."""
    c = -0.7
    at, *rest = levels_at(LINEAR, timesteps(LINEAR, 12, spacing))
    mean, variance = at.alpha.item() * c, at.sigma.item() ** 2
    for to in rest:
        gain, shift, injected = affine(DDIM(eta), lambda x, at: from_x0(x, at, number(c)), at, to)
        mean, variance = gain * mean + shift, gain**2 * variance + injected**2
        assert mean == pytest.approx(to.alpha.item() * c, abs=1e-12)
        if eta == "hat" and to.sigma > 0:
            assert variance > to.sigma.item() ** 2
        else:
            assert variance == pytest.approx(to.sigma.item() ** 2, abs=1e-12)
        at, variance = to, to.sigma.item() ** 2


def gaussian_recursion(levels, m, s, eta):
    """Mean and variance at t = 0 that DDIM's formulas give by hand for data N(m, s^2), from x_T ~ N(0, 1)."""
    mean, variance = 0.0, 1.0
    for (_, a, b), (_, a_, b_) in itertools.pairwise(levels):  # a, b: alpha and sigma here; a_, b_: next
        total = a * a * s * s + b * b
        std = eta * b_ / b * math.sqrt(1 - (a / a_) ** 2)  # for alpha^2 + sigma^2 = 1: 1 - abar_t / abar_s
        gain = a_ * a * s * s / total + math.sqrt(max(b_ * b_ - std * std, 0)) * b / total
        mean = a_ * m + gain * (mean - a * m)
        variance = gain**2 * variance + std * std
    return mean, variance


@pytest.mark.parametrize("eta", ETAS)
def test_on_a_gaussian_samples_follow_the_recursion(gaussian, eta):
    m, s, count = 0.4, 0.3, 4000
    levels = levels_at(LINEAR, timesteps(LINEAR, 10))
    mean, variance = gaussian_recursion([tuple(v.item() for v in level) for level in levels], m, s, eta)
    noise = ImageNoise(0, range(count))
    x = noise(torch.empty(count, 1, 5, 5, dtype=torch.float64))
    *_, x = trajectory(DDIM(eta), gaussian(m, s), x, levels, noise)
    number_of_pixels = 25 * count
    assert abs(x.mean().item() - mean) < 5 * math.sqrt(variance / number_of_pixels)
    assert abs(x.var().item() / variance - 1) < 5 * math.sqrt(2 / number_of_pixels)


@pytest.mark.parametrize("eta", ETAS)
def test_on_a_gaussian_the_error_falls_in_proportion_to_the_step(eta):
    m, s = 0.4, 0.3
    errors = []
    for S in (125, 250, 500, 1000):
        levels = [tuple(v.item() for v in level) for level in levels_at(LINEAR, timesteps(LINEAR, S))]
        mean, variance = gaussian_recursion(levels, m, s, eta)
        errors.append(abs(variance**0.5 - s))
        assert abs(mean - m) < 0.02
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert errors[-1] < 0.01
    assert orders[-1] > 0.8, (errors, orders)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize(("spacing", "S"), [("leading", 10), ("leading", 50), ("trailing", 7), ("trailing", 50)])
def test_same_steps_as_diffusers(eta, clip, spacing, S):
    """The whole trajectory, step by step, with the same noise; float64 images, their float32 tables."""
    peer = DDIMScheduler(
        timestep_spacing=spacing, clip_sample=clip, set_alpha_to_one=True, beta_start=1e-4, beta_end=0.02
    )
    peer.alphas_cumprod = LINEAR.alpha_bar[1:]  # the same table, in float64
    peer.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    peer.set_timesteps(S)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=rng)

    def eps_of(x, t):  # any function will do: both see the same
        return torch.tanh(x * 1.3 + math.sin(t))

    def denoise(x, at):
        prediction = from_eps(x, at, eps_of(x, at.t.item() - 1))
        return from_x0(x, at, prediction.x0.clamp(-1, 1)) if clip else prediction

    drawn = torch.randn(S, *x.shape, dtype=torch.float64, generator=rng)
    ours = theirs = x
    # Their previous time is t - T // S, on any timesteps.
    levels = levels_at(LINEAR, torch.cat([peer.timesteps + 1, torch.zeros(1)]).double())
    for k, t in enumerate(peer.timesteps):
        to = levels[k + 1] if t - 1000 // S < 0 else LINEAR(t + 1 - 1000 // S)
        ours, _ = DDIM(eta).step(denoise, theirs, levels[k], to, None, fixed(drawn[k]))
        theirs = peer.step(
            eps_of(theirs, t.item()), t, theirs, eta=eta, use_clipped_model_output=True, variance_noise=drawn[k]
        ).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("S", [10, 20, 50, 100])
def test_same_trajectory_as_diffusers(S):
    """From x_T to x_0 in one go, where S divides T and so their previous time agrees with their own grid."""
    peer = DDIMScheduler(timestep_spacing="leading", clip_sample=False, beta_start=1e-4, beta_end=0.02)
    peer.set_timesteps(S)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    levels = levels_at(LINEAR, timesteps(LINEAR, S, "leading"))
    *_, ours = trajectory(DDIM(), lambda x, at: from_eps(x, at, torch.tanh(x)), x, levels)
    for t in peer.timesteps:
        x = peer.step(torch.tanh(x), t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-6 * x.abs().max().item())  # their table is float32


@pytest.mark.parametrize("eta", [*ETAS, "hat"])
def test_the_last_step_injects_nothing(eta):
    std, injected = DDIM(eta).std(LINEAR(100), LINEAR(0))
    assert std == injected == 0


def test_sigma_hat():
    std, injected = DDIM("hat").std(LINEAR(800), LINEAR(600))
    assert std == DDIM(1.0).std(LINEAR(800), LINEAR(600))[0]
    torch.testing.assert_close(injected, (1 - LINEAR.alpha_bar[800] / LINEAR.alpha_bar[600]).sqrt())


def test_one_step_from_T_returns_the_predicted_image():
    x = torch.randn(2, 1, 4, 4)
    (only,) = trajectory(DDIM(), lambda x, at: Prediction(x * 0 + 0.5, x), x, levels_at(LINEAR, timesteps(LINEAR, 1)))
    assert torch.equal(only, torch.full_like(x, 0.5))


def test_on_a_schedule_that_is_not_variance_preserving():
    """EDM's levels, alpha = 1 and any sigma: the point mass is exact there too, for every eta."""
    levels = [Level(*(torch.tensor(v, dtype=torch.float64) for v in (s, 1.0, s))) for s in (80.0, 10.0, 2.0, 0.1, 0.0)]
    for eta in ETAS:
        variance = 80.0**2
        for at, to in itertools.pairwise(levels):
            gain, _, injected = affine(DDIM(eta), lambda x, at: from_x0(x, at, number(0.0)), at, to)
            variance = gain**2 * variance + injected**2
            assert variance == pytest.approx(to.sigma.item() ** 2, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("eta", [0.0, 0.5, "hat"])
def test_one_level_per_image_moves_each_image_by_itself(eta):
    """A batch whose images are at different levels moves as each would alone, and stays in its dtype."""
    starts, ends = torch.tensor([900.0, 500.0, 20.5]), torch.tensor([400.0, 499.0, 0.0])
    x, z = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    denoise = lambda x, at: from_eps(x, at, torch.tanh(x))  # noqa: E731
    (together,) = trajectory(DDIM(eta), denoise, x, [LINEAR(starts), LINEAR(ends)], lambda x: z)
    assert together.dtype == torch.float32
    for i in range(3):
        levels = [LINEAR(starts[i]), LINEAR(ends[i])]
        (alone,) = trajectory(DDIM(eta), denoise, x[i : i + 1], levels, fixed(z[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_gradients_flow_through_a_trajectory():
    """The derivative of x_0 by x_T and by a weight of the network, against finite differences."""
    levels = levels_at(LINEAR, timesteps(LINEAR, 5))
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    z = torch.randn(5, 1, 1, 2, 2, dtype=torch.float64)

    def end(x, weight):
        draws = iter(z)
        *_, x0 = trajectory(
            DDIM(0.5), lambda x, at: from_eps(x, at, torch.tanh(weight * x)), x, levels, lambda x: next(draws)
        )
        return x0

    assert torch.autograd.gradcheck(end, (x, weight))


def test_a_stochastic_sampler_needs_noise():
    levels = levels_at(LINEAR, timesteps(LINEAR, 5))
    with pytest.raises(UserError, match="noise"):
        trajectory(DDPM(), lambda x, at: from_eps(x, at, x), torch.zeros(1, 1, 2, 2), levels)


def test_a_trajectory_needs_two_levels():
    with pytest.raises(UserError, match="two levels"):
        trajectory(DDIM(), lambda x, at: from_eps(x, at, x), torch.zeros(1, 1, 2, 2), [LINEAR(5)])


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan, "hut", None])
def test_impossible_eta(eta):
    with pytest.raises(UserError, match="eta"):
        DDIM(eta)


def test_unknown_sampler_and_option():
    with pytest.raises(UserError, match="choose one of ddim"):
        get("euler")
    with pytest.raises(UserError, match="does not take eta"):
        get("ddpm", eta=0.5)


@pytest.mark.parametrize("S", [1, 3, 7, 50])
def test_calls_are_counted(S):
    levels = levels_at(LINEAR, timesteps(LINEAR, S))
    calls = []

    def denoise(x, at):
        calls.append(at.t.item())
        return from_eps(x, at, x)

    steps = list(trajectory(DDIM(), denoise, torch.zeros(1, 1, 2, 2), levels))
    assert len(calls) == len(steps) == DDIM().calls(levels) == S
    assert 0 not in calls
