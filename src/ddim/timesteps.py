"""Timesteps: the times tau_S > ... > tau_1 > tau_0 = 0 that a sampler visits (DDIM, section 4.2).

A named rule for them is a spacing. Every spacing gives exactly S steps for every S from 1 to N and no time twice;
for S = 1 it is [T, 0]. Time t here is index t - 1 of the official code, whose arrays start at 0.

The rules of DDIM's paper choose among the training steps, which are the times 1 ... T of DDPM's schedules. A schedule
in continuous time has N training steps too, at its `times`, and the rules choose among these.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ddim.errors import UserError, number, shown
from ddim.level import Level
from ddim.registry import Registry
from ddim.schedule import Schedule

spacings: Registry[Callable[[Schedule, int], Sequence[float] | Tensor]] = Registry("spacing")
"""name -> the function (schedule, S) -> the S times above 0, descending; S is at least 2."""

OF_DIFFUSERS = ("linspace", "leading-offset")  # for models that come from diffusers

register = spacings.register


@register("trailing")
def trailing(schedule: Schedule, S: int) -> Tensor:
    """t = T - round(i T / S): starts at T, where the image is pure noise (arXiv 2305.08891, table 2)."""
    return schedule.times[[schedule.N - round(i * schedule.N / S) for i in range(S)]]


@register("leading")
def leading(schedule: Schedule, S: int) -> Tensor:
    """t = 1 + i floor(T / S): the official code's `uniform`, cut to S steps where S does not divide T."""
    return schedule.times[[1 + i * (schedule.N // S) for i in reversed(range(S))]]


@register("linear")
def linear(schedule: Schedule, S: int) -> Tensor:
    """t = 1 + floor(i T / S): DDIM's tau_i = floor(c i) with a real c = T / S (arXiv 2010.02502, D.2)."""
    return schedule.times[[1 + i * schedule.N // S for i in reversed(range(S))]]


@register("linspace")
def linspace(schedule: Schedule, S: int) -> Tensor:
    """t = 1 + i (T - 1) / (S - 1): both T and 1, at real times (arXiv 2305.08891, table 2)."""
    return schedule.time_at(torch.linspace(schedule.N, 1, S, dtype=torch.float64))


@register("leading-offset")
def leading_offset(schedule: Schedule, S: int) -> Tensor:
    """t = 2 + i floor(T / S), unless that exceeds T: `leading` with Stable Diffusion's steps_offset of 1."""
    times = [i * (schedule.N // S) for i in reversed(range(S))]
    return schedule.times[[(2 if times[0] + 2 <= schedule.N else 1) + t for t in times]]


@register("quadratic")
def quadratic(schedule: Schedule, S: int) -> Tensor:
    """t = 1 + floor(q), q = linspace(0, sqrt(0.8 T), S)^2: DDIM's tau_i = floor(c i^2) (arXiv 2010.02502, D.2).

    From S = 30 on (T = 1000), the official code repeats its smallest times; here a repeated time moves up.
    """
    steps: list[int] = []
    for q in np.linspace(0, math.sqrt(0.8 * schedule.N), S) ** 2:
        steps.append(max(1 + int(q), steps[-1] + 1 if steps else 1))
    return schedule.times[steps[::-1]]


@register("log-snr")
def log_snr(schedule: Schedule, S: int) -> Tensor:
    """Equal steps of log-SNR from T to 1, at real times (DPM-Solver, arXiv 2206.00927, section 3.3)."""
    return _equal_steps(schedule, S, lambda log_snr: log_snr, lambda value: value)


@register("karras")
def karras(schedule: Schedule, S: int) -> Tensor:
    """Equal steps of (sigma / alpha)^(1/7) from T to 1, at real times (EDM, arXiv 2206.00364, Eq. 5 with rho = 7)."""
    return _equal_steps(schedule, S, lambda log_snr: torch.exp(-log_snr / 14), lambda value: -14 * value.log())


def _equal_steps(
    schedule: Schedule, S: int, of: Callable[[Tensor], Tensor], inverse: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return S times from T to that of the first training step, in equal steps of a function of the log-SNR.

    If alpha_T = 0, the first step goes from T to the training step before it, and equal steps follow.
    """
    first, before = schedule.N, schedule.times[:0]
    if schedule.log_snr[-1].isinf():
        first, before, S = schedule.N - 1, schedule.times[-1:], S - 1
    start, end = of(schedule.log_snr[[first, 1]]).tolist()
    values = inverse(torch.linspace(start, end, S, dtype=torch.float64))
    times = schedule.at_log_snr(values.clamp(min=schedule.log_snr[first])).t.flatten()
    times[0], times[-1] = schedule.times[[first, 1]]  # exactly, as the inverse rounds; a single time is the last
    return torch.cat([before, times])


def timesteps(
    schedule: Schedule, steps: int | None = None, spacing: str | Sequence[float] | Tensor = "trailing"
) -> Tensor:
    """Return the S + 1 times that a sampler visits, noisiest first.

    Args:
        schedule: its T bounds the times.
        steps: S, from 1 to N, the number of training steps: T for DDPM's schedules. Optional if `spacing` lists the
            times.
        spacing: one of `names()`; or strictly descending times in [0, T], with or without the final 0.

    Returns:
        (S + 1,) float64, strictly descending, ending at 0.

    Raises:
        UserError: S outside 1 ... N, an unknown name, or listed times that do not descend within [0, T].
    """
    T, N = schedule.T, schedule.N
    if not isinstance(spacing, str):
        return _listed(T, steps, spacing)
    named = spacings[spacing]
    most = f"T = {N}" if T == N else f"the {N} training steps"
    steps = number("The number of steps", steps, int, 1, N, f"a whole number from 1 to {most}")
    times = torch.as_tensor(named(schedule, steps) if steps > 1 else [T], dtype=torch.float64)
    times = torch.cat([times, times.new_zeros(1)])
    if len(times) != steps + 1 or times[0] > T or not (times.diff() < 0).all():
        raise UserError(
            f"The spacing {spacing!r} must return {steps} times that descend strictly from at most T = {T:g}, without "
            f"the final 0; got {times.tolist()[:-1][:6]}."
        )
    return times


def _listed(T: float, steps: int | None, listed: Sequence[float] | Tensor) -> Tensor:
    try:
        times = torch.as_tensor(listed, dtype=torch.float64).flatten()
    except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's, for text, None or a set
        raise UserError(f"The spacing must be a name or a list of times; got {shown(listed)}.") from error
    if len(times) and times[-1] != 0:
        times = torch.cat([times, times.new_zeros(1)])
    if len(times) < 2 or times[0] > T or not (times.diff() < 0).all():
        raise UserError(f"A list of times must descend strictly from at most T = {T:g} to 0; got {times.tolist()[:6]}.")
    if steps is not None and steps != len(times) - 1:
        raise UserError(f"The list of times makes {len(times) - 1} steps, not {steps}; leave the number of steps out.")
    return times


def levels(schedule: Schedule, times: Tensor) -> list[Level]:
    """Return the level at each of the times, as `ddim.samplers.trajectory` takes them."""
    return [schedule(t) for t in times]


def names() -> list[str]:
    """Return the names of the spacings."""
    return list(spacings)


def compared() -> list[str]:
    """Return the names that tuning and comparisons try: all but `OF_DIFFUSERS`, which are close to others."""
    return [name for name in spacings if name not in OF_DIFFUSERS]
