"""Noise schedules: how much signal and how much noise an image holds at time t.

There are two ways to make a schedule. `from_betas` takes DDPM's T numbers beta_1 ... beta_T (arXiv 2006.11239,
section 2): alpha-bar_t = (1 - beta_1) ... (1 - beta_t), alpha-bar_0 = 1, and between two integers the log-SNR is
interpolated. `from_log_snr` takes a formula for the log-SNR. Either way, time is a real number in [0, T].
"""

import functools
import inspect
import math
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
Formula = Callable[[Tensor], Tensor]  # elementwise, float64 tensors of any shape
LONGEST = 100_000  # largest T: the tables of a schedule have one number for each step


class Schedule(ABC):
    """The map from time t in [0, T] to a noise level with alpha^2 + sigma^2 = 1; t = 0 is the clean image."""

    T: int  # number of training steps
    betas: Tensor  # (T + 1,) float64, betas[t] is beta_t; betas[0] = 0
    alpha_bar: Tensor  # (T + 1,) float64, alpha_bar[t] is alpha-bar_t; alpha_bar[0] = 1
    log_snr: Tensor  # (T + 1,) float64, log(alpha^2 / sigma^2) at the integers, falling from +infinity
    config: dict[str, Any]  # the name and the options for `get`, as saved with a model

    def __new__(cls, *args: Any, **options: Any) -> "Schedule":
        if cls is Schedule:
            message = "Schedule(betas) is now ddim.schedule.from_betas(betas)."
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return super().__new__(BetaSchedule)
        return super().__new__(cls)

    def __call__(self, t: float | Tensor) -> Level:
        """Return the level at a real time t in [0, T]: 0-d tensors, or (B, 1, 1, 1) for (B,) times, one per image.

        Raises:
            UserError: a time outside [0, T].
        """
        t = _column(t)
        if not ((t >= 0) & (t <= self.T)).all():
            raise UserError(f"Time must lie in [0, {self.T}] on this schedule; got {t.flatten().tolist()[:4]}.")
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
        alpha, sigma = _rates_at(value)
        return Level(self._time(value, alpha, sigma), alpha, sigma)

    @abstractmethod
    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) at times in [0, T]."""

    @abstractmethod
    def _time(self, log_snr: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the time of a log-SNR that the schedule reaches, whose rates are given."""


