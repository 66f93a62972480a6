"""What holds for any solver with any spacing on any schedule."""

import copy
import pickle
import pkgutil
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddim import samplers, schedule
from ddim import timesteps as spacing_names
from ddim.errors import UserError
from ddim.guidance import clip_x0
from ddim.level import Level, Prediction
from ddim.noise import ImageNoise
from ddim.predict import from_v, from_x0
from ddim.samplers import DDIM, DEIS, DPM2, DPM3, PNDM, DPMpp2S, Heun, UniPC, get, names, trajectory
from ddim.samplers.planned import FloatLevel, Singlestep, Step, ddim_update, eps_coefficient
from ddim.timesteps import levels as levels_at
from ddim.timesteps import timesteps

LINEAR = schedule.linear()


def zero_terminal():
    """alpha shifted and scaled so that alpha_T = 0 (arXiv 2305.08891, Algorithm 1)."""
    alpha = LINEAR.alpha_bar[1:].sqrt()
    alpha = alpha[0] * (alpha - alpha[-1]) / (alpha[0] - alpha[-1])
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), alpha**2])
    return schedule.from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])


SCHEDULES = {name: schedule.get(name) for name in schedule.names()} | {"zero terminal SNR": zero_terminal()}
EXTRA = {"heun with churn": Heun(churn=20), "unipc-2": UniPC(2), "unipc-1 bh1": UniPC(1, "bh1"), "tAB3": DEIS(4)}
SAMPLERS = {name: get(name) for name in names()} | EXTRA
PER_IMAGE = [name for name, sampler in SAMPLERS.items() if isinstance(sampler, DDIM)]
DETERMINISTIC = [name for name, sampler in SAMPLERS.items() if not sampler.stochastic]

methods = st.sampled_from(list(SAMPLERS))
schedules = st.sampled_from(list(SCHEDULES))
spacings = st.sampled_from(spacing_names.names())
steps = st.one_of(st.integers(1, 20), st.integers(1, 100), st.integers(1, 1000))


def network(x, at):
    """v, as a function of the image and the time: bounded, as a network's is, and defined where alpha = 0."""
    return clip_x0(lambda x, at: from_v(x, at, torch.tanh(2 * x + torch.sin(at.t.to(x) / 200))))(x, at)


def images(count, dtype=torch.float64, first=0):
    noise = ImageNoise(7, range(first, first + count))
    return noise(torch.empty(count, 1, 2, 2, dtype=dtype)), noise


@settings(max_examples=40, deadline=None, derandomize=True)
@given(methods, schedules, spacings, steps)
@example("heun with churn", "zero terminal SNR", "log-snr", 7)
def test_a_trajectory(method, named, spacing, S):
    """It ends at level 0, finite; visits each time once; calls as often as promised, and never at t = 0."""
    sampler, on = SAMPLERS[method], SCHEDULES[named]
    levels = levels_at(on, timesteps(on, S, spacing))
    called_at = []

    def denoise(x, at):
        called_at.append(at.t.item())
        return network(x, at)

    x, noise = images(2)
    reached = list(trajectory(sampler, denoise, x, levels, noise, on))
    assert len(reached) == S
    assert all(x.isfinite().all() for x in reached)
    assert len(called_at) == sampler.calls(levels)
    assert min(called_at) > 0
    if method == "heun with churn":  # it starts its steps at noisier levels of its own
        return
    starts = [at.t.item() for at in levels[:-1]]
    assert called_at[0] == starts[0]
    assert set(starts) <= set(called_at)
    if len(called_at) == S:
        assert called_at == starts


