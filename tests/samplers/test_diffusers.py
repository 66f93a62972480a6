"""The same trajectories as diffusers, step by step, where it implements the same method, and where it does not.

Their schedulers get our tables in float64 and use their own timesteps, which ours follow. Those that compute in
float32 anyway are compared to 1e-5 of the largest value, the others to 1e-10.
"""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import (
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    HeunDiscreteScheduler,
    IPNDMScheduler,
    KDPM2DiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from ddim import schedule
from ddim.level import Level
from ddim.predict import from_eps, from_v
from ddim.samplers import (
    DEIS,
    DPM2,
    DPM3,
    IPNDM,
    PLMS,
    PNDM,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    Heun,
    UniPC,
    multistep,
    trajectory,
)
from ddim.timesteps import levels as levels_at

LINEAR = schedule.linear()
BETAS = {"beta_start": 1e-4, "beta_end": 0.02}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
X = torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def eps_of(x, t):
    """Any function will do: both see the same."""
    return torch.tanh(x * 1.3 + math.sin(t))


def ours(sampler, levels, noise=None):
    def denoise(x, at):
        return from_eps(x, at, eps_of(x, at.t.item() - 1))

    return list(trajectory(sampler, denoise, X, levels, noise, LINEAR))


def close(a, b, tolerance):
    largest = max(x.abs().max().item() for x in b)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance * largest)


def on_sigmas(peer, S, final=0.0):
    """The peer on its own times with our sigma / alpha, and our levels at these times."""
    peer.set_timesteps(S)
    times = (peer.timesteps + 1).double()
    levels = [LINEAR(t) for t in times] + [LINEAR(final)]
    peer.sigmas = torch.stack([at.sigma / at.alpha for at in levels])
    return levels


def theirs(peer, x=X, **options):
    steps = []
    for t in peer.timesteps:
        x = peer.step(eps_of(x, t.item()), t, x, **options).prev_sample
        steps.append(x)
    return steps


@pytest.mark.parametrize("S", [5, 7, 10, 20, 50])
def test_plms(S):
    """From 5 steps on: below, their first step is too long for a second call to help; ours starts as iPNDM."""
    peer = PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=True, **BETAS)
    peer.alphas_cumprod, peer.final_alpha_cumprod = LINEAR.alpha_bar[1:], LINEAR.alpha_bar[0]
    peer.set_timesteps(S)
    times = sorted({t.item() + 1 for t in peer.timesteps}, reverse=True)
    levels = [*levels_at(LINEAR, torch.tensor(times, dtype=torch.float64)), LINEAR(0.0)]
    steps = theirs(peer)
    close(ours(PLMS(), levels), steps[1:], 1e-10)  # their first step is two


