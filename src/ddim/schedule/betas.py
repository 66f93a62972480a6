"""Schedules from DDPM's betas, exact at the integers, and the named ones of that kind."""

import math

import torch
from torch import Tensor

from ddim.errors import UserError, number, shown
from ddim.level import Level
from ddim.schedule.base import Schedule, preserving, register, step_before


class BetaSchedule(Schedule):
    """A schedule from betas, exact at the integers; see `from_betas`."""

    T: int

    def __init__(self, betas: Tensor | list[float]) -> None:
        try:
            betas = torch.as_tensor(betas, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's, for text, None or an object
            raise UserError(f"The betas of a schedule must be a list of numbers; got {shown(betas)}.") from error
        if betas.ndim != 1 or len(betas) == 0 or not ((betas > 0) & (betas <= 1)).all() or (betas[:-1] == 1).any():
            raise UserError("The betas of a schedule must be T numbers in (0, 1), of which only the last may be 1.")
        self.config = {"name": "betas", "betas": betas.tolist()}
        self.T = len(betas)
        self.times = torch.arange(self.T + 1, dtype=torch.float64)
        self.betas = torch.cat([betas.new_zeros(1), betas])
        log_alpha_bar = torch.log1p(-self.betas).cumsum(0)  # log and expm1 keep sigma exact near t = 0
        self.alpha_bar = log_alpha_bar.exp()
        self._alpha = (log_alpha_bar / 2).exp()
        self._sigma = (-torch.expm1(log_alpha_bar)).sqrt()
        self.log_snr = 2 * (self._alpha.log() - self._sigma.log())

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low = t.floor().clamp(max=self.N - 1).long()
        part = t - low  # position between the integers low and low + 1
        alpha, sigma = preserving(torch.lerp(self.log_snr[low], self.log_snr[low + 1], part))
        # The log-SNR is infinite at t = 0: sigma^2 is linear on [0, 1].
        sigma = torch.where(low == 0, part.sqrt() * self._sigma[1], sigma)
        alpha = torch.where(low == 0, (1 - sigma**2).sqrt(), alpha)
        # It is -infinite at T if alpha_T = 0: then alpha is linear on the last interval.
        if self._alpha[-1] == 0:
            alpha = torch.where(low == self.N - 1, (1 - part) * self._alpha[-2], alpha)
            sigma = torch.where(low == self.N - 1, (1 - alpha**2).sqrt(), sigma)
        node, on_node = t.round().long(), t == t.round()
        return torch.where(on_node, self._alpha[node], alpha), torch.where(on_node, self._sigma[node], sigma)

    def _level(self, log_snr: Tensor) -> Level:
        alpha, sigma = preserving(log_snr)
        low = step_before(self, log_snr)
        part = (log_snr - self.log_snr[low]) / (self.log_snr[low + 1] - self.log_snr[low])
        part = torch.where(low == 0, (sigma / self._sigma[1]) ** 2, part)
        if self._alpha[-1] == 0:
            part = torch.where(low == self.N - 1, 1 - alpha / self._alpha[-2], part)
        return Level(low + part, alpha, sigma)


@register("linear")
def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """Return DDPM's schedule and DDIM's: beta rises linearly (arXiv 2006.11239, section 4).

    T is the number of training steps; `beta_start` and `beta_end` are beta_1 and beta_T, in (0, 1), else a `UserError`.
    """
    return from_betas(torch.linspace(*_ends(beta_start, beta_end), T, dtype=torch.float64))


@register("scaled-linear")
def scaled_linear(T: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Schedule:
    """Return Stable Diffusion's schedule: sqrt(beta) rises linearly (arXiv 2112.10752). Arguments as for `linear`."""
    start, end = _ends(beta_start, beta_end)
    return from_betas(torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2)


@register("cosine")
def cosine(T: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """Return alpha-bar_t = cos^2(pi/2 (t/T + s) / (1 + s)), scaled to 1 at t = 0 (arXiv 2102.09672, Eq. 17).

    `s` keeps the first betas from vanishing. The betas are clipped at `beta_max`: alpha-bar_T stays above 0.
    """
    s = number("s", s, float, 0)
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    return _from_alpha_bar(torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2, beta_max)


@register("sigmoid")
def sigmoid(
    T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, beta_max: float = 0.999
) -> Schedule:
    """Return the schedule whose alpha-bar_t falls as a sigmoid of t/T (arXiv 2212.11972; 2301.10972, Algorithm 1).

    The sigmoid is used from `start` to `end`, at the temperature `tau`. The betas are clipped at `beta_max`.
    """
    start, end, tau = number("start", start, float), number("end", end, float), number("tau", tau, float)
    if not tau:
        raise UserError("The temperature tau of a sigmoid must not be 0.")
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    last = torch.tensor(end / tau, dtype=u.dtype).sigmoid()
    return _from_alpha_bar(last - torch.sigmoid((start + u * (end - start)) / tau), beta_max)


@register("betas")
def from_betas(betas: Tensor | list[float]) -> Schedule:
    """Return the schedule with the one-step noise variances beta_1 ... beta_T in (0, 1]; only the last may be 1.

    Raises:
        UserError: a beta outside its range.
    """
    return BetaSchedule(betas)


def _ends(beta_start: float, beta_end: float) -> tuple[float, float]:
    return number("beta_start", beta_start, float, 0, 1), number("beta_end", beta_end, float, 0, 1)


def _from_alpha_bar(alpha_bar: Tensor, beta_max: float) -> Schedule:
    beta_max = number("beta_max", beta_max, float, 0, 1)
    return from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=beta_max))
