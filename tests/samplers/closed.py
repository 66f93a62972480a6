"""Closed forms that the tests of the solvers measure against: exact denoisers, and exact solutions of their ODE."""

import torch
from torch import Tensor

from ddim import schedule
from ddim.level import Level, Prediction
from ddim.predict import from_x0

FINE = schedule.linear(T=10_000, beta_start=1e-5, beta_end=2e-3)
"""So fine that its piecewise log-SNR is smooth to a solver that works in time."""

MEANS, STDS, SHARES = torch.tensor([[-0.6, 0.5], [0.25, 0.35], [0.4, 0.6]], dtype=torch.float64)
START = torch.tensor([-1.7, -0.8, -0.1, 0.4, 1.1, 1.9], dtype=torch.float64).reshape(6, 1, 1, 1)


def smooth(S: int, start: float = -1.0, end: float = 2.0) -> list[Level]:
    """S steps between two lambdas, of lengths that change smoothly by a factor of two and more."""
    u = torch.linspace(0, 1, S + 1, dtype=torch.float64)
    lam = start + (end - start) * (u + 0.35 * u * (1 - u) * (1.3 - u))
    return [FINE.at_log_snr(2 * value) for value in lam]


def gaussian(x: Tensor, at: Level, mean: float = 0.3, std: float = 0.4) -> Prediction:
    """Data N(mean, std^2)."""
    gain = at.alpha * std**2 / (at.alpha**2 * std**2 + at.sigma**2)
    return from_x0(x, at, mean + gain * (x - at.alpha * mean))


def flow_gaussian(x: Tensor, at: Level, to: Level, mean: float = 0.3, std: float = 0.4) -> Tensor:
    """The ODE moves each quantile with its marginal: the distance from the mean scales with the marginal std."""
    there, here = (((level.alpha * std) ** 2 + level.sigma**2).sqrt() for level in (to, at))
    return to.alpha * mean + there / here * (x - at.alpha * mean)


def mixture(x: Tensor, at: Level) -> Prediction:
    """Data from two Gaussians."""
    away = x[..., None] - at.alpha * MEANS
    variances = (at.alpha * STDS) ** 2 + at.sigma**2
    odds = torch.softmax(SHARES.log() - variances.log() / 2 - away**2 / variances / 2, -1)
    return from_x0(x, at, (odds * (MEANS + at.alpha * STDS**2 / variances * away)).sum(-1))


def flow_mixture(x: Tensor, at: Level, to: Level) -> Tensor:
    """In one dimension the ODE keeps the order of the points, and so each one's quantile: found by bisection."""

    def quantile(x: Tensor, level: Level) -> Tensor:
        stds = ((level.alpha * STDS) ** 2 + level.sigma**2).sqrt()
        return (SHARES * torch.special.ndtr((x[..., None] - level.alpha * MEANS) / stds)).sum(-1)

    target, low, high = quantile(x, at), torch.full_like(x, -20), torch.full_like(x, 20)
    for _ in range(80):
        middle = (low + high) / 2
        below = quantile(middle, to) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
