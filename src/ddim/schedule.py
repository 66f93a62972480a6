"""Noise schedules: how much signal and how much noise an image holds at time t.

A schedule is made from the T numbers beta_1 ... beta_T of DDPM (arXiv 2006.11239, section 2):
alpha-bar_t = (1 - beta_1) ... (1 - beta_t), and alpha-bar_0 = 1. Between two integers the log-SNR is
interpolated, so that time is a real number and any ladder of times is allowed.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddim.errors import UserError
from ddim.level import Level
from ddim.registry import Registry


class Schedule:
    """The map from time t in [0, T] to a noise level.

    Args:
        betas: (T,) one-step noise variances beta_1 ... beta_T, each in (0, 1]; only the last may be 1.
        config: the name and the options that made it, as saved with a model.

    Attributes:
        T: number of training steps.
        betas: (T + 1,) float64, betas[t] is beta_t; betas[0] = 0.
        alpha_bar: (T + 1,) float64, alpha_bar[t] is alpha-bar_t; alpha_bar[0] = 1.
        log_snr: (T + 1,) float64, log(alpha^2 / sigma^2), falling from +infinity.

    Raises:
        UserError: a beta outside its range.
    """

    def __init__(self, betas: Tensor, config: dict[str, Any] | None = None) -> None:
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

    def __call__(self, t: float | Tensor) -> Level:
        """The level at time t, exact at the integers.

        Args:
            t: times in [0, T], real; a number, or (B,) with one time per image.

        Returns:
            A `Level` of 0-d tensors, or of (B, 1, 1, 1) tensors for (B,) times.

        Raises:
            UserError: a time outside [0, T].
        """
        t = _column(t)
        if not ((t >= 0) & (t <= self.T)).all():
            raise UserError(f"Time must lie in [0, {self.T}] on this schedule; got {t.flatten().tolist()[:4]}.")
        low = t.floor().clamp(max=self.T - 1).long()
        part = t - low  # position between the integers low and low + 1
        alpha, sigma = _rates(torch.lerp(self.log_snr[low], self.log_snr[low + 1], part))
        # The log-SNR is infinite at t = 0: sigma^2 is linear on [0, 1].
        sigma = torch.where(low == 0, part.sqrt() * self._sigma[1], sigma)
        alpha = torch.where(low == 0, (1 - sigma**2).sqrt(), alpha)
        # It is -infinite at T if alpha_T = 0: then alpha is linear on the last interval.
        if self._alpha[-1] == 0:
            alpha = torch.where(low == self.T - 1, (1 - part) * self._alpha[-2], alpha)
            sigma = torch.where(low == self.T - 1, (1 - alpha**2).sqrt(), sigma)
        node, on_node = t.round().long(), t == t.round()
        return Level(
            t, torch.where(on_node, self._alpha[node], alpha), torch.where(on_node, self._sigma[node], sigma)
        )

    def at_log_snr(self, value: float | Tensor) -> Level:
        """The level with a given log-SNR, and the time at which the schedule passes it.

        Args:
            value: log(alpha^2 / sigma^2), at least that of t = T; +infinity is t = 0. A number, or (B,).

        Returns:
            A `Level`, shaped as by a call; `schedule(level.t)` is the same level to rounding.

        Raises:
            UserError: a log-SNR below the schedule's last.
        """
        value = _column(value)
        if not (value >= self.log_snr[-1]).all():
            raise UserError(f"The log-SNR of this schedule ends at {self.log_snr[-1]:.4g}; ask for no less.")
        alpha, sigma = _rates(value)
        # The table falls and searchsorted wants it rising: low is the last integer time not below value.
        low = torch.searchsorted(-self.log_snr, -value, right=True).sub(1).clamp(0, self.T - 1)
        part = (value - self.log_snr[low]) / (self.log_snr[low + 1] - self.log_snr[low])
        part = torch.where(low == 0, (sigma / self._sigma[1]) ** 2, part)
        if self._alpha[-1] == 0:
            part = torch.where(low == self.T - 1, 1 - alpha / self._alpha[-2], part)
        return Level(low + part, alpha, sigma)


def _column(value: float | Tensor) -> Tensor:
    """0-d stays 0-d; (B,) becomes (B, 1, 1, 1), which broadcasts over images."""
    value = torch.as_tensor(value, dtype=torch.float64)
    return value.reshape(-1, 1, 1, 1) if value.ndim else value


def _rates(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) on the circle alpha^2 + sigma^2 = 1."""
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


schedules: Registry[Callable[..., Schedule]] = Registry("schedule")


@schedules.register("linear")
def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """beta rises linearly: DDPM's schedule and the paper's (arXiv 2006.11239, section 4).

    Args:
        T: number of training steps.
        beta_start, beta_end: beta_1 and beta_T, in (0, 1).
    """
    betas = torch.linspace(beta_start, beta_end, T, dtype=torch.float64)
    return Schedule(betas, {"name": "linear", "T": T, "beta_start": beta_start, "beta_end": beta_end})


@schedules.register("scaled-linear")
def scaled_linear(T: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Schedule:
    """sqrt(beta) rises linearly: Stable Diffusion's schedule (latent diffusion, arXiv 2112.10752).

    Args:
        T: number of training steps.
        beta_start, beta_end: beta_1 and beta_T, in (0, 1).
    """
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, T, dtype=torch.float64) ** 2
    return Schedule(betas, {"name": "scaled-linear", "T": T, "beta_start": beta_start, "beta_end": beta_end})


@schedules.register("cosine")
def cosine(T: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """alpha-bar_t = cos^2(pi/2 (t/T + s) / (1 + s)), scaled to 1 at t = 0 (arXiv 2102.09672, Eq. 17).

    Args:
        T: number of training steps.
        s: offset that keeps the first betas from vanishing.
        beta_max: the betas are clipped here, so that alpha-bar_T stays above 0.
    """
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    alpha_bar = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return Schedule(_clipped(alpha_bar, beta_max), {"name": "cosine", "T": T, "s": s, "beta_max": beta_max})


@schedules.register("sigmoid")
def sigmoid(
    T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, beta_max: float = 0.999
) -> Schedule:
    """alpha-bar_t falls as a sigmoid of t/T from 1 to 0 (arXiv 2212.11972; arXiv 2301.10972, Algorithm 1).

    Args:
        T: number of training steps.
        start, end: the stretch of the sigmoid that is used.
        tau: its temperature.
        beta_max: the betas are clipped here, so that alpha-bar_T stays above 0.
    """
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    alpha_bar = torch.tensor(end / tau, dtype=u.dtype).sigmoid() - torch.sigmoid((start + u * (end - start)) / tau)
    config = {"name": "sigmoid", "T": T, "start": start, "end": end, "tau": tau, "beta_max": beta_max}
    return Schedule(_clipped(alpha_bar, beta_max), config)


@schedules.register("betas")
def from_betas(betas: Tensor | list[float]) -> Schedule:
    """Any schedule, from its T one-step variances beta_1 ... beta_T."""
    return Schedule(torch.as_tensor(betas, dtype=torch.float64))


def _clipped(alpha_bar: Tensor, beta_max: float) -> Tensor:
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=beta_max)


def get(name: str, **options: Any) -> Schedule:
    """The schedule called `name`. Raises `UserError` for a name that `names()` does not hold."""
    return schedules[name](**options)


def names() -> list[str]:
    """The names that `get` takes without options."""
    return [name for name in schedules if name != "betas"]
