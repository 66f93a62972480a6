"""What the tests of the solvers measure against: smooth levels, and the closed forms of `ddim.verify.exact`.

`flow_mixture` solves the ODE of the mixture in another way than `Mixture.flow`; neither uses a solver under test.
"""

import torch
from torch import Tensor

from ddim import schedule
from ddim.level import Level
from ddim.verify.exact import MIXTURE, Gaussian

FINE = schedule.linear(T=10_000, beta_start=1e-5, beta_end=2e-3)
"""So fine that its piecewise log-SNR is smooth to a solver that works in time."""

GAUSSIAN = Gaussian((0.3,), (0.4,))
gaussian, mixture = GAUSSIAN.denoise, MIXTURE.denoise
START = torch.tensor([-1.7, -0.8, -0.1, 0.4, 1.1, 1.9], dtype=torch.float64).reshape(6, 1, 1, 1)


def smooth(S: int, start: float = -1.0, end: float = 2.0, on: schedule.Schedule = FINE) -> list[Level]:
    """S steps between two lambdas, of lengths that change smoothly by a factor of two and more."""
    u = torch.linspace(0, 1, S + 1, dtype=torch.float64)
    lam = start + (end - start) * (u + 0.35 * u * (1 - u) * (1.3 - u))
    return [on.at_log_snr(2 * value) for value in lam]


def flow_mixture(x: Tensor, at: Level, to: Level) -> Tensor:
    """In one dimension the ODE keeps the order of the points, and so each one's quantile: found by bisection."""
    means = torch.tensor([MIXTURE.low, MIXTURE.high], dtype=torch.float64)
    shares = torch.tensor([1 - MIXTURE.share, MIXTURE.share], dtype=torch.float64)

    def quantile(x: Tensor, level: Level) -> Tensor:
        std = ((level.alpha * MIXTURE.std) ** 2 + level.sigma**2).sqrt()
        return (shares * torch.special.ndtr((x[..., None] - level.alpha * means) / std)).sum(-1)

    target, low, high = quantile(x, at), torch.full_like(x, -20), torch.full_like(x, 20)
    for _ in range(80):
        middle = (low + high) / 2
        below = quantile(middle, to) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
