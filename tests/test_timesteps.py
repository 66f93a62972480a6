import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from ddim import schedule
from ddim.errors import UserError
from ddim.samplers import DDIM
from ddim.sampling import Sampling
from ddim.timesteps import levels, names, register, spacings, timesteps

LINEAR = schedule.linear()


def check(times, S, T):
    assert times.shape == (S + 1,)
    assert times.dtype == torch.float64
    assert times[0] <= T
    assert times[-1] == 0
    assert (times.diff() < 0).all()


@pytest.mark.parametrize("spacing", names())
@pytest.mark.parametrize("S", [1, 2, 3, 7, 10, 29, 30, 50, 333, 999, 1000])
def test_exactly_S_steps_and_no_time_twice(spacing, S):
    times = timesteps(LINEAR, S, spacing)
    check(times, S, 1000)
    assert times[-2] >= 1
    if spacing not in ("log-snr", "karras", "linspace"):
        assert torch.equal(times, times.round())


@given(T=st.integers(1, 60), data=st.data())
def test_any_T_and_any_S(T, data):
    S = data.draw(st.integers(1, T))
    s = schedule.cosine(T=T)
    for spacing in names():
        check(timesteps(s, S, spacing), S, T)


@pytest.mark.parametrize("spacing", names())
def test_one_step_starts_at_T(spacing):
    assert timesteps(LINEAR, 1, spacing).tolist() == [1000, 0]


@pytest.mark.parametrize("S", [10, 20, 50, 100, 1000])
def test_linear_and_leading_are_the_official_uniform_timesteps(S):
    official = np.arange(0, 1000, 1000 // S)[::-1] + 1  # indices from 0; our t is one more
    assert timesteps(LINEAR, S, "linear")[:-1].tolist() == official.tolist()
    assert timesteps(LINEAR, S, "leading")[:-1].tolist() == official.tolist()


def test_where_S_does_not_divide_T():
    assert timesteps(LINEAR, 3, "linear").tolist() == [667, 334, 1, 0]  # 1 + floor(i 1000 / 3)
    assert timesteps(LINEAR, 3, "leading").tolist() == [667, 334, 1, 0]  # 1 + 333 i
    assert timesteps(LINEAR, 7, "linear").tolist() == [858, 715, 572, 429, 286, 143, 1, 0]
    assert timesteps(LINEAR, 7, "leading").tolist() == [853, 711, 569, 427, 285, 143, 1, 0]
    assert timesteps(LINEAR, 3, "trailing").tolist() == [1000, 667, 333, 0]  # 1000 - round(i 1000 / 3)


@pytest.mark.parametrize("S", range(2, 30))
def test_quadratic_is_the_official_one_while_that_repeats_nothing(S):
    official = [int(q) + 1 for q in np.linspace(0, np.sqrt(1000 * 0.8), S) ** 2]
    assert len(set(official)) == S
    assert timesteps(LINEAR, S, "quadratic")[:-1].tolist() == official[::-1]


def test_the_official_quadratic_timesteps_repeat_a_time_at_30():
    official = [int(q) for q in np.linspace(0, np.sqrt(1000 * 0.8), 30) ** 2]
    assert len(set(official)) < 30


@pytest.mark.parametrize("S", [2, 3, 7, 10, 30, 50, 64, 100, 333, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_same_times_as_diffusers(spacing, S):
    peer = DDIMScheduler(timestep_spacing=spacing)
    peer.set_timesteps(S)
    theirs = (peer.timesteps + 1).tolist()
    assert timesteps(LINEAR, S, spacing)[:-1].tolist() == theirs[:S]


def test_log_snr_steps_are_equal():
    at = levels(LINEAR, timesteps(LINEAR, 20, "log-snr"))[:-1]
    log_snr = torch.stack([2 * (level.alpha.log() - level.sigma.log()) for level in at])
    torch.testing.assert_close(log_snr.diff(), log_snr.diff().mean().expand(19), rtol=1e-9, atol=0)


@pytest.mark.parametrize("S", [2, 3, 10, 99])
def test_log_snr_spacing_where_alpha_ends_at_zero(S):
    betas = torch.linspace(1e-4, 0.05, 100, dtype=torch.float64)
    betas[-1] = 1
    times = timesteps(schedule.from_betas(betas), S, "log-snr")
    check(times, S, 100)
    assert times[0] == 100


def test_any_list_of_times():
    assert timesteps(LINEAR, spacing=[900, 12.5, 0]).tolist() == [900, 12.5, 0]
    assert timesteps(LINEAR, 2, [900, 12.5]).tolist() == [900, 12.5, 0]


@pytest.mark.parametrize("times", [[], [0], [10, 10, 0], [5, 10, 0], [1001, 0], [10, -1, 0], [float("nan"), 0]])
def test_a_list_that_does_not_descend_within_the_schedule(times):
    with pytest.raises(UserError, match="descend strictly"):
        timesteps(LINEAR, spacing=times)


@pytest.mark.parametrize("S", [0, -1, 1001, 2.5, None])
def test_impossible_numbers_of_steps(S):
    with pytest.raises(UserError, match="from 1 to T = 1000"):
        timesteps(LINEAR, S)


def test_other_refusals():
    with pytest.raises(UserError, match="choose one of trailing"):
        timesteps(LINEAR, 10, "sqrt")
    with pytest.raises(UserError, match="makes 2 steps, not 3"):
        timesteps(LINEAR, 3, [10, 5])


def test_a_spacing_from_outside(monkeypatch):
    """A function of a user's module, registered by the decorator, works by its name wherever a spacing does."""
    monkeypatch.setitem(spacings, "halving", None)  # removed again after the test

    @register("halving")
    def halving(schedule, S):
        return [schedule.T / 2**i for i in range(S)]

    assert "halving" in names()
    assert timesteps(LINEAR, 4, "halving").tolist() == [1000, 500, 250, 125, 0]
    _, visited = Sampling().resolve(LINEAR, 2, sampler=DDIM(), spacing="halving")
    assert [level.t.item() for level in visited] == [1000, 500, 0]


@pytest.mark.parametrize("times", [[1, 2, 3], [1001, 5, 1], [9, 5], [9, 5, 5], [9, 5, 0], [float("nan"), 5, 1]])
def test_a_spacing_from_outside_that_does_not_descend_within_the_schedule(monkeypatch, times):
    monkeypatch.setitem(spacings, "wrong", lambda schedule, S: times)
    with pytest.raises(UserError, match="'wrong' must return 3 times that descend strictly"):
        timesteps(LINEAR, 3, "wrong")
