"""Noise schedules: how much signal and how much noise an image holds at time t, a real number in [0, T].

There are two ways to make one. `from_betas` takes DDPM's T numbers beta_1 ... beta_T (arXiv 2006.11239, section 2):
alpha-bar_t = (1 - beta_1) ... (1 - beta_t), alpha-bar_0 = 1, and between two integers the log-SNR is interpolated.
`from_log_snr` takes a formula for the log-SNR. Both have alpha^2 + sigma^2 = 1. `edm` and `flow` do not: their time is
the noise rate sigma itself.
"""

from ddim.schedule.base import LONGEST, Schedule, from_config, get, names, register, schedules
from ddim.schedule.betas import BetaSchedule, cosine, from_betas, linear, scaled_linear, sigmoid
from ddim.schedule.formula import LogSNRSchedule, edm, flow, from_log_snr, vp_sde

__all__ = [
    "LONGEST",
    "BetaSchedule",
    "LogSNRSchedule",
    "Schedule",
    "cosine",
    "edm",
    "flow",
    "from_betas",
    "from_config",
    "from_log_snr",
    "get",
    "linear",
    "names",
    "register",
    "scaled_linear",
    "schedules",
    "sigmoid",
    "vp_sde",
]
