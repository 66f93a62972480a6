"""A model's sampling defaults, and the options of one call that replace them."""

from typing import Any

import pytest

from ddim import schedule
from ddim.errors import UserError
from ddim.samplers import DDIM, UniPC
from ddim.sampling import Sampling
from ddim.timesteps import timesteps

LINEAR = schedule.linear()


def times(levels):
    return [level.t.item() for level in levels]


def test_the_defaults_are_those_that_the_benchmark_chose():
    sampler, levels = Sampling().resolve(LINEAR)
    assert isinstance(sampler, UniPC)
    assert times(levels) == timesteps(LINEAR, 20, "log-snr").tolist()


def test_the_default_spacing_is_for_the_default_sampler():
    own = Sampling(sampler="ddim", spacing="quadratic")
    words: dict[str, Any]
    for words in ({"sampler": "unipc"}, {"sampler": DDIM()}):
        assert times(own.resolve(LINEAR, 10, **words)[1]) == timesteps(LINEAR, 10, "trailing").tolist()
    for words in ({}, {"eta": 0.5}, {"sampler": "ddim"}):
        assert times(own.resolve(LINEAR, 10, **words)[1]) == timesteps(LINEAR, 10, "quadratic").tolist()


@pytest.mark.parametrize("eta", [0.0, 0.5, "hat"])
def test_an_eta_alone_selects_ddim(eta):
    sampler, _ = Sampling().resolve(LINEAR, eta=eta)
    assert isinstance(sampler, DDIM)
    assert sampler.eta == eta


def test_the_models_own_eta_goes_with_its_own_sampler_alone():
    own = Sampling(sampler="ddim", eta=1.0)
    options: dict[str, Any]
    for options, eta in (({}, 1), ({"sampler": "ddim"}, 1), ({"eta": 0.5}, 0.5)):
        sampler, _ = own.resolve(LINEAR, **options)
        assert isinstance(sampler, DDIM)
        assert sampler.eta == eta
    assert isinstance(own.resolve(LINEAR, sampler="unipc")[0], UniPC)


def test_an_eta_for_a_sampler_that_has_none_is_refused():
    with pytest.raises(UserError, match="'unipc' does not take eta"):
        Sampling().resolve(LINEAR, sampler="unipc", eta=1.0)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "ddim, quadratic, 30 steps, eta = 1"),
        ({"steps": 5, "eta": 0.5}, "ddim, quadratic, 5 steps, eta = 0.5"),
        ({"eta": "hat", "spacing": "linear"}, "ddim, linear, 30 steps, eta = hat"),
        ({"sampler": "unipc"}, "unipc, trailing, 30 steps"),
        ({"spacing": [900, 400.5, 50]}, "ddim, timesteps 900 400.5 50, 3 steps, eta = 1"),
        ({"spacing": [900, 0]}, "ddim, timesteps 900 0, 1 step, eta = 1"),
    ],
)
def test_describe_says_what_resolve_selects(request_, words):
    own = Sampling(30, "ddim", 1.0, "quadratic")
    assert own.describe(**request_) == words
    assert f" {len(own.resolve(LINEAR, **request_)[1]) - 1} step" in words


@pytest.mark.parametrize("T", [1, 2, 7, 19, 20, 21])
@pytest.mark.parametrize("name", ["linear", "cosine", "vp-sde"])
def test_the_default_number_of_steps_is_at_most_T(name, T):
    short = schedule.get(name, T=T)
    for options in ({}, {"eta": 0.0}, {"sampler": "heun"}):
        levels = Sampling().resolve(short, **options)[1]
        assert len(levels) - 1 == min(20, T)
        assert f", {min(20, T)} step" in Sampling().describe(**options, schedule=short)
    with pytest.raises(UserError, match=f"from 1 to T = {T}; got {T + 1}"):  # which somebody asked for
        Sampling().resolve(short, T + 1)


@pytest.mark.parametrize("spacing", [["a"], [None], {900, 20}])
def test_a_spacing_that_is_no_list_of_numbers_is_refused(spacing):
    with pytest.raises(UserError, match="must be a name or a list of times; got"):
        Sampling().resolve(LINEAR, spacing=spacing)


def test_a_sampler_is_an_instance_and_not_its_class():
    sampler: Any = DDIM
    with pytest.raises(UserError, match=r"such as ddim.samplers.DDIM\(\); got <class"):
        Sampling().resolve(LINEAR, sampler=sampler)
