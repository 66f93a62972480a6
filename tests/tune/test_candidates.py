"""Candidates: dynamic programming is exact, local errors are those of the solver, and searched times are better."""

import itertools
import math

import pytest
import torch

from ddim import samplers, schedule
from ddim.level import Prediction
from ddim.samplers import trajectory
from ddim.timesteps import compared
from ddim.tune.candidates import Costs, fine_times, least_weighted, local_errors, plain, searched, shortest, teach
from ddim.tune.refine import Distance
from ddim.verify.exact import GAUSSIAN, MIXTURE

S = schedule.linear()


def noises(count, width=1, seed=0):
    return torch.randn(count, 1, 1, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def taught(denoise=MIXTURE.denoise, width=1, count=12):
    return teach(denoise, noises(16, width), S, samplers.get("unipc"), fine_times(S, count), parts=10)


def end_of_flow(data, x):
    """At t = 1e-4, where sigma is 1e-4: `Mixture.flow` works in log(sigma / alpha)."""
    return data.flow(x, S(1000.0), S(1e-4), *([400] if data is MIXTURE else []))


def total(costs, path, gamma):
    before = [path[0], *path[:-2]]
    return sum(
        gamma**n * float(costs[k, i, j]) for n, (k, i, j) in enumerate(zip(before, path, path[1:], strict=False))
    )


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.8, 1.0, 1.15])
@pytest.mark.parametrize("name", ["ddim", "dpmpp-2m", "unipc"])
def test_dynamic_programming_equals_brute_force(name, gamma):
    costs = local_errors(samplers.get(name), taught(), S)
    K = 12
    assert costs.shape == (K, K, K + 1)
    for steps in (1, 2, 4, 7, K):
        paths = ([0, *inner, K] for inner in itertools.combinations(range(1, K), steps - 1))
        best = min(paths, key=lambda path: total(costs, path, gamma))
        found = shortest(costs, steps, gamma)
        assert len(found) == steps + 1
        assert total(costs, found, gamma) == pytest.approx(total(costs, best, gamma), rel=1e-12)


def test_dynamic_programming_of_costs_that_depend_on_the_level_before():
    """Random costs: no structure of a solver helps."""
    costs = torch.rand(12, 12, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    costs[:, ~torch.ones(12, 13).triu(1).bool()] = torch.inf
    for steps in (2, 3, 6):
        paths = [[0, *inner, 12] for inner in itertools.combinations(range(1, 12), steps - 1)]
        assert shortest(costs, steps, 1.1) == min(paths, key=lambda path: total(costs, path, 1.1))


def test_the_local_error_of_ddim_is_that_of_one_step_from_the_teachers_state():
    teacher = taught()
    costs = local_errors(samplers.get("ddim"), teacher, S)
    visited = [teacher.levels[3], teacher.levels[7]]
    *_, reached = trajectory(samplers.get("ddim"), MIXTURE.denoise, teacher.states[3], visited)
    gap = ((reached - teacher.states[7]) / teacher.levels[7].alpha).flatten(1).norm(dim=1).mean()
    assert float(costs[3, 3, 7]) == float(costs[1, 3, 7]) == pytest.approx(float(gap), rel=1e-12)


def test_a_multistep_solver_errs_less_after_a_near_level_than_in_a_first_step():
    costs = local_errors(samplers.get("dpmpp-2m"), taught(), S)
    assert costs[4, 5, 6] < costs[5, 5, 6] / 2


def test_the_teacher_reaches_the_end_of_the_flow():
    start = noises(16, 4)
    teacher = teach(GAUSSIAN.denoise, start, S, samplers.get("unipc"), fine_times(S), parts=4)
    exact = GAUSSIAN.flow(start, S(1000.0), S(0.0))
    assert (teacher.end - exact).abs().max() < 1e-3
    assert len(teacher.levels) == len(teacher.states) == len(teacher.predictions) + 1
    assert all(isinstance(one, Prediction) for one in teacher.predictions)


@pytest.mark.parametrize("calls", [1, 2, 5, 8])
def test_plain_solvers_make_exactly_so_many_calls(calls):
    methods = plain(S, calls)
    for method in methods:
        sampler, visited = method.resolve(S)
        assert sampler.calls(visited) == calls
        assert not sampler.stochastic
    assert {f"ddim, {spacing}" for spacing in compared()} <= {method.found for method in methods}


@pytest.mark.parametrize("make", [schedule.linear, schedule.cosine, schedule.vp_sde, lambda: schedule.linear(T=5)])
def test_the_fine_grid_descends_from_T(make):
    times = fine_times(make())
    assert times[0] == make().T
    assert times[-1] == 1
    assert all(t > s for t, s in itertools.pairwise(times))


@pytest.mark.slow
@pytest.mark.parametrize("data", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
def test_times_that_ddim_searches_are_better_than_every_spacing(data):
    """At the end of the flow, on noises that were not searched on. For solvers of higher order that is not so."""
    width = 4 if data is GAUSSIAN else 1
    teacher = taught(data.denoise, width, count=30)
    fresh = noises(64, width, seed=1)
    distance = Distance(data.denoise, fresh, end_of_flow(data, fresh), S)
    best = min(distance(method) for method in plain(S, 6) if method.sampler == "ddim")
    assert min(map(distance, searched("ddim", Costs(teacher, S), 6))) < 0.9 * best


def test_first_order_errors_weigh_least_at_equal_steps_of_log_snr():
    """Then the sum is that of e^h - 1 over the steps, times a constant: a convex function of their lengths h."""
    method = least_weighted("ddim", S, 6)
    assert method is not None
    log_snr = [math.log(float(level.alpha / level.sigma)) for level in map(S, (*method.times, 1.0))]
    steps = torch.tensor(log_snr).diff()
    assert (steps / steps.mean() - 1).abs().max() < 0.05
    assert least_weighted("ddim", S, 1) is None