@settings(max_examples=25, deadline=None, derandomize=True)
@given(methods, schedules, spacings, st.integers(1, 30))
def test_batches(method, named, spacing, S):
    """Four images at once and two by two, and for DDIM with one level per image: the same images."""
    sampler, on = SAMPLERS[method], SCHEDULES[named]
    times = timesteps(on, S, spacing)

    def end(count, first, levels):
        x, noise = images(count, first=first)
        *_, x = trajectory(sampler, network, x, levels, noise, on)
        return x

    together = end(4, 0, levels_at(on, times))
    halves = torch.cat([end(2, 0, levels_at(on, times)), end(2, 2, levels_at(on, times))])
    torch.testing.assert_close(together, halves, rtol=1e-9, atol=1e-9)
    if isinstance(sampler, DDIM):
        each = end(4, 0, [on(t.expand(4)) for t in times])
        torch.testing.assert_close(together, each, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", PER_IMAGE)
def test_each_image_at_its_own_levels(method):
    """Images that start, step and end elsewhere, one at t = 0 and one at alpha_T = 0, move as each would alone."""
    sampler, on = SAMPLERS[method], SCHEDULES["zero terminal SNR"]
    times = torch.tensor(
        [[1000, 700, 400, 200, 0], [900, 850, 300, 100, 20.5], [1000, 999, 998, 500, 1], [5, 3, 2, 1, 0]]
    ).double()
    called_at = []

    def denoise(x, at):
        called_at.append(at.t.min().item())
        return network(x, at)

    x, noise = images(4)
    *_, together = trajectory(sampler, denoise, x, [on(column) for column in times.T], noise, on)
    assert min(called_at) > 0
    assert len(called_at) == sampler.calls([on(column) for column in times.T])
    for i in range(4):
        alone, noise = images(1, first=i)
        *_, alone = trajectory(sampler, network, alone, levels_at(on, times[i]), noise, on)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", [name for name in SAMPLERS if name not in PER_IMAGE])
def test_one_level_per_image_is_refused_by_planned_solvers(method):
    """By `calls`, by `trajectory` and in `step`, and for a batch of a single image too."""
    sampler, (x, noise) = SAMPLERS[method], images(2)
    for count in (1, 2):
        each = [LINEAR(t.expand(count)) for t in timesteps(LINEAR, 4)]
        with pytest.raises(UserError, match="one noise level for the whole batch and was given one per image"):
            sampler.calls(each)
        with pytest.raises(UserError, match="one noise level for the whole batch and was given one per image"):
            list(trajectory(sampler, network, x[:count], each, noise, LINEAR))
        state = sampler.init(levels_at(LINEAR, timesteps(LINEAR, 4)), LINEAR)
        with pytest.raises(UserError, match="one noise level for the whole batch and was given one per image"):
            sampler.step(network, x[:count], each[0], each[1], state, noise)


@pytest.mark.parametrize("method", [name for name in SAMPLERS if name not in PER_IMAGE])
def test_a_step_must_be_the_planned_one(method):
    """Coefficients come from the plan, levels from the call: a step that is not the next of the plan is refused."""
    sampler, (x, noise) = SAMPLERS[method], images(2)
    levels = levels_at(LINEAR, timesteps(LINEAR, 3))
    state = sampler.init(levels, LINEAR)
    nearly = levels[1]._replace(alpha=levels[1].alpha * (1 + 1e-12))
    for at, to in [(levels[0], levels[2]), (levels[1], levels[2]), (levels[0], nearly), (nearly, levels[1])]:
        with pytest.raises(UserError, match=r"has planned a step from t = 1000 .* to t = 667 "):
            sampler.step(network, x, at, to, state, noise)
    for at, to in pairwise(levels):
        x, state = sampler.step(network, x, at, to, state, noise)
    with pytest.raises(UserError, match="has taken all 3 steps of its plan"):
        sampler.step(network, x, levels[0], levels[1], state, noise)


@pytest.mark.parametrize("method", SAMPLERS)
@pytest.mark.parametrize(
    "times",
    [
        [950, 900, 800, 700, 550, 400, 250, 100, 0],
        [1000, 999.99, 999.98, 999.5, 700, 500, 300, 100, 0],
        [500, 400, 300, 400, 500, 350, 200, 100, 0],
        [3, 2, 1, 1, 1, 1, 1, 1, 1],
    ],
    ids=["regular", "long at pure noise", "turning round", "standing still"],
)
def test_a_start_is_corrected_without_harm(method, times):
    """Whatever follows the first step: the image stays finite and bounded."""
    sampler, on = SAMPLERS[method], SCHEDULES["zero terminal SNR"]
    xT, noise = images(4)
    levels = levels_at(on, torch.tensor(times, dtype=torch.float64))
    for x in trajectory(sampler, network, xT, levels, noise, on):
        assert x.isfinite().all()
        assert x.abs().max() < 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("named", SCHEDULES)
@pytest.mark.parametrize("method", SAMPLERS)
def test_in_few_digits(method, named, dtype):
    """Images of few digits around arithmetic in float32 keep their dtype, and nothing overflows at either end."""
    sampler, on = SAMPLERS[method], SCHEDULES[named]

    def denoise(x, at):
        return Prediction(*(value.to(x.dtype) for value in network(x.float(), at)))

    for S in (1, 2, 16):
        levels = levels_at(on, timesteps(on, S))
        x, noise = images(3, dtype)
        *_, x = trajectory(sampler, denoise, x, levels, noise, on)
        assert x.dtype == dtype
        assert x.isfinite().all()
        assert x.abs().max() < 3


@pytest.mark.parametrize("method", PER_IMAGE)
def test_one_level_per_image_keeps_the_dtype(method):
    x, noise = images(2, torch.float32)
    levels = [LINEAR(t.expand(2)) for t in timesteps(LINEAR, 4)]
    for reached in trajectory(SAMPLERS[method], network, x, levels, noise, LINEAR):
        assert reached.dtype == torch.float32


@pytest.mark.parametrize("sampler", [DPM2(), DPM3(), DPMpp2S(), PNDM(), DEIS(), Heun(churn=5)], ids=str)
def test_solvers_with_inner_levels_need_the_schedule(sampler):
    levels = levels_at(LINEAR, timesteps(LINEAR, 5))
    with pytest.raises(UserError, match="give `trajectory` its `schedule`"):
        list(trajectory(sampler, network, images(1)[0], levels, images(1)[1]))


@pytest.mark.parametrize("sampler", [PNDM(), DEIS()], ids=str)
def test_solvers_in_time_need_the_times_of_the_schedule(sampler):
    """EDM's convention t = sigma on a schedule of 1,000 steps would be another trajectory, silently."""
    rho = torch.tensor([40.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.0], dtype=torch.float64)
    levels = [Level(value, torch.ones_like(value), value) for value in rho]
    with pytest.raises(UserError, match="works in time"):
        list(trajectory(sampler, network, images(1)[0], levels, None, LINEAR))


@pytest.mark.parametrize("method", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_levels_of_edm(method, dtype):
    """alpha = 1 and sigma from 80 to 0.002 and 0, with the times that the schedule gives them."""
    rho = (torch.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 18, dtype=torch.float64)) ** 7
    levels = [Level(LINEAR.at_log_snr(-2 * value.log()).t, torch.ones_like(value), value) for value in rho]
    levels.append(Level(*torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)))
    sampler, (x, noise) = SAMPLERS[method], images(2, dtype)

    def denoise(x, at):
        return from_x0(x, at, torch.tanh(x / (at.alpha**2 + at.sigma**2).sqrt()))

    *_, x = trajectory(sampler, denoise, 80 * x, levels, noise, LINEAR)
    assert x.dtype == dtype
    assert x.isfinite().all()
    assert x.abs().max() < 1.5


