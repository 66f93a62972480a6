"""What a call puts in the place of a model's defaults."""

import pytest

from ddim import schedule
from ddim.errors import UserError
from ddim.samplers import DDIM, UniPC
from ddim.sampling import Sampling

LINEAR = schedule.linear()


def test_the_defaults_are_those_that_the_benchmark_chose():
    sampler, levels = Sampling().walk(LINEAR)
    assert isinstance(sampler, UniPC)
    assert len(levels) == 21


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
