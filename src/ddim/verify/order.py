"""How fast a solver's error falls as its steps shrink: its order, measured."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from ddim.level import Level
from ddim.samplers import Sampler, trajectory
from ddim.verify.exact import GAUSSIAN, MIXTURE, Gaussian, Mixture, Smooth
from ddim.verify.marginals import Law, error, law
from ddim.verify.verdict import Curve

STEPS = (20, 40, 80, 160, 320)
FITTED = 3  # the last of them, of which the slope is taken
START, END = -6.0, 6.0  # log-SNR: the stretch on which images form; the step to t = 0 never shrinks
MIDDLE = 0.0  # where orders are measured from: nearer to pure noise, a first step of low order would not show
FLOOR = 1e-11  # errors below it are rounding, of the solver or of the reference
SCHEDULE = Smooth()


def stretched(S: int, start: float = START) -> list[Level]:
    """S steps of log-SNR that grow to e times their size, evenly."""
    u = torch.linspace(0, 1, S + 1, dtype=torch.float64)
    return [SCHEDULE.at_log_snr(value) for value in start + (END - start) * torch.expm1(u) / math.expm1(1)]


def quadratic(S: int, start: float = START) -> list[Level]:
    """S steps even in the square root of t, like the paper's quadratic ladder, at real times."""
    first, last = (SCHEDULE.at_log_snr(value).t.sqrt() for value in (start, END))
    u = torch.linspace(0, 1, S + 1, dtype=torch.float64)
    return [SCHEDULE(t) for t in torch.lerp(first, last, u) ** 2]


LADDERS: dict[str, Callable[[int, float], list[Level]]] = {"stretched": stretched, "quadratic": quadratic}


def measure(make: Callable[[], Sampler], steps: tuple[int, ...] = STEPS) -> list[Curve]:
    """The curves of a solver on either kind of data and on either ladder.

    A Gaussian judges the law of the end, exact for a stochastic solver too; the mixture judges the end of each
    path, and is for deterministic solvers alone.

    Args:
        make: makes the solver.
        steps: the numbers of steps.
    """
    curves = []
    for name, spread in LADDERS.items():
        errors = tuple(_of_law(make(), GAUSSIAN, spread(S, MIDDLE)) for S in steps)
        curves.append(Curve("Gaussian", name, steps, errors, slope(steps, errors)))
        if not make().stochastic:
            errors = tuple(_of_paths(make(), MIXTURE, spread(S, MIDDLE)) for S in steps)
            curves.append(Curve("mixture", name, steps, errors, slope(steps, errors)))
    return curves


def slope(steps: tuple[int, ...], errors: tuple[float, ...]) -> float:
    """The order that the last errors show: a least-squares line through the logarithms.

    Errors that are rounding alone say nothing; where not two others are left, the order is infinite.
    """
    points = [(math.log(S), math.log(e)) for S, e in zip(steps, errors, strict=True) if not e < FLOOR][-FITTED:]
    if len(points) < 2:
        return math.inf
    x, y = torch.tensor(points, dtype=torch.float64).T
    x = x - x.mean()
    return -float((x * y).sum() / (x * x).sum())


def _of_law(sampler: Sampler, data: Gaussian, levels: list[Level]) -> float:
    return error(law(sampler, data, levels, SCHEDULE), Law(*data.law(levels[-1])))


def _of_paths(sampler: Sampler, data: Mixture, levels: list[Level]) -> float:
    *_, end = trajectory(sampler, data.denoise, starts(data), levels, schedule=SCHEDULE)
    return float((end - ends(data)).square().mean().sqrt())


@cache
def starts(data: Mixture) -> Tensor:
    """Places at the first level from which paths lead, (1, 1, 1, 33): within 2.5 standard deviations."""
    mean, std = data.law(SCHEDULE.at_log_snr(MIDDLE))
    return (mean + std * torch.linspace(-2.5, 2.5, 33, dtype=torch.float64)).reshape(1, 1, 1, -1)


@cache
def ends(data: Mixture) -> Tensor:
    """Where those paths end."""
    return data.flow(starts(data), SCHEDULE.at_log_snr(MIDDLE), SCHEDULE.at_log_snr(END))
