"""Singlestep solvers: they ask the network between two levels of the ladder and remember nothing."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from ddim.samplers.adams import slope
from ddim.samplers.integrals import phi
from ddim.samplers.plan import Step, ddim
from ddim.samplers.planned import Planned
from ddim.samplers.point import Point
from ddim.schedule import Schedule


class Singlestep(Planned):
    """A step that is itself of higher order; from or to a level of infinite log-SNR it is DDIM's.

    Attributes:
        stages: calls of a step beyond its first.
    """

    stages: int

    @abstractmethod
    def between(self, at: Point, to: Point, schedule: Schedule | None) -> Step:
        """The step between two levels of finite log-SNR."""

    def plan(self, walk: Sequence[Point], schedule: Schedule | None) -> list[Step]:
        return [
            self.between(walk[n], walk[n + 1], schedule) if self.inner_calls(walk, n) else Step(ddim(walk[n + 1]))
            for n in range(len(walk) - 1)
        ]

    def inner_calls(self, walk: Sequence[Point], n: int) -> int:
        return self.stages if walk[n].finite and walk[n + 1].finite else 0

    def inside(self, at: Point, to: Point, r: float, schedule: Schedule | None) -> Point:
        """The level at lambda_t + r h."""
        return Point.at_lambda(schedule, at.lam + r * (to.lam - at.lam), self)


class DPM2(Singlestep):
    """DPM-Solver-2: a midpoint rule of eps in lambda (arXiv 2206.00927, Algorithm 1).

    u = DDIM to the middle of lambda, x_s = (alpha_s / alpha_t) x_t - sigma_s (e^h - 1) eps(u)

    Two calls a step, one in the step to t = 0; deterministic, second order. For 20 calls and more without memory,
    as when each step is changed by something else.
    """

    space: ClassVar[Literal["x0", "eps"]] = "eps"
    order = 2
    stages = 1

    def between(self, at: Point, to: Point, schedule: Schedule | None) -> Step:
        middle = self.inside(at, to, 1 / 2, schedule)
        return Step(ddim(to)._replace(inner=(slope(at, to),)), stages=(ddim(middle),))


class DPM3(Singlestep):
    """DPM-Solver-3 (arXiv 2206.00927, Algorithm 2, with its r_1 = 1/3 and r_2 = 2/3).

    D_i = eps(u_i) - eps(x_t), u_1 = DDIM at r_1, u_2 = DDIM at r_2 - sigma (r_2 / r_1) r_2 h phi_2(r_2 h) D_1,
    x_s = DDIM - sigma_s (1 / r_2) h phi_2(h) D_2

    Three calls a step, one in the step to t = 0; deterministic, third order. For 30 calls and more.
    """

    space: ClassVar[Literal["x0", "eps"]] = "eps"
    order = 3
    stages = 2

    def between(self, at: Point, to: Point, schedule: Schedule | None) -> Step:
        r1, r2, h = 1 / 3, 2 / 3, to.lam - at.lam
        one, two = self.inside(at, to, r1, schedule), self.inside(at, to, r2, schedule)
        second = -two.sigma * (r2 / r1) * r2 * h * phi(2, r2 * h)
        third = -to.sigma / r2 * h * phi(2, h)
        stages = (ddim(one), ddim(two)._replace(inner=(second,)))
        return Step(ddim(to)._replace(inner=(0.0, third)), stages=stages)


class DPMpp2S(Singlestep):
    """DPM-Solver++(2S): a midpoint rule of x0 in lambda (arXiv 2211.01095, Algorithm 1 with r = 1/2).

    u = DDIM to the middle of lambda, x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - e^-h) x0(u)

    Two calls a step, one in the step to t = 0; deterministic, second order. As DPM2, and steadier under strong
    guidance.
    """

    space: ClassVar[Literal["x0", "eps"]] = "x0"
    order = 2
    stages = 1

    def between(self, at: Point, to: Point, schedule: Schedule | None) -> Step:
        middle = self.inside(at, to, 1 / 2, schedule)
        weight = to.alpha - to.sigma * at.alpha / at.sigma  # alpha_s (1 - e^-h)
        return Step(ddim(to)._replace(inner=(weight,)), stages=(ddim(middle),))
