import math
from dataclasses import replace

import pytest
import torch

import known
from ddim import schedule
from ddim.edit import invert
from ddim.errors import UserError
from ddim.samplers import DDIM, DDPM, Corrected, get, names, trajectory
from ddim.timesteps import levels as levels_at
from ddim.timesteps import timesteps
from ddim.verify.exact import MIXTURE, Gaussian

LINEAR = schedule.linear()


def test_there_and_back_the_error_falls_with_the_steps(gaussian):
    """DDIM's Table 2: encoding then decoding returns the image, up to an error that vanishes as S grows."""
    x0 = 0.3 * torch.randn(4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for S in (10, 100, 1000):
        levels = levels_at(LINEAR, timesteps(LINEAR, S, "linear"))
        *_, xT = invert(DDIM(), gaussian(0.0, 0.3), x0, levels)
        *_, back = trajectory(DDIM(), gaussian(0.0, 0.3), xT, levels)
        errors.append((back - x0).abs().max().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.01


@pytest.mark.parametrize(
    ("sampler", "times"),
    [(DDIM(), [200, 200, 400, 600, 800]), (Corrected(DDIM(), shift=0.1), [200, 220, 440, 660, 880])],
)
def test_the_network_is_never_called_at_time_zero(gaussian, sampler, times):
    called_at = []

    def denoise(x, at):
        called_at.append(at.t.item())
        return gaussian(0.0, 0.3)(x, at)

    levels = levels_at(LINEAR, timesteps(LINEAR, 5))
    states = list(invert(sampler, denoise, torch.ones(1, 1, 2, 2, dtype=torch.float64), levels))
    assert len(states) == 5
    assert called_at == pytest.approx(times)
    assert states[-1].isfinite().all()


def test_a_stochastic_sampler_has_no_inverse(gaussian):
    with pytest.raises(UserError, match="deterministic"):
        invert(DDPM(), gaussian(0.0, 1.0), torch.zeros(1, 1, 2, 2), levels_at(LINEAR, timesteps(LINEAR, 5)))


@pytest.mark.parametrize("name", [name for name in names() if not get(name).stochastic])
def test_every_deterministic_solver_goes_there_and_back(gaussian, name):
    """The error vanishes as S grows, faster than DDIM's; the network is never called at time zero."""
    sampler = get(name)
    x0 = 0.3 * torch.randn(4, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    called_at = []

    def denoise(x, at):
        called_at.append(at.t.item())
        return gaussian(0.0, 0.3)(x, at)

    def error(sampler, S):
        levels = levels_at(LINEAR, timesteps(LINEAR, S, "quadratic"))
        *_, xT = invert(sampler, denoise, x0, levels, LINEAR)
        *_, back = trajectory(sampler, denoise, xT, levels, None, LINEAR)
        return (back - x0).abs().max().item()

    coarse, fine = error(sampler, 10), error(sampler, 40)
    assert fine < coarse / 3
    assert fine < error(DDIM(), 40) / 5 or name == "ddim"
    assert min(called_at) > 0


def test_images_at_their_own_levels_are_never_evaluated_at_zero(gaussian):
    called_at = []

    def denoise(x, at):
        called_at.append(at.t.min().item())
        return gaussian(0.0, 0.3)(x, at)

    levels = [LINEAR(torch.tensor(times)) for times in ([900.0, 500.0], [400.0, 90.0], [0.0, 0.0])]
    *_, x = invert(DDIM(), denoise, torch.full((2, 1, 2, 2), 0.4), levels)
    assert called_at == [90, 90]
    assert x.isfinite().all()


def test_latents_of_a_model_that_is_never_clipped_are_encoded():
    data = Gaussian((3.0, -4.0), (0.3, 0.5))
    x0 = torch.tensor([3.1, -4.2]).reshape(1, 1, 1, 2)
    model = known.model(data.denoise, LINEAR, (1, 1, 2))
    with pytest.raises(UserError, match=r"not in \[-1, 1\]"):
        model.encode(x0, steps=5)
    model.sampling = replace(model.sampling, clip=False)
    back = model.decode(model.encode(x0, steps=200, spacing="log-snr"), steps=200, spacing="log-snr")
    torch.testing.assert_close(back, x0, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["ddim", "dpmpp-2m", "heun", "unipc", "dpmpp-3m"])
def test_there_and_back_is_of_the_order_of_the_solver(name):
    """Between two noisy levels, so that the network is evaluated at the level of x in both directions."""
    sampler, table = get(name), schedule.vp_sde()
    x0 = 0.3 * torch.randn(4, 1, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for S in (40, 80):
        walk = [table.at_log_snr(value) for value in torch.linspace(-5.0, 3.0, S + 1, dtype=torch.float64)]
        *_, xT = trajectory(sampler, MIXTURE.denoise, x0, walk[::-1], schedule=table)
        *_, back = trajectory(sampler, MIXTURE.denoise, xT, walk, schedule=table)
        errors.append((back - x0).abs().max().item())
    assert math.log2(errors[0] / errors[1]) > sampler.order - 0.25