@pytest.mark.parametrize("S", [10, 20, 50])
def test_pndm(S):
    peer = PNDMScheduler(skip_prk_steps=False, set_alpha_to_one=True, **BETAS)
    peer.alphas_cumprod, peer.final_alpha_cumprod = LINEAR.alpha_bar[1:], LINEAR.alpha_bar[0]
    peer.set_timesteps(S)
    levels = [LINEAR(1.0 + k * (1000 // S)) for k in reversed(range(S))] + [LINEAR(0.0)]
    steps = theirs(peer)
    close(ours(PNDM(), levels), [*steps[3:12:4], *steps[12:]], 1e-10)


@pytest.mark.parametrize("S", [1, 2, 4, 10, 30])
def test_ipndm(S):
    """Their network says v, and their table is float32."""
    rates = torch.linspace(0.99, 0, S + 1).tolist()
    peer = IPNDMScheduler(trained_betas=rates)
    peer.set_timesteps(S)
    levels = [
        Level(t, alpha.double(), sigma.double())
        for t, alpha, sigma in zip(torch.arange(S, -1, -1.0), peer.alphas, peer.betas, strict=True)
    ]
    steps, x = [], X
    for t in peer.timesteps:
        x = peer.step(torch.tanh(x), t, x).prev_sample
        steps.append(x)
    close(list(trajectory(IPNDM(), lambda x, at: from_v(x, at, torch.tanh(x)), X, levels)), steps, 1e-6)


@pytest.mark.parametrize("S", [1, 2, 3, 5, 10, 14, 15, 30])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpmpp_multistep(S, order):
    """Their 3M has its published coefficient, half of the right one: the steps that use it differ."""
    peer = DPMSolverMultistepScheduler(solver_order=order, **BETAS)
    levels = on_sigmas(peer, S)
    sampler = {1: UniPC(1, corrector=False), 2: DPMpp2M(), 3: DPMpp3M(corrected=False)}[order]
    mine, other = ours(sampler, levels), theirs(peer)
    third = (4 if S < 15 else 3) - 1 < S if order == 3 else False
    if not third:
        close(mine, other, 1e-5)
        return
    close(mine[:2], other[:2], 1e-5)
    largest = max(x.abs().max().item() for x in other)
    assert (mine[2] - other[2]).abs().max() > 1e-5 * largest


def test_dpmpp_3m_with_their_coefficient_doubled_is_ours():
    """That coefficient alone separates the two: their third-order term, added once more, makes the step ours."""
    peer = DPMSolverMultistepScheduler(solver_order=3, **BETAS)
    levels = on_sigmas(peer, 20)
    update = peer.multistep_dpm_solver_third_order_update

    def doubled(outputs, sample, noise=None):
        n = peer.step_index
        lam = [(at.alpha / at.sigma).log() for at in levels[n - 2 : n + 2]]
        h, h0, h1 = lam[3] - lam[2], lam[2] - lam[1], lam[1] - lam[0]
        m2, m1, m0 = outputs[-3:]
        second = ((m0 - m1) * h / h0 - (m1 - m2) * h / h1) / (h0 + h1) * h
        coefficient = -levels[n + 1].alpha * ((torch.exp(-h) - 1 + h) / h**2 - 0.5)
        return update(outputs, sample=sample, noise=noise) + coefficient * second

    peer.multistep_dpm_solver_third_order_update = doubled
    close(ours(DPMpp3M(corrected=False), levels), theirs(peer), 1e-5)


@pytest.mark.parametrize("S", [1, 2, 5, 14, 15, 30])
def test_dpmpp_2m_sde(S):
    peer = DPMSolverMultistepScheduler(solver_order=2, algorithm_type="sde-dpmsolver++", **BETAS)
    levels = on_sigmas(peer, S)
    z = torch.linspace(-1, 1, X.numel(), dtype=torch.float64).reshape(X.shape)
    close(ours(DPMpp2M(1.0), levels, noise=lambda x: z), theirs(peer, variance_noise=z), 1e-5)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("S", [2, 3, 5, 10, 14])
def test_unipc(S, order, variant):
    peer = UniPCMultistepScheduler(solver_order=order, solver_type=variant, final_sigmas_type="zero", **BETAS)
    mine, other = ours(UniPC(order, variant), on_sigmas(peer, S)), theirs(peer)
    if variant == "bh1":  # their B(h) = h is infinite in the step to 0, and times 0: no number
        assert other.pop().isnan().all()
        assert mine.pop().isfinite().all()
    close(mine, other, 1e-10)


@pytest.mark.parametrize("order", [2, 3])
def test_unipc_of_many_steps(order):
    """From 15 steps on they lower the last orders too, which is meant for few steps; with that off, they agree."""
    peer = UniPCMultistepScheduler(solver_order=order, final_sigmas_type="sigma_min", lower_order_final=False, **BETAS)
    levels = on_sigmas(peer, 30, final=20.0)
    close(ours(UniPC(order), levels), theirs(peer), 1e-10)


@pytest.mark.parametrize("corrector", [True, False])
def test_unipc_without_corrector(corrector):
    off = [] if corrector else list(range(20))
    peer = UniPCMultistepScheduler(solver_order=3, disable_corrector=off, **BETAS)
    close(ours(UniPC(3, corrector=corrector), on_sigmas(peer, 10)), theirs(peer), 1e-10)


@pytest.mark.parametrize("order", [2, 3])
def test_they_extrapolate_over_a_wide_last_step(order, monkeypatch):
    """From t = 34 to t = 0.5 the step is several times as wide as the one before: ours is DDIM there."""
    peer = UniPCMultistepScheduler(solver_order=order, final_sigmas_type="sigma_min", lower_order_final=False, **BETAS)
    levels = on_sigmas(peer, 30, final=0.5)
    mine, other = ours(UniPC(order), levels), theirs(peer)
    close(mine[:-1], other[:-1], 1e-10)
    assert (mine[-1] - other[-1]).abs().max() > 1e-8 * other[-1].abs().max()
    monkeypatch.setattr(multistep, "MAX_EXTRAPOLATION", math.inf)  # that alone separates the two
    close(ours(UniPC(order), levels), other, 1e-10)


@pytest.mark.parametrize("S", [2, 5, 14, 20])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis(S, order):
    """Their polynomial is one in log(sigma / alpha), not in time as the paper's tAB-DEIS (arXiv 2204.13902)."""
    peer = DEISMultistepScheduler(solver_order=order, **BETAS)
    levels = on_sigmas(peer, S, final=0.5)
    close(ours(DEIS(order, "lambda", corrected=False), levels), theirs(peer), 1e-10)


@pytest.mark.parametrize("S", [2, 5, 20])
def test_heun(S):
    """They compute with x / alpha."""
    peer = HeunDiscreteScheduler(**BETAS)
    peer.set_timesteps(S)
    times = peer.timesteps[[0, *range(1, len(peer.timesteps), 2)]] + 1
    flat = [Level(at.t, torch.ones_like(at.alpha), at.sigma / at.alpha) for at in levels_at(LINEAR, times.double())]
    flat.append(Level(*(torch.tensor(v, dtype=torch.float64) for v in (0.0, 1.0, 0.0))))
    sigmas = torch.stack([at.sigma for at in flat])
    peer.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    steps = theirs(peer)
    close(ours(Heun(), flat), [*steps[1::2], steps[-1]], 1e-10)


@pytest.mark.parametrize(("sampler", "kind"), [(DPMpp2S(), "dpmsolver++"), (DPM2(), "dpmsolver")], ids=str)
def test_singlestep_of_second_order(sampler, kind):
    """Every second level of theirs is midway in lambda between its neighbours: there ours has an inner stage."""
    peer = DPMSolverSinglestepScheduler(
        solver_order=2, algorithm_type=kind, final_sigmas_type="sigma_min", lower_order_final=False, **BETAS
    )
    peer.set_timesteps(10)
    levels = [LINEAR(t) for t in (999.0, 700.0, 420.0, 200.0, 90.0, 20.0)]
    inner = [LINEAR.at_log_snr((a.alpha / a.sigma).log() + (b.alpha / b.sigma).log()) for a, b in pairwise(levels)]
    both = [at for pair in zip(levels, inner, strict=False) for at in pair] + levels[-1:]
    peer.sigmas = torch.stack([at.sigma / at.alpha for at in both])
    steps, x = [], X
    peer.set_begin_index(0)
    for at, t in zip(both, peer.timesteps, strict=False):
        x = peer.step(eps_of(x, at.t.item() - 1), t, x).prev_sample
        steps.append(x)
    close(ours(sampler, levels), steps[1::2], 1e-10)


def test_dpm_2_in_edm_coordinates():
    """Their KDPM2 is DPM-Solver-2 where alpha = 1: the midpoint of log sigma, the slope there."""
    peer = KDPM2DiscreteScheduler(**BETAS)
    peer.set_timesteps(6)
    sigmas = torch.tensor([12.0, 5.0, 2.5, 1.0, 0.3, 0.1, 0.0], dtype=torch.float64)
    middles = sigmas.log().lerp(sigmas.roll(1).log(), 0.5).exp()
    for name, values in (("sigmas", sigmas), ("sigmas_interpol", middles)):
        setattr(peer, name, torch.cat([values[:1], values[1:].repeat_interleave(2), values[-1:]]))
    peer.set_begin_index(0)
    x, steps = X, []
    for t in peer.timesteps:
        x = peer.step(torch.tanh(x), t, x).prev_sample
        steps.append(x)
    flat = [Level(sigma, torch.ones_like(sigma), sigma) for sigma in sigmas]

    def denoise(x, at):  # the inner level is variance preserving; their network sees x / alpha
        return from_eps(x, at, torch.tanh(x / at.alpha))

    mine = list(trajectory(DPM2(), denoise, X, flat, None, LINEAR))
    close(mine, [*steps[1::2], steps[-1]], 1e-10)


def test_their_singlestep_of_third_order_has_another_second_stage():
    """DPM-Solver-3 has u_2 = DDIM - sigma (r_2 / r_1) r_2 h phi_2(r_2 h) D_1 (arXiv 2206.00927, Algorithm 2).

    They take their second-order step there, with (e^(r_2 h) - 1) / 2 in place of r_2 h phi_2: of the same order,
    but not the paper's. Their first stage is ours, and their last line is the paper's too, given its u_2.
    """
    peer = DPMSolverSinglestepScheduler(
        solver_order=3, algorithm_type="dpmsolver", final_sigmas_type="sigma_min", lower_order_final=False, **BETAS
    )
    peer.set_timesteps(3)
    at, to = LINEAR(700.0), LINEAR(300.0)
    low, high = ((level.alpha / level.sigma).log() for level in (at, to))
    one, two = (LINEAR.at_log_snr(2 * (low + r * (high - low))) for r in (1 / 3, 2 / 3))
    peer.sigmas = torch.stack([level.sigma / level.alpha for level in (at, one, two, to)])
    peer.set_begin_index(0)
    seen = []

    def denoise(x, level):
        seen.append(x)
        return from_eps(x, level, torch.tanh(x))

    (mine,) = trajectory(DPM3(), denoise, X, [at, to], None, LINEAR)
    t = peer.timesteps
    first = peer.step(torch.tanh(X), t[0], X).prev_sample
    torch.testing.assert_close(first, seen[1], rtol=0, atol=1e-12)
    second = peer.step(torch.tanh(first), t[1], first).prev_sample
    assert (second - seen[2]).abs().max() > 1e-3
    last = peer.step(torch.tanh(seen[2]), t[2], seen[2]).prev_sample
    torch.testing.assert_close(last, mine, rtol=0, atol=1e-12)
