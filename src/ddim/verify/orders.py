"""Measured orders of convergence: how fast the error of a sampler falls as its steps shrink."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ddim.level import Level
from ddim.samplers import Sampler, trajectory
from ddim.verify.exact import GAUSSIAN, MIXTURE, Gaussian, Mixture, Smooth, error, law
from ddim.verify.verdict import Curve

STEPS = (20, 40, 80, 160, 320)
FITTED = 3  # the slope is fitted to the last three of them
START, END = -6.0, 6.0  # log-SNR: where images form; the step to t = 0 does not shrink
MIDDLE = 0.0  # log-SNR where measured paths start: nearer to pure noise, a low-order first step would not show
FLOOR = 1e-11  # smaller errors are rounding, of the sampler or of the reference
SCHEDULE = Smooth()


def stretched(S: int, start: float = START) -> list[Level]:
    """Return the levels of S steps of log-SNR that grow evenly to e times their size."""
    u = torch.linspace(0, 1, S + 1, dtype=torch.float64)
    return [SCHEDULE.at_log_snr(value) for value in start + (END - start) * torch.expm1(u) / math.expm1(1)]


def quadratic(S: int, start: float = START) -> list[Level]:
    """Return the levels of S even steps in the square root of t, as in DDIM's "quadratic", at real times."""
    first, last = (SCHEDULE.at_log_snr(value).t.sqrt() for value in (start, END))
    u = torch.linspace(0, 1, S + 1, dtype=torch.float64)
    return [SCHEDULE(t) for t in torch.lerp(first, last, u) ** 2]


SPACINGS: dict[str, Callable[[int, float], list[Level]]] = {"stretched": stretched, "quadratic": quadratic}


def measure(factory: Callable[[], Sampler], steps: tuple[int, ...] = STEPS) -> list[Curve]:
    """Return the error curves of a sampler on both kinds of data and with both spacings.

    On Gaussian data the error is that of the mean and standard deviation at the end, exact also for stochastic
    samplers. On the mixture it is the error of each path, for deterministic samplers only. Each of `steps` is a
    number of steps, and `factory` returns a new sampler for each.
    """
    curves = []
    for name, spacing in SPACINGS.items():
        errors = tuple(law_error(factory(), GAUSSIAN, spacing(S, MIDDLE)) for S in steps)
        curves.append(Curve("Gaussian", name, steps, errors, slope(steps, errors)))
        if not factory().stochastic:
            errors = tuple(_path_error(factory(), MIXTURE, spacing(S, MIDDLE)) for S in steps)
            curves.append(Curve("mixture", name, steps, errors, slope(steps, errors)))
    return curves


def slope(steps: tuple[int, ...], errors: tuple[float, ...]) -> float:
    """Return the order from the last errors, by a least-squares line through the logarithms.

    Errors below `FLOOR` are left out. With fewer than two others, the order is infinite.
    """
    points = [(math.log(S), math.log(e)) for S, e in zip(steps, errors, strict=True) if not e < FLOOR][-FITTED:]
    if len(points) < 2:
        return math.inf
    x, y = torch.tensor(points, dtype=torch.float64).T
    x = x - x.mean()
    return -float((x * y).sum() / (x * x).sum())


def law_error(sampler: Sampler, data: Gaussian, levels: list[Level]) -> float:
    """Return the error of the mean and standard deviation at the last level."""
    return error(law(sampler, data, levels, SCHEDULE), data.law(levels[-1]))


def _path_error(sampler: Sampler, data: Mixture, levels: list[Level]) -> float:
    starts, exact = _paths(data)
    *_, end = trajectory(sampler, data.denoise, starts, levels, schedule=SCHEDULE)
    return float((end - exact).square().mean().sqrt())


@cache
def _paths(data: Mixture) -> tuple[Tensor, Tensor]:
    """Return the starts of 33 paths, within 2.5 standard deviations, and their exact ends: (1, 1, 1, 33) each."""
    start, end = SCHEDULE.at_log_snr(MIDDLE), SCHEDULE.at_log_snr(END)
    mean, std = data.law(start)
    x = (mean + std * torch.linspace(-2.5, 2.5, 33, dtype=torch.float64)).reshape(1, 1, 1, -1)
    return x, data.flow(x, start, end)
