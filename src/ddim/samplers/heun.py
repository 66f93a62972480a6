"""Heun's method in EDM's coordinates, with its churn (arXiv 2206.00364, Algorithms 1 and 2)."""

import math
from collections.abc import Sequence

from ddim.errors import UserError
from ddim.samplers.base import register
from ddim.samplers.planned import Churn, FloatLevel, Singlestep, Step, ddim_update, eps_coefficient, required
from ddim.schedule import Schedule


@register("heun")
class Heun(Singlestep):
    """EDM's sampler: the trapezoid rule for x / alpha as a function of rho = sigma / alpha, EDM's sigma.

        x_s = DDIM(x_t, (eps(x_t, t) + eps(DDIM(x_t), s)) / 2)    (Algorithm 1)

    Two calls per step, one in the step to t = 0; second order, deterministic without churn. With churn (Algorithm 2),
    each step first adds noise up to rho_hat = (1 + gamma) rho, where gamma = min(S_churn / S, sqrt(2) - 1); the method
    is then stochastic and requires the schedule. Use it for 30 calls and more, and churn for hundreds.

    Args:
        churn: S_churn, at least 0.
        churn_from, churn_to: S_tmax and S_tmin; noise is added where churn_to <= rho <= churn_from.
        churn_std: standard deviation of the added noise, S_noise, at least 0.

    Raises:
        UserError: a churn or standard deviation below 0, or churn_to not from 0 to below churn_from.
    """

    space = "eps"
    order = 2
    inner_stages = 1
    variants = ({"churn": 10},)

    def __init__(
        self, churn: float = 0.0, churn_from: float = math.inf, churn_to: float = 0.0, churn_std: float = 1.0
    ) -> None:
        if not (churn >= 0 and churn_std >= 0):
            raise UserError(f"Churn and its standard deviation must be 0 or more; got {churn} and {churn_std}.")
        if not 0 <= churn_to < churn_from:
            raise UserError(
                f"Churn acts from churn_from down to churn_to, which is at least 0; got {churn_from} and {churn_to}; "
                "give a larger churn_from."
            )
        self.churn, self.churn_from, self.churn_to, self.churn_std = churn, churn_from, churn_to, churn_std
        self.stochastic = churn > 0

    def between(self, at: FloatLevel, to: FloatLevel, schedule: Schedule | None) -> Step:
        half = eps_coefficient(at, to) / 2
        return Step(at, ddim_update(to)._replace(stages=(half,)), stages=(ddim_update(to),))

    def plan_step(self, levels: Sequence[FloatLevel], n: int, schedule: Schedule | None) -> Step:
        if not self.stochastic:
            return super().plan_step(levels, n, schedule)
        churn = self.churned(levels[n], len(levels) - 1, schedule)
        step = super().plan_step((churn.to, levels[n + 1]), 0, schedule)
        return step._replace(at=levels[n], churn=churn)

    def churned(self, at: FloatLevel, S: int, schedule: Schedule | None) -> Churn:
        """Return the churn of one of S steps, from level `at`; rho_hat is at most the schedule's last rho."""
        none = Churn(at, 1.0, 0.0)
        if not (at.usable and self.churn_to <= at.rho <= self.churn_from):
            return none
        gamma = min(self.churn / S, math.sqrt(2) - 1)
        last = FloatLevel.at_time(schedule, required(schedule, self).T, self)
        rho_hat = min((1 + gamma) * at.rho, last.rho)
        if rho_hat <= at.rho:
            return none
        hat = FloatLevel.at_lambda(schedule, -math.log(rho_hat), self)
        if not hat.usable:
            return none
        scale = hat.alpha / at.alpha
        return Churn(hat, scale, self.churn_std * max(0.0, hat.sigma**2 - (scale * at.sigma) ** 2) ** 0.5)
