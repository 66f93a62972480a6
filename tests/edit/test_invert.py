import pytest
import torch

from ddim import schedule
from ddim.edit import invert
from ddim.errors import UserError
from ddim.ladder import ladder, levels
from ddim.samplers import DDIM, DDPM, trajectory

LINEAR = schedule.linear()


def test_there_and_back_the_error_falls_with_the_steps(gaussian):
    """DDIM's Table 2: encoding then decoding returns the image, up to an error that vanishes as S grows."""
    x0 = 0.3 * torch.randn(4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for S in (10, 100, 1000):
        walk = levels(LINEAR, ladder(LINEAR, S, "linear"))
        *_, xT = invert(DDIM(), gaussian(0.0, 0.3), x0, walk)
        *_, back = trajectory(DDIM(), gaussian(0.0, 0.3), xT, walk)
        errors.append((back - x0).abs().max().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.01


def test_the_network_is_never_asked_about_time_zero(gaussian):
    asked = []

    def denoise(x, at):
        asked.append(at.t.item())
        return gaussian(0.0, 0.3)(x, at)

    walk = levels(LINEAR, ladder(LINEAR, 5))
    assert len(list(invert(DDIM(), denoise, torch.zeros(1, 1, 2, 2), walk))) == 5
    assert asked == [200, 200, 400, 600, 800]


def test_a_stochastic_sampler_has_no_inverse(gaussian):
    with pytest.raises(UserError, match="deterministic"):
        invert(DDPM(), gaussian(0.0, 1.0), torch.zeros(1, 1, 2, 2), levels(LINEAR, ladder(LINEAR, 5)))
