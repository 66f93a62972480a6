import copy
import math
import pickle

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from ddim import model_io, schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError

ALL = [name for name in schedule.names() if schedule.get(name).T == 1000]
"""Those whose time counts training steps; tests/test_continuous.py has the others."""


@pytest.mark.parametrize("name", ALL)
def test_table_is_the_cumulative_product(name):
    s = schedule.get(name)
    betas = s.betas[1:].numpy()
    np.testing.assert_allclose(s.alpha_bar[1:].numpy(), np.cumprod(1 - betas), rtol=1e-12)
    assert s.alpha_bar[0] == 1
    assert s.T == 1000


def test_linear_is_the_papers():
    s = schedule.linear()
    assert s.betas[1] == 1e-4
    assert s.betas[-1] == 0.02
    assert s.betas[2] - s.betas[1] == pytest.approx((0.02 - 1e-4) / 999, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("linear", {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        ("scaled-linear", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        ("cosine", {"beta_schedule": "squaredcos_cap_v2"}),
    ],
)
def test_same_betas_as_diffusers(name, theirs):
    peer = DDPMScheduler(num_train_timesteps=1000, **theirs).betas.double()
    torch.testing.assert_close(schedule.get(name).betas[1:], peer, rtol=2e-6, atol=0)  # theirs are float32


def test_sigmoid_follows_its_formula():
    s = schedule.sigmoid()
    f = [1 / (1 + math.exp(-(-3 + 6 * u))) for u in (0, 0.25, 1)]
    assert s.alpha_bar[250].item() == pytest.approx((f[2] - f[1]) / (f[2] - f[0]), rel=1e-12)


def test_temperature_of_the_sigmoid():
    s = schedule.sigmoid(start=0, end=3, tau=0.5)
    f = [1 / (1 + math.exp(-3 * u / 0.5)) for u in (0, 0.25, 1)]
    assert s.alpha_bar[250].item() == pytest.approx((f[2] - f[1]) / (f[2] - f[0]), rel=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_real_times_pass_through_the_table(name):
    s = schedule.get(name)
    at = s(torch.arange(1001))
    assert at.alpha.shape == (1001, 1, 1, 1)
    torch.testing.assert_close(at.alpha.flatten() ** 2, s.alpha_bar, rtol=1e-14, atol=0)
    t = torch.linspace(0, 1000, 7001, dtype=torch.float64)
    at = s(t)
    torch.testing.assert_close(at.alpha**2 + at.sigma**2, torch.ones_like(at.alpha), rtol=0, atol=1e-15)
    assert (at.sigma.flatten().diff() > 0).all()
    assert (at.alpha.flatten().diff() < 0).all()


def test_between_integers():
    s = schedule.linear()
    assert s(0.25).sigma.item() ** 2 == pytest.approx(0.25 * 1e-4, rel=1e-12)  # sigma^2 is linear on [0, 1]
    log_snr = [math.log(s(t).alpha.item() ** 2 / s(t).sigma.item() ** 2) for t in (400, 400.5, 401)]
    assert log_snr[1] == pytest.approx((log_snr[0] + log_snr[2]) / 2, abs=1e-12)


def test_terminal_signal_of_zero():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    betas[-1] = 1
    s = schedule.from_betas(betas)
    assert s(1000).alpha == 0
    assert s(1000).sigma == 1
    assert s(999.5).alpha.item() == pytest.approx(s(999).alpha.item() / 2, rel=1e-12)  # linear on the last interval
    assert s.at_log_snr(-math.inf).t == 1000
    t = torch.linspace(998, 1000, 41, dtype=torch.float64)
    log_snr = 2 * (s(t).alpha.log() - s(t).sigma.log()).flatten()
    torch.testing.assert_close(s.at_log_snr(log_snr).t.flatten(), t, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_log_snr_and_back(name):
    s = schedule.get(name)
    t = torch.cat([torch.linspace(0, 3, 61), torch.linspace(3, 1000, 997)]).double()
    there = s(t)
    log_snr = 2 * (there.alpha.log() - there.sigma.log())
    back = s.at_log_snr(log_snr.flatten().clamp(min=s.log_snr[-1]))
    for mine, expected in zip(back, there, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)


def test_one_level_or_one_per_image():
    s = schedule.cosine()
    assert s(7).alpha.shape == ()
    assert s(torch.tensor([7, 8])).sigma.shape == (2, 1, 1, 1)
    assert all(value.dtype == torch.float64 for value in s(torch.tensor([7.0], dtype=torch.float32)))


@pytest.mark.parametrize("t", [-1, 1000.5, math.nan])
def test_time_outside_the_schedule(t):
    with pytest.raises(UserError, match=r"\[0, 1000\]"):
        schedule.linear()(t)


def test_log_snr_below_the_last():
    with pytest.raises(UserError, match="log-SNR"):
        schedule.linear().at_log_snr(-50)


@pytest.mark.parametrize("betas", [[], [0.1, -0.1], [0.1, 1.0, 0.1], [0.1, math.nan], [1.5]])
def test_betas_that_make_no_schedule(betas):
    with pytest.raises(UserError, match="betas"):
        schedule.from_betas(betas)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linear", {"beta_start": None}),
        ("scaled-linear", {"beta_end": -0.1}),
        ("cosine", {"s": "x"}),
        ("cosine", {"beta_max": math.nan}),
        ("sigmoid", {"tau": 0}),
        ("vp-sde", {"beta_min": -1.0}),
        ("betas", {"betas": "x"}),
    ],
)
def test_a_number_that_a_schedule_does_not_take_is_named(name, options):
    with pytest.raises(UserError, match=rf"\b{next(iter(options))}\b"):
        schedule.get(name, **options)


def test_unknown_name():
    with pytest.raises(UserError, match="choose one of linear, scaled-linear, cosine, sigmoid"):
        schedule.get("quartic")


def test_vp_sde_follows_its_formula_between_the_integers_too():
    """log alpha-bar_t = -(beta_max - beta_min) u^2 / 2 - beta_min u (arXiv 2011.13456, Eq. 33)."""
    s = schedule.get("vp-sde", T=500, beta_min=0.2, beta_max=15.0)
    for t in (0.01, 1.0, 77.7, 499.5, 500.0):
        u, at = t / 500, s(t)
        assert at.alpha.item() ** 2 == pytest.approx(math.exp(-14.8 * u**2 / 2 - 0.2 * u), rel=1e-12)
        assert at.alpha.item() ** 2 + at.sigma.item() ** 2 == pytest.approx(1, abs=1e-15)
    assert s(0).alpha == 1
    assert s(0).sigma == 0


def test_a_formula_is_inverted_by_bisection():
    """Without an inverse, to the same times as with one; at both ends exactly."""
    known = schedule.vp_sde()
    found = schedule.from_log_snr(lambda t: -torch.expm1(decay(t / 1000)).log(), 1000)
    t = torch.cat([torch.linspace(0, 1, 21), torch.linspace(1, 1000, 400)]).double()
    log_snr = -torch.expm1(decay(t / 1000)).log()
    torch.testing.assert_close(found.at_log_snr(log_snr).t, known.at_log_snr(log_snr).t, rtol=1e-13, atol=1e-13)
    for s in (found, known):
        assert s.at_log_snr(math.inf).t == 0
        assert s.at_log_snr(s.log_snr[-1]).t == 1000
    torch.testing.assert_close(found.betas, known.betas, rtol=1e-12, atol=0)


def decay(u):
    return 19.9 * u**2 / 2 + 0.1 * u


@pytest.fixture
def shifted_cosine(monkeypatch):
    """A schedule of a user's module: log-SNR = -2 log tan(pi t / 2T) + shift (arXiv 2301.11093), alpha_T = 0."""
    monkeypatch.setitem(schedule.schedules, "shifted-cosine", None)  # removed again after the test

    @schedule.register("shifted-cosine")
    def shifted_cosine(T: int = 1000, shift: float = 0.0):
        def log_snr(t):
            ends = torch.where(t == T, -math.inf, -2 * torch.tan(math.pi / 2 * t / T).log())
            return ends + shift

        return schedule.from_log_snr(log_snr, T)

    return shifted_cosine


def test_a_schedule_from_outside(shifted_cosine, tmp_path):
    """By its name and options; a model with it trains, samples, saves and loads."""
    assert "shifted-cosine" in schedule.names()
    s = schedule.get("shifted-cosine", shift=-2.0)
    assert s.config == {"name": "shifted-cosine", "T": 1000, "shift": -2.0}
    for t in (1.0, 333.3, 999.0):
        at = s(t)
        assert (at.alpha / at.sigma).item() == pytest.approx(math.exp(-1) / math.tan(math.pi * t / 2000), rel=1e-9)
        assert s.at_log_snr(2 * (at.alpha / at.sigma).log()).t.item() == pytest.approx(t, rel=1e-12)
    assert s(1000).alpha == s.alpha_bar[-1] == 0
    assert s(1000).sigma == s.betas[-1] == 1
    assert s.at_log_snr(-math.inf).t == 1000
    with pytest.raises(UserError, match="alpha_T = 0"):
        Denoiser(Scale(), s, "eps", (1, 4, 4))
    model = Denoiser(Scale(), s, "v", (1, 4, 4))
    model.loss(torch.zeros(2, 1, 4, 4), torch.tensor([1.5, 1000.0]), torch.ones(2, 1, 4, 4)).sum().backward()
    assert all(weight.grad.isfinite() for weight in model.parameters())
    samples = model.sample(2, steps=4, seed=1, progress=False)
    model_io.save(model, tmp_path)
    again = model_io.load(tmp_path, network=Scale())
    assert again.schedule.config == s.config
    assert torch.equal(again.sample(2, steps=4, seed=1, progress=False), samples)
    del schedule.schedules["shifted-cosine"]  # as in another process, where the file is not imported
    with pytest.raises(UserError, match=r"'shifted-cosine' is not registered \(only linear, .*import.*--plugin FILE"):
        model_io.load(tmp_path, network=Scale())


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x, t):
        return self.weight * x


@pytest.mark.parametrize("name", ALL)
def test_a_config_makes_its_schedule_again(name):
    s = schedule.get(name, T=123)
    options = dict(s.config)
    assert options.pop("name") == name
    again = schedule.get(name, **options)
    assert again.config == s.config
    assert torch.equal(again.log_snr, s.log_snr)


@pytest.mark.parametrize("name", ALL)
def test_a_schedule_is_pickled_and_copied(name):
    """As for another process."""
    s = schedule.get(name, T=12)
    for again in (pickle.loads(pickle.dumps(s)), copy.deepcopy(s)):
        assert again.config == s.config
        assert torch.equal(again.log_snr, s.log_snr)
    bare = schedule.from_log_snr(decay_log_snr, 12)
    assert torch.equal(pickle.loads(pickle.dumps(bare)).log_snr, bare.log_snr)


def decay_log_snr(t):
    return -torch.expm1(t).log()


def test_listed_betas_are_their_own_config():
    s = schedule.from_betas(torch.tensor([0.1, 0.2, 1.0]))
    assert s.config == {"name": "betas", "betas": torch.tensor([0.1, 0.2, 1.0]).tolist()}
    assert torch.equal(schedule.get(**s.config).betas, s.betas)
    assert "betas" not in schedule.names()


@pytest.mark.parametrize(
    "log_snr",
    [
        lambda t: 5 - t,  # finite at t = 0
        lambda t: -t.log() * 0,  # does not fall
        lambda t: t.log(),  # rises
        lambda t: -t.log().mean(),  # one number for all times
        lambda t: torch.where(t > 5, math.nan, -t.log()),
    ],
)
def test_formulas_that_make_no_schedule(log_snr):
    with pytest.raises(UserError, match="falling strictly from"):
        schedule.from_log_snr(log_snr, 10)


@pytest.mark.parametrize("T", [0, -1, 2.5, 100_001, 10**30])
def test_impossible_numbers_of_training_steps(T):
    for name in ALL:
        with pytest.raises(UserError, match="T must be a whole number of at least 1 and at most 100000; got"):
            schedule.get(name, T=T)
    with pytest.raises(UserError, match="T must be a whole number"):
        schedule.from_log_snr(lambda t: -t.log(), T)


def test_the_old_way_to_give_betas_warns():
    with pytest.warns(DeprecationWarning, match="from_betas"):
        s = schedule.Schedule(torch.tensor([0.1, 0.2]))  # type: ignore[abstract]  # as code of before called it
    assert torch.equal(s.betas, schedule.from_betas(torch.tensor([0.1, 0.2])).betas)
