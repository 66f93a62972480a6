"""The exponential integrator in lambda: the linear part of the ODE is solved exactly, x0 or eps is a polynomial.

With lambda = log(alpha / sigma) and h = lambda_s - lambda_t, the exact solution is either of

    x_s = (sigma_s / sigma_t) x_t + sigma_s int e^lambda  x0(lambda)  d lambda     (arXiv 2211.01095)
    x_s = (alpha_s / alpha_t) x_t - alpha_s int e^-lambda eps(lambda) d lambda     (arXiv 2206.00927, Eq. 3.4)
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from ddim.samplers.integrals import phi
from ddim.samplers.multistep import Multistep
from ddim.samplers.point import Point
from ddim.schedule import Schedule

WIDE = 2
"""How many times as wide as those behind it, on average, a step may be for a polynomial of x0."""


class Exponential(Multistep):
    """A multistep solver whose polynomial is one in lambda.

    Where there is more signal than noise, x0 levels off as lambda grows, and a polynomial does not: a step that is
    too wide there, as the leading and linear ladders have it before t = 0, is DDIM's. No smooth ladder has one.
    """

    space: ClassVar[Literal["x0", "eps"]] = "x0"

    def used(self, walk: Sequence[Point], n: int) -> list[Point]:
        found = super().used(walk, n)
        if not found or self.space == "eps" or walk[n].lam < 0:
            return found
        width, reach = (abs(point.lam - walk[n].lam) for point in (walk[n + 1], found[-1]))
        return found if width * len(found) <= WIDE * reach else []

    def variable(self, point: Point) -> float:
        return point.lam

    def moments(self, at: Point, to: Point, count: int, schedule: Schedule | None) -> list[float]:
        """int alpha_s h e^(-(1 - u) h) u^k du = alpha_s h k! phi_(k+1)(-h); of eps, -sigma_s h k! phi_(k+1)(h)."""
        h = to.lam - at.lam
        scale, z = (to.alpha * h, -h) if self.space == "x0" else (-to.sigma * h, h)
        return [scale * math.factorial(k) * phi(k + 1, z) for k in range(1, count + 1)]
