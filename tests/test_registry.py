"""What is registered is made by its name, and options that do not fit are refused in one sentence."""

from typing import Any, cast

import pytest

from ddim import nets, samplers, schedule
from ddim.errors import UserError


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: samplers.get("heun", speed=2, eta=0),
            r"The sampler 'heun' does not take speed, eta; the options it",
        ),
        (
            lambda: schedule.get("cosine", T=5, speed=2),
            r"The schedule 'cosine' does not take speed; .*: T, s, beta_max",
        ),
        (
            lambda: schedule.get("betas"),
            r"The schedule 'betas' is missing a required argument: 'betas'; .*: betas\.",
        ),
        (
            lambda: nets.build("plain", 1, "tiny", wdth=3),
            r"The network 'plain' does not take wdth; .*channels, widths",
        ),
        (lambda: nets.from_config({"name": "plain", "width": 3, "channels": 1}), r"'plain' does not take width;"),
        (lambda: schedule.get("quartic", T=5), r"no schedule called 'quartic'; choose one of linear, "),
        (lambda: schedule.get(cast(Any, None)), r"^The name of a schedule is a string, one of linear, .*; got None\.$"),
        (lambda: samplers.get(cast(Any, ["ddim"])), r"The name of a sampler is a string, .*; got \['ddim'\]"),
        (lambda: nets.build("unet", 0, "tiny"), "The number of channels must be a whole number of at least 1; got 0"),
        (lambda: nets.build("unet", 1, "tiny", classes=0), "The number of classes must be .*; got 0"),
        (lambda: samplers.get("a" * 10**6), r"^There is no sampler called 'a{79}; choose one of ddim, "),
    ],
)
def test_what_cannot_be_made_is_one_sentence(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_options_reach_what_is_made():
    assert schedule.get("linear", T=7).T == 7
    assert samplers.get("ddim", eta=0.5).eta == 0.5  # type: ignore[attr-defined]
    assert nets.build("plain", 3, "tiny").get_parameter("head.weight").shape[0] == 3
