"""Timesteps: the times tau_S > ... > tau_1 > tau_0 = 0 that a sampler visits (DDIM, section 4.2).

A named rule for them is a spacing. Every spacing gives exactly S steps for every S from 1 to T and no time twice;
for S = 1 it is [T, 0]. Time t here is index t - 1 of the official code, whose arrays start at 0.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ddim.errors import UserError, number
from ddim.level import Level
from ddim.registry import Registry
from ddim.schedule import Schedule

spacings: Registry[Callable[[Schedule, int], Sequence[float] | Tensor]] = Registry("spacing")
"""name -> the function (schedule, S) -> the S times above 0, descending; S is at least 2."""

register = spacings.register


@register("trailing")
def trailing(schedule: Schedule, S: int) -> list[int]:
    """t = T - round(i T / S): starts at T, where the image is pure noise (arXiv 2305.08891, table 2)."""
    return [schedule.T - round(i * schedule.T / S) for i in range(S)]


@register("leading")
def leading(schedule: Schedule, S: int) -> list[int]:
    """t = 1 + i floor(T / S): the official code's `uniform`, cut to S steps where S does not divide T."""
    return [1 + i * (schedule.T // S) for i in reversed(range(S))]


@register("linear")
def linear(schedule: Schedule, S: int) -> list[int]:
    """t = 1 + floor(i T / S): the paper's tau_i = floor(c i) with a real c = T / S (DDIM, appendix D.2)."""
    return [1 + i * schedule.T // S for i in reversed(range(S))]


@register("quadratic")
def quadratic(schedule: Schedule, S: int) -> list[int]:
    """t = 1 + floor(q), q = linspace(0, sqrt(0.8 T), S)^2: the paper's tau_i = floor(c i^2) (DDIM, appendix D.2).

    From S = 30 on (T = 1000), the official code repeats its smallest times; here a repeated time moves up.
    """
    times: list[int] = []
    for q in np.linspace(0, math.sqrt(0.8 * schedule.T), S) ** 2:
        times.append(max(1 + int(q), times[-1] + 1 if times else 1))
    return times[::-1]


@register("log-snr")
def log_snr(schedule: Schedule, S: int) -> Tensor:
    """Equal steps of log-SNR from T to 1, at real times (DPM-Solver, arXiv 2206.00927, section 3.3)."""
    T = schedule.T
    if schedule.log_snr[T].isinf():  # alpha_T = 0: the first step goes from T to T - 1, and equal steps follow
        rest = _equal_steps(schedule, T - 1, S - 1) if S > 2 else schedule.log_snr.new_tensor([1.0])
        return torch.cat([rest.new_tensor([T]), rest])
    return _equal_steps(schedule, T, S)


def _equal_steps(schedule: Schedule, start: int, S: int) -> Tensor:
    values = torch.linspace(float(schedule.log_snr[start]), float(schedule.log_snr[1]), S, dtype=torch.float64)
    times = schedule.at_log_snr(values.clamp(min=schedule.log_snr[start])).t.flatten()
    times[0], times[-1] = start, 1  # exactly: the inverse of the log-SNR rounds
    return times


def timesteps(
    schedule: Schedule, steps: int | None = None, spacing: str | Sequence[float] | Tensor = "trailing"
) -> Tensor:
    """Return the S + 1 times that a sampler visits, noisiest first.

    Args:
        schedule: its T bounds the times.
        steps: S, the number of steps, from 1 to T. Optional if `spacing` lists the times.
        spacing: one of `names()`; or strictly descending times in [0, T], with or without the final 0.

    Returns:
        (S + 1,) float64, strictly descending, ending at 0.

    Raises:
        UserError: S outside 1 ... T, an unknown name, or listed times that do not descend within [0, T].
    """
    T = schedule.T
    if not isinstance(spacing, str):
        return _listed(T, steps, spacing)
    named = spacings[spacing]
    steps = number("The number of steps", steps, int, 1, T, f"a whole number from 1 to T = {T}")
    times = torch.as_tensor(named(schedule, steps) if steps > 1 else [T], dtype=torch.float64)
    times = torch.cat([times, times.new_zeros(1)])
    if len(times) != steps + 1 or times[0] > T or not (times.diff() < 0).all():
        raise UserError(
            f"The spacing {spacing!r} must return {steps} times that descend strictly from at most T = {T}, without "
            f"the final 0; got {times.tolist()[:-1][:6]}."
        )
    return times


def _listed(T: int, steps: int | None, listed: Sequence[float] | Tensor) -> Tensor:
    try:
        times = torch.as_tensor(listed, dtype=torch.float64).flatten()
    except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's, for text, None or a set
        raise UserError(f"The spacing must be a name or a list of times; got {listed!r}.") from error
    if len(times) and times[-1] != 0:
        times = torch.cat([times, times.new_zeros(1)])
    if len(times) < 2 or times[0] > T or not (times.diff() < 0).all():
        raise UserError(f"A list of times must descend strictly from at most T = {T} to 0; got {times.tolist()[:6]}.")
    if steps is not None and steps != len(times) - 1:
        raise UserError(f"The list of times makes {len(times) - 1} steps, not {steps}; leave the number of steps out.")
    return times


def levels(schedule: Schedule, times: Tensor) -> list[Level]:
    """Return the level at each of the times, as `ddim.samplers.trajectory` takes them."""
    return [schedule(t) for t in times]


def names() -> list[str]:
    """Return the names of the spacings."""
    return list(spacings)