class BetaSchedule(Schedule):
    """A schedule from betas, exact at the integers; see `from_betas`."""

    def __init__(self, betas: Tensor | list[float], config: dict[str, Any] | None = None) -> None:
        betas = torch.as_tensor(betas, dtype=torch.float64)
        if betas.ndim != 1 or len(betas) == 0 or not ((betas > 0) & (betas <= 1)).all() or (betas[:-1] == 1).any():
            raise UserError("The betas of a schedule must be T numbers in (0, 1), of which only the last may be 1.")
        self.config = config or {"name": "betas", "betas": betas.tolist()}
        self.T = len(betas)
        self.betas = torch.cat([betas.new_zeros(1), betas])
        log_alpha_bar = torch.log1p(-self.betas).cumsum(0)  # log and expm1 keep sigma exact near t = 0
        self.alpha_bar = log_alpha_bar.exp()
        self._alpha = (log_alpha_bar / 2).exp()
        self._sigma = (-torch.expm1(log_alpha_bar)).sqrt()
        self.log_snr = 2 * (self._alpha.log() - self._sigma.log())

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low = t.floor().clamp(max=self.T - 1).long()
        part = t - low  # position between the integers low and low + 1
        alpha, sigma = _rates_at(torch.lerp(self.log_snr[low], self.log_snr[low + 1], part))
        # The log-SNR is infinite at t = 0: sigma^2 is linear on [0, 1].
        sigma = torch.where(low == 0, part.sqrt() * self._sigma[1], sigma)
        alpha = torch.where(low == 0, (1 - sigma**2).sqrt(), alpha)
        # It is -infinite at T if alpha_T = 0: then alpha is linear on the last interval.
        if self._alpha[-1] == 0:
            alpha = torch.where(low == self.T - 1, (1 - part) * self._alpha[-2], alpha)
            sigma = torch.where(low == self.T - 1, (1 - alpha**2).sqrt(), sigma)
        node, on_node = t.round().long(), t == t.round()
        return torch.where(on_node, self._alpha[node], alpha), torch.where(on_node, self._sigma[node], sigma)

    def _time(self, log_snr: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        low = _integer_before(self, log_snr)
        part = (log_snr - self.log_snr[low]) / (self.log_snr[low + 1] - self.log_snr[low])
        part = torch.where(low == 0, (sigma / self._sigma[1]) ** 2, part)
        if self._alpha[-1] == 0:
            part = torch.where(low == self.T - 1, 1 - alpha / self._alpha[-2], part)
        return low + part


class LogSNRSchedule(Schedule):
    """A schedule from a formula for the log-SNR; see `from_log_snr`."""

    def __init__(self, log_snr: Formula, T: int, inverse: Formula | None = None) -> None:
        T = number("T", T, int, 1, LONGEST)
        self._formula, self._inverse = log_snr, inverse
        self.T, self.config = T, {"name": "unregistered"}
        self.log_snr = log_snr(torch.arange(T + 1, dtype=torch.float64)).double()
        if self.log_snr.shape != (T + 1,) or self.log_snr[0] != math.inf or not (self.log_snr.diff() < 0).all():
            raise UserError(
                "The log-SNR must be one number per time, falling strictly from +infinity at t = 0 (clean image); "
                f"at the times 0, 1, 2, 3 it is {self.log_snr.flatten().tolist()[:4]}. A formula that is finite at 0 "
                "takes torch.where(t > 0, formula, torch.inf)."
            )
        self.alpha_bar = self.log_snr.sigmoid()
        log_alpha_bar = torch.nn.functional.logsigmoid(self.log_snr)
        self.betas = torch.cat([self.log_snr.new_zeros(1), -torch.expm1(log_alpha_bar.diff())])

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a registered schedule by its name and options, because its formula is often a local function."""
        if self.config["name"] in schedules:
            return _from_config, (self.config,)
        return super().__reduce_ex__(protocol)

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _rates_at(self._formula(t))

    def _time(self, log_snr: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        if self._inverse is not None:
            t = self._inverse(log_snr).clamp(0, self.T)
        else:  # bisection
            low = _integer_before(self, log_snr).double()
            high = low + 1
            for _ in range(64):  # 2^-64 is below the spacing of float64 at any t above 0.001
                t = (low + high) / 2
                early = self._formula(t) > log_snr
                low, high = torch.where(early, t, low), torch.where(early, high, t)
            t = (low + high) / 2
        return torch.where(log_snr == math.inf, 0.0, torch.where(log_snr == self.log_snr[-1], float(self.T), t))


def _column(value: float | Tensor) -> Tensor:
    """0-d stays 0-d; (B,) becomes (B, 1, 1, 1), which broadcasts over images."""
    value = torch.as_tensor(value, dtype=torch.float64)
    return value.reshape(-1, 1, 1, 1) if value.ndim else value


def _rates_at(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) with alpha^2 + sigma^2 = 1."""
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


def _integer_before(schedule: Schedule, log_snr: Tensor) -> Tensor:
    """Return the last integer time, up to T - 1, whose log-SNR is not below `log_snr`."""
    return torch.searchsorted(-schedule.log_snr, -log_snr, right=True).sub(1).clamp(0, schedule.T - 1)


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


@register("linear")
def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """Return DDPM's schedule and DDIM's: beta rises linearly (arXiv 2006.11239, section 4).

    T is the number of training steps; `beta_start` and `beta_end` are beta_1 and beta_T, in (0, 1).
    """
    return from_betas(torch.linspace(beta_start, beta_end, T, dtype=torch.float64))


@register("scaled-linear")
def scaled_linear(T: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Schedule:
    """Return Stable Diffusion's schedule: sqrt(beta) rises linearly (arXiv 2112.10752)."""
    return from_betas(torch.linspace(beta_start**0.5, beta_end**0.5, T, dtype=torch.float64) ** 2)


@register("cosine")
def cosine(T: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """Return alpha-bar_t = cos^2(pi/2 (t/T + s) / (1 + s)), scaled to 1 at t = 0 (arXiv 2102.09672, Eq. 17).

    `s` keeps the first betas from vanishing. The betas are clipped at `beta_max`: alpha-bar_T stays above 0.
    """
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    return _from_alpha_bar(torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2, beta_max)


@register("sigmoid")
def sigmoid(
    T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, beta_max: float = 0.999
) -> Schedule:
    """Return the schedule whose alpha-bar_t falls as a sigmoid of t/T (arXiv 2212.11972; 2301.10972, Algorithm 1).

    The sigmoid is used from `start` to `end`, at the temperature `tau`. The betas are clipped at `beta_max`.
    """
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    last = torch.tensor(end / tau, dtype=u.dtype).sigmoid()
    return _from_alpha_bar(last - torch.sigmoid((start + u * (end - start)) / tau), beta_max)


@register("vp-sde")
def vp_sde(T: int = 1000, beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """Return DDPM's linear schedule as the variance preserving SDE has it: a formula, smooth in the real time t.

    log alpha-bar_t = -(beta_max - beta_min) u^2 / 2 - beta_min u, where u = t / T (arXiv 2011.13456, Eq. 33).

    The rates at t = 0 and t = T, 0 < beta_min < beta_max, are T times the variance of a step there.
    """
    rise = beta_max - beta_min

    def log_snr(t: Tensor) -> Tensor:
        u = t / T
        return -torch.expm1(rise * u**2 / 2 + beta_min * u).log()

    def inverse(value: Tensor) -> Tensor:
        decay = torch.nn.functional.softplus(-value)  # -log alpha-bar
        return T * 2 * decay / (beta_min + (beta_min**2 + 2 * rise * decay).sqrt())

    return from_log_snr(log_snr, T, inverse)


@register("betas")
def from_betas(betas: Tensor | list[float]) -> Schedule:
    """Return the schedule with the one-step noise variances beta_1 ... beta_T in (0, 1]; only the last may be 1.

    Raises:
        UserError: a beta outside its range.
    """
    return BetaSchedule(betas)


def _from_alpha_bar(alpha_bar: Tensor, beta_max: float) -> Schedule:
    return from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=beta_max))


def from_log_snr(log_snr: Formula, T: int = 1000, inverse: Formula | None = None) -> Schedule:
    """Return the schedule with a given log-SNR, alpha^2 = sigmoid(log_snr) and sigma^2 = sigmoid(-log_snr).

    Args:
        log_snr: log(alpha^2 / sigma^2) as an elementwise function of float64 times of any shape. It falls strictly
            from +infinity at t = 0, the clean image; at t = T it may be -infinity, pure noise.
        T: number of training steps; time runs from 0 to T.
        inverse: the time of a log-SNR; by default found by bisection.

    Raises:
        UserError: a log-SNR that does not fall strictly from +infinity, or T not from 1 to `LONGEST`.
    """
    return LogSNRSchedule(log_snr, T, inverse)


def get(name: str, **options: Any) -> Schedule:
    """Return a new schedule by its name.

    Args:
        name: one of `names()`, or "betas".
        options: arguments of the function that makes it, e.g. get("cosine", T=500).

    Raises:
        UserError: an unknown name, an option that the schedule does not have, or a value out of range.
    """
    return schedules.create(name, **options)  # type: ignore[no-any-return]


def _from_config(config: dict[str, Any]) -> Schedule:
    return get(**config)


def names() -> list[str]:
    """Return the names that `get` takes without options."""
    parameters = {name: inspect.signature(make).parameters.values() for name, make in schedules.items()}
    return [name for name in schedules if all(p.default is not p.empty for p in parameters[name])]