@pytest.mark.parametrize("method", SAMPLERS)
def test_a_sampler_is_as_it_was_made(method):
    """Two trajectories in turns by one object, one of them through pickled states: each as if it were alone."""
    sampler = pickle.loads(pickle.dumps(copy.deepcopy(SAMPLERS[method])))
    assert repr(sampler) == repr(SAMPLERS[method])
    levels, others = levels_at(LINEAR, timesteps(LINEAR, 9)), levels_at(LINEAR, timesteps(LINEAR, 6, "leading"))
    x, noise = images(2)
    alone = list(trajectory(SAMPLERS[method], network, x, levels, noise, LINEAR))
    (x, noise), (y, noises) = images(2), images(2)
    interrupting = trajectory(sampler, network, y, others, noises, LINEAR)
    state = sampler.init(levels, LINEAR)
    for n, (at, to) in enumerate(pairwise(levels)):
        x, state = sampler.step(network, x, at, to, state, noise)
        state = pickle.loads(pickle.dumps(state))
        next(interrupting, None)
        assert torch.equal(x, alone[n])


@pytest.mark.parametrize("method", SAMPLERS)
def test_memory_does_not_grow_with_the_steps(method):
    """What the state holds of images is bounded: counted after 10 and after 40 steps."""

    def kept(S):
        levels = levels_at(LINEAR, timesteps(LINEAR, S))
        sampler, (x, noise) = SAMPLERS[method], images(1)
        state = sampler.init(levels, LINEAR)
        for at, to in pairwise(levels):
            x, state = sampler.step(network, x, at, to, state, noise)
        return 0 if state is None else len(state.history)

    assert kept(10) == kept(40) <= 3


