"""The mean and standard deviation at the end of a trajectory: exactly for Gaussian data, or from samples."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.level import Level
from ddim.samplers import Sampler, trajectory
from ddim.schedule import Schedule
from ddim.verify.exact import Gaussian, Mixture


class Law(NamedTuple):
    """The mean and the standard deviation of each pixel, (W,)."""

    mean: Tensor
    std: Tensor


def law(sampler: Sampler, data: Gaussian, levels: Sequence[Level], schedule: Schedule) -> Law:
    """Return the exact mean and standard deviation at the last level, from the exact ones at the first.

    With Gaussian data every step is affine, so the end is c + a x_T + b_1 z_1 + b_2 z_2 + ... One trajectory of
    a batch gives c, a and all b: its rows start from x_T = 0 and x_T = 1, and each noise is 1 in one row only.
    """
    noise = _Count()
    width = len(data.mean)
    if sampler.stochastic:
        *_, _ = trajectory(sampler, data.denoise, _zeros(1, width), levels, noise, schedule)
    x = _zeros(2 + noise.count, width)
    x[1] = 1
    *_, end = trajectory(sampler, data.denoise, x, levels, _Unit(), schedule)
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


class _Count:
    """A `Noise` of zeros that counts its calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, like: Tensor) -> Tensor:
        self.count += 1
        return torch.zeros_like(like)


class _Unit(_Count):
    """A `Noise` whose k-th call (from 0) returns 1 in row k + 2 and 0 in all other rows."""

    def __call__(self, like: Tensor) -> Tensor:
        draw = super().__call__(like)
        draw[self.count + 1] = 1
        return draw
