"""Data whose exact denoiser and probability flow are formulas, and the law at the end of a sampler's trajectory.

Pixels are independent, (B, 1, 1, W).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.forward import q_sample
from ddim.level import Level, Prediction
from ddim.predict import from_x0
from ddim.samplers import Sampler, trajectory
from ddim.schedule import Schedule, vp_sde

Smooth = vp_sde  # DDPM's linear schedule as a formula, smooth in the real time t; a table has kinks at the integers


class Law(NamedTuple):
    """The mean and the standard deviation of each pixel, (W,)."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class Gaussian:
    """Pixels of N(mean, std^2), with a mean and std for each of the W pixels; std = 0 is a point mass."""

    mean: Sequence[float]
    std: Sequence[float]

    def denoise(self, x: Tensor, at: Level) -> Prediction:
        """Return x0 = E[x0 | x_t] = m + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t - alpha m), and eps."""
        mean, std = _row(self.mean), _row(self.std)
        gain = at.alpha * std**2 / (at.alpha**2 * std**2 + at.sigma**2)
        return from_x0(x, at, mean + gain * (x - at.alpha * mean))

    def law(self, at: Level) -> Law:
        """Return the law of x_t."""
        return Law(at.alpha * _row(self.mean), (at.alpha**2 * _row(self.std) ** 2 + at.sigma**2).sqrt())

    def flow(self, x: Tensor, at: Level, to: Level) -> Tensor:
        """Return x_s on the probability flow through x_t: (x_s - m_s) / std_s = (x_t - m_t) / std_t."""
        (mean_t, std_t), (mean_s, std_s) = self.law(at), self.law(to)
        return mean_s + std_s / std_t * (x - mean_t)


@dataclass(frozen=True)
class Mixture:
    """Pixels of N(low, std^2) or, with probability `share`, of N(high, std^2)."""

    low: float = -0.6
    high: float = 0.5
    std: float = 0.3
    share: float = 0.35

    def denoise(self, x: Tensor, at: Level) -> Prediction:
        """Return x0 = E[x0 | x_t], that of each Gaussian weighted by its posterior probability, and eps."""
        variance = at.alpha**2 * self.std**2 + at.sigma**2
        gain = at.alpha * self.std**2 / variance
        middle = at.alpha * (self.low + self.high) / 2
        odds = math.log(self.share / (1 - self.share)) + at.alpha * (self.high - self.low) * (x - middle) / variance
        mean = self.low + (self.high - self.low) * odds.sigmoid()
        return from_x0(x, at, mean + gain * (x - at.alpha * mean))

    def law(self, at: Level) -> Law:
        """Return the law of x_t, 0-d."""
        mean = self.low + (self.high - self.low) * self.share
        variance = self.std**2 + (self.high - self.low) ** 2 * self.share * (1 - self.share)
        return Law(at.alpha * mean, (at.alpha**2 * variance + at.sigma**2).sqrt())

    def draw(self, at: Level, count: int, generator: torch.Generator) -> Tensor:
        """Return samples of x_t, (count, 1, 1, 1)."""
        high, z, eps = torch.randn(3, count, 1, 1, 1, generator=generator, dtype=torch.float64)
        is_high = torch.special.ndtr(high) < self.share
        x0 = torch.where(is_high, self.high, self.low) + self.std * z
        return q_sample(x0, at, eps)

    def flow(self, x: Tensor, at: Level, to: Level, steps: int = 2500) -> Tensor:
        """Return x_s on the probability flow through x_t, by the classical Runge-Kutta method.

        It integrates du/d(log r) = r eps with u = x / alpha and r = sigma / alpha (DDIM, Eq. 14), independently of
        the solvers under test.
        """
        start, end = (float((level.sigma / level.alpha).log()) for level in (at, to))
        h, u = (end - start) / steps, x / at.alpha

        def slope(u: Tensor, log_r: float) -> Tensor:
            r = torch.tensor(math.exp(log_r), dtype=torch.float64)
            alpha = (1 + r**2).rsqrt()
            return r * self.denoise(alpha * u, Level(r, alpha, alpha * r)).eps

        for i in range(steps):
            now = start + i * h
            k1 = slope(u, now)
            k2 = slope(u + h / 2 * k1, now + h / 2)
            k3 = slope(u + h / 2 * k2, now + h / 2)
            k4 = slope(u + h * k3, now + h)
            u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return to.alpha * u


@cache
def _row(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


GAUSSIAN = Gaussian((0.3, -0.2, 0.5, 0.0), (0.2, 0.5, 0.8, 0.35))
MIXTURE = Mixture()
POINT = Gaussian((0.3, -0.7, 1.0, 0.0), (0.0, 0.0, 0.0, 0.0))


def law(sampler: Sampler, data: Gaussian, levels: Sequence[Level], schedule: Schedule) -> Law:
    """Return the exact mean and standard deviation at the last level, from the exact ones at the first.

    With Gaussian data every step is affine, so the end is c + a x_T + b_1 z_1 + b_2 z_2 + ... One trajectory of
    a batch gives c, a and all b: its rows start from x_T = 0 and x_T = 1, and each noise is 1 in one row only.
    """
    draws, width = 0, len(data.mean)

    def counted(like: Tensor) -> Tensor:
        nonlocal draws
        draws += 1
        return torch.zeros_like(like)

    if sampler.stochastic:
        *_, _ = trajectory(sampler, data.denoise, _zeros(1, width), levels, counted, schedule)
    x = _zeros(2 + draws, width)
    x[1] = 1
    rows = iter(range(2, len(x)))

    def unit(like: Tensor) -> Tensor:
        noise = torch.zeros_like(like)
        noise[next(rows)] = 1
        return noise

    *_, end = trajectory(sampler, data.denoise, x, levels, unit, schedule)
    c, slopes = end[0], end[1:] - end[0]
    mean, std = data.law(levels[0])
    spread = torch.cat([slopes[:1] * std, slopes[1:]]).square().sum(0).sqrt()
    return Law((c + slopes[0] * mean).flatten(), spread.flatten())


def sampled(
    sampler: Sampler, data: Mixture, levels: Sequence[Level], schedule: Schedule, count: int, seed: int = 0
) -> Law:
    """Return the same from `count` samples, for any data; the standard error of the mean is std / sqrt(count)."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    x = data.draw(levels[0], count, generator)
    *_, end = trajectory(sampler, data.denoise, x, levels, noise, schedule)
    return Law(end.mean(), end.std())


def error(measured: Law, exact: Law) -> float:
    """Return the root mean square of the differences in means and standard deviations."""
    return float(torch.cat([a - b for a, b in zip(measured, exact, strict=True)]).square().mean().sqrt())


def _zeros(rows: int, width: int) -> Tensor:
    return torch.zeros(rows, 1, 1, width, dtype=torch.float64)
