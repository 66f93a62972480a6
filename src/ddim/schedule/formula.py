"""Schedules from a formula: of the log-SNR, or of alpha and sigma themselves."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ddim.errors import UserError, number
from ddim.level import Level
from ddim.schedule.base import (
    LONGEST,
    Schedule,
    betas_of,
    from_config,
    preserving,
    register,
    schedules,
    step_before,
)

Formula = Callable[[Tensor], Tensor]  # elementwise, float64 tensors of any shape
STEPS = 1000  # training steps of a schedule whose time does not count them
RHO = 7.0  # of EDM's levels (arXiv 2206.00364, section 3)


class FormulaSchedule(Schedule):
    """A schedule whose tables follow from its log-SNR at the times of the training steps."""

    def __init__(self, times: Tensor, log_snr: Tensor) -> None:
        self.times, self.log_snr, self.config = times, log_snr, {"name": "unregistered"}
        self.alpha_bar, self.betas = log_snr.sigmoid(), betas_of(log_snr)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a registered schedule by its name and options, because its formula is often a local function."""
        if self.config["name"] in schedules:
            return from_config, (self.config,)
        return super().__reduce_ex__(protocol)


class LogSNRSchedule(FormulaSchedule):
    """A schedule from a formula for the log-SNR; see `from_log_snr`."""

    T: int

    def __init__(self, log_snr: Formula, T: int, inverse: Formula | None = None) -> None:
        self.T = number("T", T, int, 1, LONGEST)
        self._formula, self._inverse = log_snr, inverse
        times = torch.arange(self.T + 1, dtype=torch.float64)
        values = log_snr(times).double()
        if values.shape != times.shape or values[0] != math.inf or not (values.diff() < 0).all():
            raise UserError(
                "The log-SNR must be one number per time, falling strictly from +infinity at t = 0 (clean image); "
                f"at the times 0, 1, 2, 3 it is {values.flatten().tolist()[:4]}. A formula that is finite at 0 "
                "takes torch.where(t > 0, formula, torch.inf)."
            )
        super().__init__(times, values)

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return preserving(self._formula(t))

    def _level(self, log_snr: Tensor) -> Level:
        if self._inverse is not None:
            t = self._inverse(log_snr).clamp(0, self.T)
        else:  # bisection
            low = step_before(self, log_snr).double()
            high = low + 1
            for _ in range(64):  # 2^-64 is below the spacing of float64 at any t above 0.001
                t = (low + high) / 2
                early = self._formula(t) > log_snr
                low, high = torch.where(early, t, low), torch.where(early, high, t)
            t = (low + high) / 2
        t = torch.where(log_snr == math.inf, 0.0, torch.where(log_snr == self.log_snr[-1], float(self.T), t))
        return Level(t, *preserving(log_snr))


class EDM(FormulaSchedule):
    """EDM's schedule, alpha = 1 and sigma = t; see `edm`."""

    def __init__(self, sigma_min: float, sigma_max: float) -> None:
        least = number("sigma_min", sigma_min, float, 1e-6, 1e6)
        self.T = number("sigma_max", sigma_max, float, 1e-6, 1e6)
        if least >= self.T:
            raise UserError(f"sigma_min must be below sigma_max; got {least:g} and {self.T:g}.")
        ramp = torch.linspace(least ** (1 / RHO), self.T ** (1 / RHO), STEPS, dtype=torch.float64) ** RHO
        ramp[0], ramp[-1] = least, self.T  # exactly
        times = torch.cat([ramp.new_zeros(1), ramp])
        super().__init__(times, -2 * times.log())

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), t

    def _level(self, log_snr: Tensor) -> Level:
        t = torch.where(log_snr == self.log_snr[-1], self.T, torch.exp(-log_snr / 2))
        return Level(t, torch.ones_like(t), t)


class Flow(FormulaSchedule):
    """The straight line of flow matching, alpha = 1 - t and sigma = t; see `flow`."""

    T: int

    def __init__(self, T: int) -> None:
        self.T = T
        sigma = torch.linspace(0, 1, (T if T > 1 else STEPS) + 1, dtype=torch.float64)
        super().__init__(T * sigma, -2 * torch.special.logit(sigma))

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t / self.T, t / self.T

    def _level(self, log_snr: Tensor) -> Level:
        alpha, sigma = (log_snr / 2).sigmoid(), (-log_snr / 2).sigmoid()
        return Level(self.T * sigma, alpha, sigma)


@register("vp-sde")
def vp_sde(T: int = 1000, beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """Return the schedule of the variance preserving SDE: DDPM's linear one as a formula, smooth in the real time t.

    log alpha-bar_t = -(beta_max - beta_min) u^2 / 2 - beta_min u, where u = t / T (arXiv 2011.13456, Eq. 33).

    Args:
        T: number of training steps; time runs from 0 to T.
        beta_min, beta_max: the rates beta(u) of the SDE at u = 0 and u = 1, 0 < beta_min < beta_max: about T times the
            first and the last beta of DDPM's chain.
    """
    beta_min, beta_max = number("beta_min", beta_min, float, 0), number("beta_max", beta_max, float, 0)
    rise = beta_max - beta_min

    def log_snr(t: Tensor) -> Tensor:
        u = t / T
        return -torch.expm1(rise * u**2 / 2 + beta_min * u).log()

    def inverse(value: Tensor) -> Tensor:
        decay = torch.nn.functional.softplus(-value)  # -log alpha-bar
        return T * 2 * decay / (beta_min + (beta_min**2 + 2 * rise * decay).sqrt())

    return from_log_snr(log_snr, T, inverse)


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


@register("edm")
def edm(sigma_min: float = 0.002, sigma_max: float = 80.0) -> Schedule:
    """Return EDM's schedule (arXiv 2206.00364, Table 1): alpha = 1 and sigma = t, the time of the network is sigma.

    x_T is `sigma_max` times standard normal noise. The training steps, 1,000 of them, are Eq. 5 with rho = 7, from
    `sigma_min` to `sigma_max`, both above 0: the spacing "trailing" is nearly EDM's, and "karras" is EDM's.

    Raises:
        UserError: a number out of range, or `sigma_min` not below `sigma_max`.
    """
    return EDM(sigma_min, sigma_max)


@register("flow")
def flow(T: int = 1) -> Schedule:
    """Return the straight line of flow matching: alpha = 1 - t / T, sigma = t / T (arXiv 2209.03003; 2210.02747).

    Time runs from the image to noise, as everywhere in ddim: it is 1 - t of papers that run from noise to the image.
    The training steps are T equal ones, 1,000 for T = 1.

    Args:
        T: the last time: 1 for a network that sees sigma, 1000 for one that sees 1000 sigma, as those of diffusers.
    """
    return Flow(T)
