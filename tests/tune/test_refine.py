"""Refinement: it starts at the base solver bit for bit, and ends closer to the end of the flow."""

import pytest
import torch

from ddim import samplers, schedule
from ddim.errors import UserError
from ddim.predict import from_x0
from ddim.presets import Method
from ddim.samplers import Corrected, trajectory
from ddim.timesteps import levels, timesteps
from ddim.tune.candidates import plain
from ddim.tune.refine import MOST, Distance, Remembered, changed, corrections_a_step, parameters, refine
from ddim.verify.exact import GAUSSIAN, MIXTURE

S = schedule.linear()
DETERMINISTIC = [name for name in samplers.names() if not samplers.get(name).stochastic]


def noises(count, width=1, seed=0, dtype=torch.float64):
    return torch.randn(count, 1, 1, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def end_of_flow(data, x):
    """At t = 1e-4, where sigma is 1e-4: `Mixture.flow` works in log(sigma / alpha)."""
    return data.flow(x, S(1000.0), S(1e-4), *([400] if data is MIXTURE else []))


def ends(sampler, visited, dtype=torch.float32):
    *_, end = trajectory(sampler, MIXTURE.denoise, noises(8, dtype=dtype), visited, schedule=S)
    return end


@pytest.mark.parametrize("spacing", ["trailing", "leading", "log-snr"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_zero_corrections_give_the_base_solver_bit_for_bit(name, spacing):
    visited = levels(S, timesteps(S, 6, spacing))
    base = samplers.get(name)
    for zeros in ((), ((0.0,),) * 6, ((0.0, 0.0),) * 6):
        corrected = Corrected(base, 0.0, zeros)
        assert torch.equal(ends(corrected, visited), ends(base, visited))
        assert corrected.calls(visited) == base.calls(visited)


@pytest.mark.parametrize("steps", [1, 2, 5, 8, 12, 30])
def test_zeros_change_nothing(steps):
    times = tuple(float(t) for t in timesteps(S, steps, "log-snr")[:-1])
    method = Method(sampler="dpmpp-3m", times=times, found="dpmpp-3m, log-snr")
    assert parameters(steps) <= MOST or corrections_a_step(steps) == 0
    assert changed(method, [0.0] * parameters(steps)) == method
    refined = changed(method, [0.1] * parameters(steps))
    assert changed(refined, [0.0] * parameters(steps)) == refined


@pytest.mark.parametrize("position", range(5))
def test_every_number_changes_something_and_keeps_the_order_of_the_times(position):
    """b_0 alone has no effect: the first step has no step before it."""
    method = Method(sampler="ddim", times=tuple(float(t) for t in timesteps(S, 5, "trailing")[:-1]))
    assert corrections_a_step(5) == 2
    for number in range(position, parameters(5), 5):
        for size in (-3.0, 0.1, 3.0):
            theta = [0.0] * parameters(5)
            theta[number] = size
            moved = changed(method, theta)  # refuses times that do not descend
            same = torch.equal(ends(*moved.resolve(S)), ends(*method.resolve(S)))
            shift_of_a_formula = number == 4  # whose denoiser has no time but its rates
            assert same == (number == 6 or shift_of_a_formula)


def test_a_correction_is_that_of_the_formula():
    visited = levels(S, torch.tensor([600.0, 300.0, 100.0]))
    at, middle, to = visited
    x = noises(4)
    a0, a1, b1 = 0.03, -0.02, 0.05
    states = list(trajectory(Corrected(samplers.DDIM(), 0.0, ((a0, 0.4), (a1, b1))), MIXTURE.denoise, x, visited))
    x0, eps = MIXTURE.denoise(x, at)
    first = middle.alpha * x0 + middle.sigma * eps + (middle.alpha - middle.sigma * at.alpha / at.sigma) * a0 * x0
    torch.testing.assert_close(states[0], first, rtol=1e-13, atol=1e-13)
    y0, eps = MIXTURE.denoise(first, middle)
    scale = to.alpha - to.sigma * middle.alpha / middle.sigma
    second = to.alpha * y0 + to.sigma * eps + scale * (a1 * y0 + b1 * (y0 - x0))
    torch.testing.assert_close(states[1], second, rtol=1e-13, atol=1e-13)


def test_the_shift_moves_the_time_that_the_network_is_told_and_not_its_rates():
    visited, asked = levels(S, torch.tensor([1000.0, 500.0, 100.0, 0.0])), []

    def told(x, at):
        asked.append(at)
        return MIXTURE.denoise(x, at)

    list(trajectory(Corrected(samplers.DDIM(), 0.1), told, noises(2), visited))
    assert [float(at.t) for at in asked] == pytest.approx([1000, 550, 110])  # not above the first time
    assert [float(at.sigma) for at in asked] == [float(level.sigma) for level in visited[:-1]]


@pytest.mark.slow
@pytest.mark.parametrize("data", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("name", ["ddim", "dpmpp-2m", "unipc"])
@pytest.mark.parametrize("calls", [4, 8])
def test_the_tuned_error_at_the_end_of_the_flow_is_a_fraction_of_the_untuned_one(data, name, calls):
    """From the best spacing of the solver, and on noises that were not tuned on."""
    width = 4 if data is GAUSSIAN else 1
    seen, fresh = noises(64, width), noises(64, width, seed=1)  # more pixels than numbers to tune
    on, off = (Distance(data.denoise, x, end_of_flow(data, x), S) for x in (seen, fresh))
    best = min((method for method in plain(S, calls) if method.sampler == name), key=on)
    refined = refine(best, on)
    assert on(refined) < 0.3 * on(best)
    assert off(refined) < 0.4 * off(best)


def test_a_refined_method_is_refined_further_and_named_so_once():
    distance = Distance(MIXTURE.denoise, noises(64), end_of_flow(MIXTURE, noises(64)), S)
    first = refine(plain(S, 6)[0], distance, 1)
    second = refine(first, distance, 1)
    assert distance(second) < distance(first) < distance(plain(S, 6)[0])
    assert second.found == first.found == f"{plain(S, 6)[0].found}, refined"


def test_refinement_passes_over_steps_that_diverge():
    """The network answers NaN at times that are further than 40% from those of the base solver."""
    method, x, diverged = plain(S, 4)[0], noises(16), []

    def fragile(x, at):
        x0, _ = MIXTURE.denoise(x, at)
        far = min(abs(float(at.t) / t - 1) for t in method.times) > 0.4
        diverged.append(far)
        return from_x0(x, at, x0 * torch.nan if far else x0)

    distance = Distance(fragile, x, end_of_flow(MIXTURE, x), S)
    assert distance(refine(method, distance)) < distance(method)
    assert any(diverged)


def test_refinement_keeps_a_method_that_is_exact():
    """One possible image: every solver is exact, and nothing is closer."""
    point = GAUSSIAN.__class__((0.3,), (0.0,))
    x = noises(4)
    distance = Distance(point.denoise, x, torch.full_like(x, 0.3), S)
    method = plain(S, 5)[0]
    assert distance(refine(method, distance)) <= max(distance(method), 1e-12)


def test_what_is_remembered_is_what_the_network_says_and_is_asked_for_once():
    calls = []

    def counted(x, at):
        calls.append(float(at.t))
        return MIXTURE.denoise(x, at)

    method = plain(S, 6)[0]
    distance = Distance(MIXTURE.denoise, noises(4), noises(4, seed=2), S)
    remembered = Remembered(counted)
    first = distance.residuals(method, remembered)
    assert len(calls) == 6
    theta = [0.0] * parameters(6)
    theta[3] = 0.01  # t_4 and what follows
    assert (distance.residuals(method, remembered.again()) == first).all()
    assert len(calls) == 6
    other = changed(method, theta)
    assert (distance.residuals(other, remembered.again()) == distance.residuals(other)).all()
    assert len(calls) == 6 + 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Corrected(samplers.get("ddpm")), "deterministic sampler; got DDIM"),
        (lambda: Corrected("ddim"), "deterministic sampler; got 'ddim'"),  # type: ignore[arg-type]
        (lambda: Corrected(samplers.DDIM(), 0.7), r"shift .* at most 0\.5; got 0\.7"),
        (lambda: Corrected(samplers.DDIM(), 0.0, ((float("nan"),),)), "A correction must be .* got nan"),
        (lambda: Corrected(samplers.DDIM(), 0.0, ((0.0, 0.0, 0.0),)), "one or two corrections"),
        (lambda: ends(Corrected(samplers.DDIM(), 0.0, ((0.0,),)), levels(S, timesteps(S, 4))), "for 1 step.* make 4"),
    ],
)
def test_bad_corrections_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
