"""Singlestep DPM-Solvers: they call the network between two levels and remember nothing from step to step."""

from ddim.samplers.base import register
from ddim.samplers.multistep import phi
from ddim.samplers.planned import FloatLevel, Singlestep, Step, ddim_update, eps_coefficient
from ddim.schedule import Schedule


class DPMSolver(Singlestep):
    """A singlestep solver with stages at lambda_t + r h, where h = lambda_s - lambda_t; needs the schedule."""

    def stage(self, at: FloatLevel, to: FloatLevel, r: float, schedule: Schedule | None) -> FloatLevel:
        """Return the level at lambda_t + r h."""
        return FloatLevel.at_lambda(schedule, at.lam + r * (to.lam - at.lam), self)


@register("dpm-2")
class DPM2(DPMSolver):
    """DPM-Solver-2: the midpoint rule for eps in lambda (arXiv 2206.00927, Algorithm 1).

        u   = (alpha_m / alpha_t) x_t - sigma_m (e^(h/2) - 1) eps(x_t, t)      m: the middle of lambda
        x_s = (alpha_s / alpha_t) x_t - sigma_s (e^h - 1) eps(u, m)

    Two calls per step, one in the step to t = 0; deterministic, second order. Use it for 20 calls and more where a
    method without memory is needed, e.g. because something else changes the image between steps.
    """

    space = "eps"
    order = 2
    inner_stages = 1

    def between(self, at: FloatLevel, to: FloatLevel, schedule: Schedule | None) -> Step:
        u = ddim_update(self.stage(at, to, 1 / 2, schedule))
        return Step(at, ddim_update(to)._replace(stages=(eps_coefficient(at, to),)), stages=(u,))


@register("dpm-3")
class DPM3(DPMSolver):
    """DPM-Solver-3 (arXiv 2206.00927, Algorithm 2) with the paper's r_1 = 1/3 and r_2 = 2/3.

        u_1 = DDIM to lambda_t + r_1 h,                                           D_1 = eps(u_1) - eps(x_t)
        u_2 = DDIM to lambda_t + r_2 h - sigma (r_2 / r_1) r_2 h phi_2(r_2 h) D_1,  D_2 = eps(u_2) - eps(x_t)
        x_s = DDIM to s - (sigma_s / r_2) h phi_2(h) D_2

    Three calls per step, one in the step to t = 0; deterministic, third order. Use it for 30 calls and more.
    """

    space = "eps"
    order = 3
    inner_stages = 2

    def between(self, at: FloatLevel, to: FloatLevel, schedule: Schedule | None) -> Step:
        r1, r2, h = 1 / 3, 2 / 3, to.lam - at.lam
        s1, s2 = self.stage(at, to, r1, schedule), self.stage(at, to, r2, schedule)
        u1 = ddim_update(s1)
        u2 = ddim_update(s2)._replace(stages=(-s2.sigma * (r2 / r1) * r2 * h * phi(2, r2 * h),))
        end = ddim_update(to)._replace(stages=(0.0, -to.sigma / r2 * h * phi(2, h)))
        return Step(at, end, stages=(u1, u2))


@register("dpmpp-2s")
class DPMpp2S(DPMSolver):
    """DPM-Solver++(2S): the midpoint rule for x0 in lambda (arXiv 2211.01095, Algorithm 1 with r = 1/2).

        u   = (sigma_m / sigma_t) x_t + alpha_m (1 - e^(-h/2)) x0(x_t, t)      m: the middle of lambda
        x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^-h) x0(u, m)

    Two calls per step, one in the step to t = 0; deterministic, second order. It is used like DPM2, and is more
    stable under strong guidance.
    """

    space = "x0"
    order = 2
    inner_stages = 1

    def between(self, at: FloatLevel, to: FloatLevel, schedule: Schedule | None) -> Step:
        u = ddim_update(self.stage(at, to, 1 / 2, schedule))
        weight = to.alpha - to.sigma * at.alpha / at.sigma  # alpha_s (1 - e^-h)
        return Step(at, ddim_update(to)._replace(stages=(weight,)), stages=(u,))
