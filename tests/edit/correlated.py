"""A Gaussian of images whose pixels vary together, and the exact law of a sampler's images of it: both are affine."""

from typing import NamedTuple

import torch
from torch import Tensor

from ddim.edit import Operator
from ddim.level import Denoise, Level, Prediction
from ddim.predict import from_x0
from ddim.samplers import Sampler, trajectory
from ddim.schedule import vp_sde
from ddim.timesteps import levels, timesteps

SHAPE = (1, 4, 4)
PIXELS = 16
SCHEDULE = vp_sde()


class Law(NamedTuple):
    mean: Tensor  # (16,)
    cov: Tensor  # (16, 16)


def data() -> Law:
    """Neighbours vary alike: a squared exponential of length 1.5 pixels, and 0.1 of independent noise."""
    place = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)).double()
    apart = (place[:, None] - place).square().sum(-1)
    cov = 0.25 * torch.exp(-apart / (2 * 1.5**2)) + 0.01 * torch.eye(PIXELS)
    return Law(0.3 * torch.sin(torch.arange(PIXELS).double()), cov)


DATA = data()


VALUES, VECTORS = torch.linalg.eigh(DATA.cov)


def denoise(x: Tensor, at: Level) -> Prediction:
    """E[x0 | x_t] = m + alpha C (alpha^2 C + sigma^2)^-1 (x_t - alpha m), in the eigenvectors of C."""
    alpha, sigma = at.alpha.reshape(-1, 1), at.sigma.reshape(-1, 1)
    gain = alpha * VALUES / (alpha**2 * VALUES + sigma**2)
    centred = x.flatten(1) - alpha * DATA.mean
    return from_x0(x, at, (DATA.mean + (centred @ VECTORS * gain) @ VECTORS.T).reshape(x.shape))


def matrix(operator: Operator) -> Tensor:
    """A, (measurements, pixels)."""
    return operator.forward(torch.eye(PIXELS).double().reshape(PIXELS, *SHAPE)).flatten(1).T


def conditional(y: Tensor, operator: Operator, noise_std: float) -> Law:
    """The law of x0 given y, from the formula for Gaussians."""
    A = matrix(operator)
    gain = DATA.cov @ A.T @ torch.linalg.pinv(A @ DATA.cov @ A.T + noise_std**2 * torch.eye(len(A)), rtol=1e-10)
    return Law(DATA.mean + gain @ (y.flatten() - A @ DATA.mean), DATA.cov - gain @ A @ DATA.cov)


def sampled(sampler: Sampler, denoise: Denoise, steps: int = 50) -> Law:
    """The law of the end of a sampler's walk that starts from noise, by the affine map from all noise to the end."""
    walk = levels(SCHEDULE, timesteps(SCHEDULE, steps, "log-snr"))
    draws = 0

    def count(like: Tensor) -> Tensor:
        nonlocal draws
        draws += 1
        return torch.zeros_like(like)

    *_, _ = trajectory(sampler, denoise, torch.zeros(1, *SHAPE).double(), walk, count, SCHEDULE)
    units = torch.eye(PIXELS).double().reshape(PIXELS, *SHAPE)
    x = torch.zeros(1 + PIXELS * (1 + draws), *SHAPE, dtype=torch.float64)
    x[1 : 1 + PIXELS] = units
    starts = iter(range(1 + PIXELS, len(x), PIXELS))

    def unit(like: Tensor) -> Tensor:
        start, noise = next(starts), torch.zeros_like(like)
        noise[start : start + PIXELS] = units
        return noise

    *_, end = trajectory(sampler, denoise, x, walk, unit, SCHEDULE)
    c, slopes = end[0].flatten(), (end[1:] - end[0]).flatten(1)
    return Law(c, slopes.T @ slopes)
