"""`trajectory` shows the steps of `sample`; both take the noise from outside, and gradients on request."""

import pytest
import torch
from torch import nn

from ddim import schedule
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.noise import ImageNoise


def noise(count, seed):
    return ImageNoise(seed, range(count))(torch.empty(count, 1, 8, 8))


@pytest.mark.parametrize(
    "options", [{}, {"eta": 1.0}, {"sampler": "heun"}, {"sampler": "pndm", "clip": False}], ids=str
)
def test_the_steps_are_those_of_sample_with_its_network_calls(model, options):
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    options = {"steps": 5, "seed": 3, **options}
    images = model.sample(2, progress=False, **options)
    of_sample = len(calls)
    steps = list(model.trajectory(2, **options))
    assert len(calls) == 2 * of_sample
    end = steps[-1].x
    assert torch.equal(end.clamp(-1, 1) if options.get("clip", True) else end, images)
    chosen = {name: options.get(name) for name in ("steps", "sampler", "eta")}
    _, levels = model.sampling.resolve(model.schedule, **chosen)
    assert [step.level.t for step in steps] == [level.t for level in levels[1:]]


def test_x0_is_the_prediction_that_the_step_used(model):
    """DDIM's step is x_s = alpha x0 + sigma eps, with x0 and eps of x_t (Eq. 12)."""
    x, at = noise(2, seed=0), model.schedule(1000)
    with torch.no_grad():
        for level, after, x0 in model.trajectory(2, steps=4, eta=0.0):
            predicted = model.denoise()(x, at)
            assert torch.equal(x0, predicted.x0)
            torch.testing.assert_close(after, level.alpha * x0 + level.sigma * predicted.eps)
            x, at = after, level
    assert torch.equal(x, x0)  # at t = 0


def test_between_two_steps_the_mode_and_the_gradients_are_the_callers(model):
    model.train()
    for _ in model.trajectory(1, steps=3):
        assert torch.is_grad_enabled()
        assert model.network.training
    with pytest.raises(UserError, match="at least 1"):
        model.trajectory(0)  # at the call, before the first step


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_noise_of_a_seed_from_outside_gives_the_images_of_the_seed(model, eta):
    options = {"steps": 4, "eta": eta, "batch_size": 3, "progress": False}
    images = model.sample(4, seed=7, **options)
    assert torch.equal(model.sample(4, seed=7, x_T=noise(4, seed=7), **options), images)
    assert not torch.allclose(model.sample(4, seed=7, x_T=noise(4, seed=8), **options), images, atol=0.1)
    whole = {**options, "batch_size": 4}
    assert torch.equal(model.sample(4, noise=ImageNoise(7, range(4)), **whole), model.sample(4, seed=7, **whole))


class Tanh(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.5, 4).view(1, 1, 2, 2))

    def forward(self, x, t):
        return (self.weight * x).tanh()


class Refusing:
    def network(self, model, batch, calls):
        raise AssertionError


def test_samples_are_differentiable_on_request():
    model = Denoiser(Tanh(), schedule.cosine(), "v", (1, 2, 2)).double()
    model.server = Refusing()  # no backend has gradients, so none is asked

    def end(x_T):
        *_, last = model.trajectory(1, steps=3, x_T=x_T, clip=False, grad=True)
        return last.x

    x_T = torch.linspace(-1, 1, 4, dtype=torch.float64).view(1, 1, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(end, (x_T,))
    model.server = None
    images = model.sample(1, steps=3, x_T=x_T, grad=True, batch_size=1, progress=False)
    images.square().mean().backward()
    assert x_T.grad.abs().min() > 0
    assert all(weight.grad.abs().min() > 0 for weight in model.parameters())
    assert not model.sample(1, steps=3, x_T=x_T, progress=False).requires_grad


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(UserError, match="x_T has 2 images, and 3 are asked for"):
        model.sample(3, x_T=noise(2, seed=0))
    with pytest.raises(UserError, match=r"The noise x_T must be a float tensor \(B, 1, 8, 8\)"):
        model.sample(3, x_T=torch.zeros(3, 1, 4, 4))
    with pytest.raises(UserError, match="have no gradient"):
        model.sample(1, grad=True, pixels=True)
