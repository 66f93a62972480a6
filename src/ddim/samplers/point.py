"""A noise level as plain numbers: what the coefficients of a solver are computed from, once, in float64."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.errors import UserError
from ddim.level import Level
from ddim.schedule import Schedule

Number = float | Tensor
"""A float, or (B, 1, 1, 1) with one number per image."""

PURE = 1e-3
"""A level with alpha / sigma below this counts as pure noise.

A step from there multiplies errors of eps by alpha_s / alpha_t: thousands on the cosine schedule, whose alpha_T is
5e-5. DDIM's step is free of that, and next to exact, for what is said of x0 hardly depends on x there.
"""


class Point(NamedTuple):
    """One noise level of one image, x_t = alpha x_0 + sigma eps, on or off the circle alpha^2 + sigma^2 = 1."""

    t: float
    alpha: float
    sigma: float

    @property
    def finite(self) -> bool:
        """Whether a solver may use its log-SNR: neither clean (sigma = 0) nor, nearly, pure noise (alpha = 0)."""
        return self.sigma > 0 and not self.noise

    @property
    def noise(self) -> bool:
        """Whether the level is pure noise, or so near to it that only DDIM's step is safe."""
        return self.alpha < PURE * self.sigma

    @property
    def lam(self) -> float:
        """lambda = log(alpha / sigma), half the log-SNR; only where it is finite."""
        return math.log(self.alpha / self.sigma)

    @property
    def rho(self) -> float:
        """sigma / alpha, the noise rate of x / alpha: EDM's sigma; infinite for pure noise."""
        return self.sigma / self.alpha if self.alpha > 0 else math.inf

    @classmethod
    def at_lambda(cls, schedule: Schedule | None, lam: float, sampler: object) -> "Point":
        """The level of `schedule` where log(alpha / sigma) is `lam`, for a solver that evaluates between levels."""
        found = needed(schedule, sampler).at_log_snr(2 * lam)
        return cls(*(value.item() for value in found))

    @classmethod
    def at_time(cls, schedule: Schedule | None, t: float, sampler: object) -> "Point":
        """The level of `schedule` at time `t`, for a solver that evaluates between levels."""
        return cls(*(value.item() for value in needed(schedule, sampler)(t)))


def needed(schedule: Schedule | None, sampler: object) -> Schedule:
    """`schedule`, or the error that a solver which evaluates between the levels of its ladder cannot do without."""
    if schedule is None:
        raise UserError(
            f"{sampler} looks between the levels of its ladder and must know the schedule there; "
            "give `trajectory` its `schedule`."
        )
    return schedule


def agreed(schedule: Schedule | None, walk: Sequence[Point], sampler: object) -> Schedule:
    """`schedule`, or the error that the walk's times are not its own, for a solver that works in time."""
    on = needed(schedule, sampler)
    _, alpha, sigma = on(torch.tensor([point.t for point in walk], dtype=torch.float64))
    if not all(map(partial(math.isclose, rel_tol=1e-3), (sigma / alpha).flatten().tolist(), (p.rho for p in walk))):
        raise UserError(
            f"{sampler} works in time, and these levels are not where the schedule has their times; "
            "take them from it, or choose a solver that works in lambda, such as UniPC."
        )
    return on


def points(levels: Sequence[Level]) -> list[list[Point]]:
    """The walk of each image, as plain numbers; a single walk where the levels are those of a whole batch."""
    count = max(level.t.numel() for level in levels)
    columns = [[value.flatten().tolist() * (count // value.numel()) for value in level] for level in levels]
    return [[Point(t[i], alpha[i], sigma[i]) for t, alpha, sigma in columns] for i in range(count)]


def behind(walk: Sequence[Point], n: int, count: int) -> list[Point]:
    """Up to `count` levels before level n, newest first, as far as the walk came straight and by finite log-SNR."""
    at, to = walk[n], walk[n + 1]
    found: list[Point] = []
    for point in reversed(walk[max(0, n - count) : n]):
        last = found[-1] if found else at
        if not point.finite or (point.rho - last.rho) * (at.rho - to.rho) <= 0:
            break
        found.append(point)
    return found


def together(values: Sequence[float]) -> Number:
    """One number per image as (B, 1, 1, 1); the float itself if there is one."""
    return values[0] if len(values) == 1 else torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def level(images: Sequence[Point]) -> Level:
    """The level of a batch from the points of its images; 0-d if there is one."""
    return Level(*(torch.as_tensor(together(values), dtype=torch.float64) for values in zip(*images, strict=True)))


def like(number: Number, x: Tensor) -> Number:
    """The number ready for arithmetic with `x`: numbers per image take its dtype and device."""
    return number.to(x) if isinstance(number, Tensor) else number


def chosen(who: Tensor | None, one: Tensor, other: Tensor) -> Tensor:
    """`one` for the images that are marked, `other` for the rest; `one` for all where there are no marks."""
    return one if who is None else torch.where(who.to(one.device), one, other)