@pytest.mark.parametrize("method", SAMPLERS)
def test_gradients_flow_through_it(method):
    """The derivative of x_0 by x_T against finite differences."""
    levels = levels_at(LINEAR, timesteps(LINEAR, 5))
    z = torch.randn(1, 1, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def end(x):
        smooth = lambda x, at: from_v(x, at, torch.tanh(x))  # noqa: E731
        *_, x0 = trajectory(SAMPLERS[method], smooth, x, levels, lambda x: z, LINEAR)
        return x0

    assert torch.autograd.gradcheck(end, z.clone().requires_grad_())


@pytest.mark.parametrize("method", SAMPLERS)
def test_levels_may_end_above_zero(method):
    """A trajectory that ends anywhere is finite, and its last step is counted like the others."""
    levels = [LINEAR(t) for t in (1000.0, 600.0, 250.5, 3.25, 0.5, 0.125)]
    sampler, (x, noise) = SAMPLERS[method], images(2)
    reached = list(trajectory(sampler, network, x, levels, noise, LINEAR))
    assert len(reached) == 5
    assert all(x.isfinite().all() for x in reached)


@pytest.mark.parametrize(
    ("maker", "options", "about"),
    [
        ("unipc", {"order": 4}, "orders 1, 2 and 3"),
        ("unipc", {"variant": "bh3"}, "bh1"),
        ("deis", {"nodes": 5}, "1 to 4 nodes"),
        ("deis", {"variable": "rho"}, "lambda"),
        ("er-sde", {"nodes": 0}, "1, 2 or 3"),
        ("heun", {"churn": -1.0}, "0 or more"),
        ("dpmpp-2m", {"eta": -0.1}, "eta must be"),
        ("unipc", {"eta": 0.5}, "does not take eta"),
    ],
)
def test_impossible_options(maker, options, about):
    with pytest.raises(UserError, match=about):
        get(maker, **options)


def test_a_level_near_pure_noise_is_left_by_ddim():
    """On the cosine schedule alpha_T is 5e-5, which would amplify the prediction at the end of the first step."""
    on = SCHEDULES["cosine"]
    levels = [on(1000.0), on(800.0), on(0.0)]
    assert get("heun").calls(levels) == 2
    assert get("heun").calls([on(900.0), on(800.0), on(0.0)]) == 3


@pytest.mark.parametrize("method", DETERMINISTIC)
def test_the_step_up_to_pure_noise_is_ddims(method):
    """Nothing is extrapolated to a level without signal."""
    on, predictions = SCHEDULES["zero terminal SNR"], []

    def denoise(x, at):
        predictions.append(network(x, at))
        return predictions[-1]

    *_, x = trajectory(
        SAMPLERS[method], denoise, images(2)[0], [on(t) for t in (300.0, 500.0, 800.0, 1000.0)], None, on
    )
    if method in ("unipc", "unipc-2", "unipc-1 bh1"):  # corrects the image first, with another eps
        assert x.isfinite().all()
    else:
        torch.testing.assert_close(x, predictions[-1].eps, rtol=0, atol=1e-12)


def test_fewer_than_five_steps_get_no_extra_calls():
    """PLMS and PNDM start there as iPNDM does: the first step is too long for extra calls to help."""
    for S, extra in ((4, (0, 0)), (5, (1, 9))):
        levels = levels_at(LINEAR, timesteps(LINEAR, S))
        assert (get("plms").calls(levels) - S, get("pndm").calls(levels) - S) == extra


@pytest.mark.parametrize("method", SAMPLERS)
def test_levels_may_turn_round_and_repeat(method):
    """As when an inpainting wrapper goes back up: nothing is divided by 0, and standing still changes nothing."""
    times = [600.0, 400.0, 250.0, 250.0, 100.0, 300.0, 500.0, 300.0, 100.0, 0.0]
    sampler, (x, noise) = SAMPLERS[method], images(2)
    reached = list(trajectory(sampler, network, x, [LINEAR(t) for t in times], noise, LINEAR))
    assert len(reached) == 9
    assert all(x.isfinite().all() and x.abs().max() < 10 for x in reached)
    if not sampler.stochastic and not (isinstance(sampler, UniPC) and sampler.corrector):
        torch.testing.assert_close(reached[2], reached[1], rtol=0, atol=1e-12)


def test_the_order_of_the_predictor_and_the_order_of_convergence():
    """UniPC's argument `order` is the paper's p; `order` of any sampler is its order of convergence."""
    assert [(UniPC(p).p, UniPC(p).order) for p in (1, 2, 3)] == [(1, 2), (2, 3), (3, 3)]
    assert [UniPC(p, corrector=False).order for p in (1, 2, 3)] == [1, 2, 2]
    assert repr(UniPC(2)) == "UniPC(order=2, variant='bh2', corrector=True)"


def test_a_solver_from_outside(monkeypatch):
    """A class in a user's module, registered by the decorator, is made by its name and steps like the others."""
    monkeypatch.setitem(samplers.samplers, "midpoint", None)  # removed again after the test

    @samplers.register("midpoint")
    class Midpoint(Singlestep):
        space = "eps"
        order = 2
        inner_stages = 1

        def between(self, at, to, schedule):
            middle = FloatLevel.at_lambda(schedule, (at.lam + to.lam) / 2, self)
            end = ddim_update(to)._replace(stages=(eps_coefficient(at, to),))
            return Step(at, end, stages=(ddim_update(middle),))

    assert "midpoint" in names()
    levels = levels_at(LINEAR, timesteps(LINEAR, 7))
    ends = [
        list(trajectory(get(name), network, images(2)[0], levels, None, LINEAR))[-1] for name in ("midpoint", "dpm-2")
    ]
    assert torch.equal(*ends)


def test_every_file_of_the_package_is_imported():
    """So that a new file registers its solver without another edit."""
    for module in pkgutil.iter_modules(samplers.__path__):
        assert f"ddim.samplers.{module.name}" in sys.modules


@pytest.mark.parametrize("name", ["ddim", "ddpm", "unipc"])
def test_an_unknown_option_is_refused_with_those_that_exist(name):
    known = {"ddim": "eta", "ddpm": "none", "unipc": "order, variant, corrector"}[name]
    with pytest.raises(UserError, match=f"'{name}' does not take speed; the options it has: {known}"):
        get(name, speed=2)
