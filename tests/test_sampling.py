"""What a call puts in the place of a model's defaults."""

import pytest

from ddim import schedule
from ddim.errors import UserError
from ddim.ladder import ladder
from ddim.samplers import DDIM, UniPC
from ddim.sampling import Sampling

LINEAR = schedule.linear()


def times(levels):
    return [level.t.item() for level in levels]


def test_the_defaults_are_those_that_the_benchmark_chose():
    sampler, levels = Sampling().walk(LINEAR)
    assert isinstance(sampler, UniPC)
    assert times(levels) == ladder(LINEAR, 20, "log-snr").tolist()


def test_the_ladder_of_the_defaults_is_for_their_sampler():
    own = Sampling(sampler="ddim", spacing="quadratic")
    for words in ({"sampler": "unipc"}, {"sampler": DDIM()}):
        assert times(own.walk(LINEAR, 10, **words)[1]) == ladder(LINEAR, 10, "trailing").tolist()
    for words in ({}, {"eta": 0.5}, {"sampler": "ddim"}):
        assert times(own.walk(LINEAR, 10, **words)[1]) == ladder(LINEAR, 10, "quadratic").tolist()


@pytest.mark.parametrize("eta", [0.0, 0.5, "hat"])
def test_an_eta_alone_asks_for_ddim(eta):
    sampler, _ = Sampling().walk(LINEAR, eta=eta)
    assert isinstance(sampler, DDIM)
    assert sampler.eta == eta


def test_the_models_own_eta_goes_with_its_own_sampler_alone():
    own = Sampling(sampler="ddim", eta=1.0)
    assert own.walk(LINEAR)[0].eta == 1
    assert own.walk(LINEAR, sampler="ddim")[0].eta == 1
    assert own.walk(LINEAR, eta=0.5)[0].eta == 0.5
    assert isinstance(own.walk(LINEAR, sampler="unipc")[0], UniPC)


def test_an_eta_for_a_sampler_that_has_none_is_refused():
    with pytest.raises(UserError, match="'unipc' does not take eta"):
        Sampling().walk(LINEAR, sampler="unipc", eta=1.0)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "ddim, quadratic, 30 steps, eta = 1"),
        ({"steps": 5, "eta": 0.5}, "ddim, quadratic, 5 steps, eta = 0.5"),
        ({"eta": "hat", "spacing": "linear"}, "ddim, linear, 30 steps, eta = hat"),
        ({"sampler": "unipc"}, "unipc, trailing, 30 steps"),
    ],
)
def test_the_words_are_those_of_the_walk(request_, words):
    own = Sampling(30, "ddim", 1.0, "quadratic")
    assert own.words(**request_) == words
    assert f" {len(own.walk(LINEAR, **request_)[1]) - 1} steps" in words
