"""What a sampler makes of a normal distribution, exactly: no sample is drawn."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.level import Level
from ddim.samplers import Sampler, trajectory
from ddim.schedule import Schedule
from ddim.verify.exact import Gaussian, Mixture


class Law(NamedTuple):
    """Mean and standard deviation of each pixel, (W,)."""

    mean: Tensor
    std: Tensor


def law(sampler: Sampler, data: Gaussian, levels: Sequence[Level], schedule: Schedule) -> Law:
    """The law of what `sampler` returns at the last level when it starts from the exact law at the first.

    With Gaussian data every step is affine, so the end is c + a x_T + b_1 z_1 + b_2 z_2 + ... One trajectory of
    a batch reads c, a and all b off: its rows start from x_T = 0 and x_T = 1, and each draw is 1 in one row.
    """
    draws = _Count()
    width = len(data.mean)
    if sampler.stochastic:
        *_, _ = trajectory(sampler, data.denoise, _zeros(1, width), levels, draws, schedule)
    x = _zeros(2 + draws.count, width)
    x[1] = 1
    *_, end = trajectory(sampler, data.denoise, x, levels, _Unit(), schedule)
    c, slopes = end[0], end[1:] - end[0]
    mean, std = data.law(levels[0])
    spread = torch.cat([slopes[:1] * std, slopes[1:]]).square().sum(0).sqrt()
    return Law((c + slopes[0] * mean).flatten(), spread.flatten())


def sampled(
    sampler: Sampler, data: Mixture, levels: Sequence[Level], schedule: Schedule, count: int, seed: int = 0
) -> Law:
    """The same from `count` samples, for data that is not Gaussian; the error of the mean is std / sqrt(count)."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    x = data.draw(levels[0], count, generator)
    *_, end = trajectory(sampler, data.denoise, x, levels, noise, schedule)
    return Law(end.mean(), end.std())


def error(found: Law, exact: Law) -> float:
    """The root mean square of all differences between two laws."""
    return float(torch.cat([a - b for a, b in zip(found, exact, strict=True)]).square().mean().sqrt())


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
    """A `Noise` whose k-th draw (from 0) is 1 in row k + 2 and 0 in all others."""

    def __call__(self, like: Tensor) -> Tensor:
        draw = super().__call__(like)
        draw[self.count + 1] = 1
        return draw
