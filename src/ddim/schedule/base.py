"""What a schedule is, and the registry of schedules."""

import functools
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor

from ddim.errors import UserError, number
from ddim.level import Level
from ddim.registry import Registry

Options = ParamSpec("Options")
LONGEST = 100_000  # largest N: the tables of a schedule have one number for each step


class Schedule(ABC):
    """The map from time t in [0, T] to a noise level; t = 0 is the clean image.

    The tables hold a number for each of the N training steps, at `times`. A schedule with alpha^2 + sigma^2 = 1
    preserves variance, and its alpha-bar is alpha^2. Any other has the alpha-bar and the betas of the one that
    preserves variance at the same log-SNR, on which x_t / sqrt(alpha^2 + sigma^2) lies.
    """

    T: float  # the last time; the number of training steps, if time counts these
    times: Tensor  # (N + 1,) float64, times of the training steps, from 0 to T: by default the integers
    betas: Tensor  # (N + 1,) float64, betas[i] is beta_i; betas[0] = 0
    alpha_bar: Tensor  # (N + 1,) float64, alpha_bar[i] is alpha-bar at times[i]; alpha_bar[0] = 1
    log_snr: Tensor  # (N + 1,) float64, log(alpha^2 / sigma^2), falling from +infinity
    config: dict[str, Any]  # the name and the options for `get`, as saved with a model

    def __new__(cls, *args: Any, **options: Any) -> "Schedule":
        if cls is Schedule:
            from ddim.schedule.betas import BetaSchedule

            message = "Schedule(betas) is now ddim.schedule.from_betas(betas)."
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return super().__new__(BetaSchedule)
        return super().__new__(cls)

    @property
    def N(self) -> int:
        """Number of training steps, the most that a spacing makes."""
        return len(self.times) - 1

    def __call__(self, t: float | Tensor) -> Level:
        """Return the level at a real time t in [0, T]: 0-d tensors, or (B, 1, 1, 1) for (B,) times, one per image.

        Raises:
            UserError: a time outside [0, T].
        """
        t = _column(t)
        if not ((t >= 0) & (t <= self.T)).all():
            raise UserError(f"Time must lie in [0, {self.T:g}] on this schedule; got {t.flatten().tolist()[:4]}.")
        return Level(t, *self._rates(t))

    def at_log_snr(self, value: float | Tensor) -> Level:
        """Return the level with a given log(alpha^2 / sigma^2), a number or (B,); +infinity is t = 0.

        `schedule(level.t)` is the same level to rounding.

        Raises:
            UserError: a log-SNR below the schedule's last.
        """
        value = _column(value)
        if not (value >= self.log_snr[-1]).all():
            raise UserError(
                f"The log-SNR must be at least {self.log_snr[-1]:.4g}, this schedule's at t = T; "
                f"got {value.flatten().tolist()[:4]}."
            )
        return self._level(value)

    def time_at(self, step: float | Tensor) -> Tensor:
        """Return the time of a real number of training steps, from 0 to N: `times`, and linear between two of them."""
        step = torch.as_tensor(step, dtype=torch.float64)
        low = step.floor().clamp(max=self.N - 1).long()
        return torch.lerp(self.times[low], self.times[low + 1], step - low)

    @abstractmethod
    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) at times in [0, T]."""

    @abstractmethod
    def _level(self, log_snr: Tensor) -> Level:
        """Return the level of a log-SNR that the schedule reaches."""


def preserving(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) with alpha^2 + sigma^2 = 1."""
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


def betas_of(log_snr: Tensor) -> Tensor:
    """beta_i = 1 - alpha-bar_i / alpha-bar_(i-1), with beta_0 = 0, from the log-SNR of all steps."""
    log_alpha_bar = torch.nn.functional.logsigmoid(log_snr)
    return torch.cat([log_snr.new_zeros(1), -torch.expm1(log_alpha_bar.diff())])


def step_before(schedule: Schedule, log_snr: Tensor) -> Tensor:
    """Return the last step, up to N - 1, whose log-SNR is not below `log_snr`."""
    return torch.searchsorted(-schedule.log_snr, -log_snr, right=True).sub(1).clamp(0, schedule.N - 1)


def _column(value: float | Tensor) -> Tensor:
    """0-d stays 0-d; (B,) becomes (B, 1, 1, 1), which broadcasts over images."""
    value = torch.as_tensor(value, dtype=torch.float64)
    return value.reshape(-1, 1, 1, 1) if value.ndim else value


schedules: Registry[Callable[..., Schedule]] = Registry("schedule")  # name -> the function that makes it


def register(name: str) -> Callable[[Callable[Options, Schedule]], Callable[Options, Schedule]]:
    """Return a decorator that registers a function which makes a schedule.

    The schedule's `config` becomes the name and the function's arguments, so that `get(**config)` makes it again:
    these must be numbers, strings or lists. An argument T is checked: it is a whole number from 1 to `LONGEST`. A saved
    model with your schedule loads after your module is imported.
    """

    def decorate(make: Callable[Options, Schedule]) -> Callable[Options, Schedule]:
        @functools.wraps(make)
        def configured(*args: Options.args, **kwargs: Options.kwargs) -> Schedule:
            bound = inspect.signature(make).bind(*args, **kwargs)
            bound.apply_defaults()
            if "T" in bound.arguments:
                bound.arguments["T"] = number("T", bound.arguments["T"], int, 1, LONGEST)
            schedule = make(*bound.args, **bound.kwargs)
            options = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in bound.arguments.items()}
            schedule.config = {"name": name, **options}
            return schedule

        schedules[name] = configured
        return configured

    return decorate


def get(name: str, **options: Any) -> Schedule:
    """Return a new schedule by its name.

    Args:
        name: one of `names()`, or "betas".
        options: arguments of the function that makes it, e.g. get("cosine", T=500).

    Raises:
        UserError: an unknown name, an option that the schedule does not have, or a value out of range.
    """
    return schedules.create(name, **options)  # type: ignore[no-any-return]


def from_config(config: dict[str, Any]) -> Schedule:
    """Return a new schedule from a `config`."""
    return get(**config)


def names() -> list[str]:
    """Return the names that `get` takes without options."""
    parameters = {name: inspect.signature(make).parameters.values() for name, make in schedules.items()}
    return [name for name in schedules if all(p.default is not p.empty for p in parameters[name])]
