"""Networks that were trained elsewhere, each a model by one call of `ddim.Denoiser`, as docs/extending.md has them.

The images are Gaussian, N(mean, std^2) for each pixel, so that the networks and the samples are formulas. A network is
written here in the letters of its own paper, without ddim.
"""

import math

import pytest
import torch
from torch import nn

import ddim
from ddim import samplers
from ddim.noise import ImageNoise
from ddim.verify.exact import Gaussian, law

MEAN, STD = torch.tensor([0.3, -0.2]), torch.tensor([0.4, 0.1])
SHAPE = (1, 1, 2)
ABAR = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)


def column(value):
    return value[:, None, None, None]


class Epsilon(nn.Module):
    """DDPM: E[eps | x_t] at an index 0 ... 999, between two of them at the mean log-SNR."""

    def forward(self, x, index):
        alpha, sigma = rates(index)
        return sigma * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)


class Velocity(Epsilon):
    """v = alpha eps - sigma x0 (arXiv 2202.00512)."""

    def forward(self, x, index):
        alpha, sigma = rates(index)
        eps = super().forward(x, index)
        return alpha * eps - sigma * (x - sigma * eps) / alpha


class EDMDenoiser(nn.Module):
    """D(x; sigma) = E[x0 | x] of EDM, whose published networks are called as net(x, sigma)."""

    def forward(self, x, sigma):
        assert (sigma > 0).all()
        return MEAN + STD**2 / (STD**2 + column(sigma) ** 2) * (x - MEAN)


class EDMRaw(nn.Module):
    """The raw network F(c_in x; c_noise) within D, for sigma_data = 0.5: F = (D - c_skip x) / c_out."""

    def forward(self, scaled, c_noise):
        sigma = column((4 * c_noise).exp())
        total = sigma**2 + 0.25
        x = scaled * total.sqrt()
        D = MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)
        return (D - 0.25 / total * x) / (0.5 * sigma / total.sqrt())


class FlowVelocity(nn.Module):
    """u = E[eps - x0 | x_t] on x_t = (1 - t) x0 + t eps."""

    def forward(self, x, t):
        t = column(t)
        gain = ((1 - t) * STD**2) / ((1 - t) ** 2 * STD**2 + t**2)
        x0 = MEAN + gain * (x - (1 - t) * MEAN)
        return torch.where(t > 0.5, (x - x0) / t.clamp(min=0.5), ((x - (1 - t) * x0) / t.clamp(min=1e-9)) - x0)


def rates(index):
    """(alpha, sigma) of DDPM's linear schedule at real indices, (B, 1, 1, 1) each."""
    low = index.floor().clamp(0, 998).long()
    log_snr = (ABAR / (1 - ABAR)).log()
    value = torch.lerp(log_snr[low], log_snr[low + 1], (index - low).double())
    return column(value.sigmoid().sqrt()).float(), column((-value).sigmoid().sqrt()).float()


def known(std_T, alpha_T, sigma_T):
    """Where the exact probability flow leads from x_T: (x_0 - mean) / std = (x_T - alpha_T mean) / std of x_T."""
    x_T = std_T * ImageNoise(0, range(4))(torch.empty(4, *SHAPE))
    return MEAN + STD * (x_T - alpha_T * MEAN) / (alpha_T**2 * STD**2 + sigma_T**2) ** 0.5


LINEAR = 1.0, float(ABAR[-1].sqrt()), float((1 - ABAR[-1]).sqrt())
CASES = {
    "eps on indices": (
        lambda: ddim.Denoiser(Epsilon(), ddim.schedule.linear(), "eps", SHAPE, indexed=True),
        LINEAR,
    ),
    "v on indices": (lambda: ddim.Denoiser(Velocity(), ddim.schedule.linear(), "v", SHAPE, indexed=True), LINEAR),
    "EDM's denoiser": (lambda: ddim.Denoiser(EDMDenoiser(), ddim.schedule.edm(), "x0", SHAPE), (80.0, 1.0, 80.0)),
    "EDM's raw network": (
        lambda: ddim.Denoiser(ddim.Preconditioned(EDMRaw()), ddim.schedule.edm(), "x0", SHAPE),
        (80.0, 1.0, 80.0),
    ),
    "a flow": (lambda: ddim.Denoiser(FlowVelocity(), ddim.schedule.flow(), "flow", SHAPE), (1.0, 0.0, 1.0)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sampler", ["unipc", "heun", "deis", "dpm-3", "dpmpp-2m"])
def test_the_samples_are_those_of_the_exact_flow(case, sampler):
    make, top = CASES[case]
    spacing = "trailing" if case == "a flow" else "karras"
    samples = make().sample(4, sampler=sampler, steps=80, spacing=spacing, clip=False, progress=False)
    torch.testing.assert_close(samples, known(*top), rtol=0, atol=5e-3)


@pytest.mark.parametrize("case", CASES)
def test_the_law_of_stochastic_samples(case):
    """The mean and the std of 4,000 samples of DDPM's sampler are its exact ones, within 4.5 standard errors."""
    model = CASES[case][0]()
    samples = model.sample(
        4000, sampler="ddpm", steps=60, spacing="log-snr", clip=False, batch_size=4000, progress=False
    )
    samples = samples.flatten(1)
    sampler, visited = model.sampling.resolve(model.schedule, 60, "ddpm", spacing="log-snr")
    mean, std = law(sampler, Gaussian((0.3, -0.2), (0.4, 0.1)), visited, model.schedule)
    assert ((samples.mean(0) - mean).abs() < 4.5 * STD / math.sqrt(4000)).all()
    assert ((samples.std(0) - std).abs() < 4.5 * STD / math.sqrt(8000)).all()


@pytest.mark.parametrize("case", CASES)
def test_every_solver_runs_on_it(case):
    model = CASES[case][0]()
    for name in samplers.names():
        samples = model.sample(2, sampler=name, steps=8, clip=False, progress=False)
        assert samples.isfinite().all()
        assert samples.abs().max() < 3
