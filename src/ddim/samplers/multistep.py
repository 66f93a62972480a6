"""Linear multistep solvers: one network call per step, and a polynomial through the latest predictions."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

from ddim.samplers.planned import FloatLevel, Planned, Step, Update, ddim_update
from ddim.schedule import Schedule

FEW_STEPS = 15
"""With fewer steps, which are then long, the last ones are of lower order (authors' code of arXiv 2211.01095)."""

MAX_EXTRAPOLATION = 2
"""A polynomial of x0 is used over a step of at most this many times the mean distance of its nodes in lambda."""


class Multistep(Planned):
    """A solver that integrates a polynomial through the latest predictions exactly over the step.

    A clean level, or one of pure noise, is never a node; the step from or to it is DDIM's. Where the levels change
    direction or repeat, the nodes before that are dropped.
    """

    nodes: int  # maximum number of predictions that the polynomial passes through; its degree is `nodes` - 1

    @abstractmethod
    def variable(self, level: FloatLevel) -> float:
        """Return the variable of the polynomial at `level`."""

    @abstractmethod
    def moments(self, at: FloatLevel, to: FloatLevel, count: int) -> list[float]:
        """Return the integrals of u, ..., u^count times the solver's kernel over the step, from u = 0 to u = 1."""

    def weights(self, at: FloatLevel, to: FloatLevel, others: Sequence[FloatLevel]) -> tuple[float, ...]:
        """Return the w_j of w_j (y_j - y), for predictions y_j at `others` and y at `at`."""
        start, end = self.variable(at), self.variable(to)
        r = [(self.variable(other) - start) / (end - start) for other in others]
        return integration_weights(r, self.moments(at, to, len(others)))

    def history(self, levels: Sequence[FloatLevel], n: int) -> list[FloatLevel]:
        """Return the earlier levels whose predictions step n uses, latest first."""
        at, to, steps_left = levels[n], levels[n + 1], len(levels) - 1 - n
        if not (at.usable and to.usable):
            return []
        nodes = min(self.nodes, steps_left) if len(levels) - 1 < FEW_STEPS else self.nodes
        return earlier(levels, n, nodes - 1)

    def corrects(self, levels: Sequence[FloatLevel], n: int) -> bool:
        """Return whether step n first corrects the previous step, if both ends of that are usable."""
        return False

    def plan_step(self, levels: Sequence[FloatLevel], n: int, schedule: Schedule | None) -> Step:
        return Step(levels[n], self.update(levels, n), correction=self.correction(levels, n))

    def update(self, levels: Sequence[FloatLevel], n: int) -> Update:
        """Return the update of step n: the predictor."""
        others = self.history(levels, n)
        if not others:
            return ddim_update(levels[n + 1])
        return ddim_update(levels[n + 1])._replace(history=self.weights(levels[n], levels[n + 1], others))

    def correction(self, levels: Sequence[FloatLevel], n: int) -> Update | None:
        """Return step n - 1 with the prediction at its end as one more node: one order more at no extra call.

        This is the corrector UniC (arXiv 2302.04867, Algorithm 1).
        """
        if n == 0 or not (levels[n - 1].usable and levels[n].usable) or levels[n - 1].rho == levels[n].rho:
            return None
        if not self.corrects(levels, n):
            return None
        new, *old = self.weights(levels[n - 1], levels[n], [levels[n], *self.history(levels, n - 1)])
        return ddim_update(levels[n])._replace(stages=(new,), history=tuple(old))


class Exponential(Multistep):
    """A multistep solver in lambda = log(alpha / sigma): the linear part of the ODE is solved exactly.

    With h = lambda_s - lambda_t, the exact solution is either of

        x_s = (sigma_s / sigma_t) x_t + sigma_s int e^lambda  x0(lambda)  d lambda     (arXiv 2211.01095, Eq. 8)
        x_s = (alpha_s / alpha_t) x_t - alpha_s int e^-lambda eps(lambda) d lambda     (arXiv 2206.00927, Eq. 3.4)

    and x0 or eps is replaced by the polynomial.

    Where there is more signal than noise, x0 levels off as lambda grows, and a polynomial does not. A step that is
    too long for extrapolation there is DDIM's; the leading and linear spacings have one before t = 0.
    """

    space: Literal["x0", "eps"] = "x0"

    def history(self, levels: Sequence[FloatLevel], n: int) -> list[FloatLevel]:
        others = super().history(levels, n)
        if not others or self.space == "eps" or levels[n].lam < 0:
            return others
        h, reach = (abs(level.lam - levels[n].lam) for level in (levels[n + 1], others[-1]))
        return others if h * len(others) <= MAX_EXTRAPOLATION * reach else []

    def variable(self, level: FloatLevel) -> float:
        return level.lam

    def moments(self, at: FloatLevel, to: FloatLevel, count: int) -> list[float]:
        """int alpha_s h e^(-(1 - u) h) u^k du = alpha_s h k! phi_(k+1)(-h); of eps, -sigma_s h k! phi_(k+1)(h)."""
        h = to.lam - at.lam
        scale, z = (to.alpha * h, -h) if self.space == "x0" else (-to.sigma * h, h)
        return [scale * math.factorial(k) * phi(k + 1, z) for k in range(1, count + 1)]


def earlier(levels: Sequence[FloatLevel], n: int, count: int) -> list[FloatLevel]:
    """Return up to `count` usable levels before level n, latest first, as far as noise fell (or rose) all along."""
    at, to = levels[n], levels[n + 1]
    nodes: list[FloatLevel] = []
    for level in reversed(levels[max(0, n - count) : n]):
        after = nodes[-1] if nodes else at
        if not level.usable or (level.rho - after.rho) * (at.rho - to.rho) <= 0:
            break
        nodes.append(level)
    return nodes


def phi(k: int, z: float) -> float:
    """phi_k(z) = integral over [0, 1] of e^((1 - u) z) u^(k - 1) / (k - 1)! du; phi_0(z) = e^z.

    The functions of exponential integrators (Hochbruck & Ostermann 2010): phi_1(z) = (e^z - 1) / z.
    """
    if abs(z) < 1:  # the recurrence below cancels there
        return sum(z**n / math.factorial(n + k) for n in range(20))
    value = math.exp(z)
    for j in range(k):
        value = (value - 1 / math.factorial(j)) / z  # phi_(j+1) = (phi_j - 1 / j!) / z
    return value


def integration_weights(r: Sequence[float], moments: Sequence[float]) -> tuple[float, ...]:
    """Return the w_j for which sum_j w_j (p(r_j) - p(0)) is the integral of p - p(0), for all p of degree len(r).

    Args:
        r: nodes r_j, distinct and not 0, in units of the step: its start is 0 and its end is 1.
        moments: integrals of u, u^2, ... against the kernel, one per node.
    """
    weights = []
    for j, r_j in enumerate(r):
        polynomial, scale = [1.0], r_j  # u times the product of (u - r_k), lowest power first; its value at r_j
        for r_k in (other for k, other in enumerate(r) if k != j):
            polynomial = [a - r_k * b for a, b in zip([0.0, *polynomial], [*polynomial, 0.0], strict=True)]
            scale *= r_j - r_k
        weights.append(sum(c * moment for c, moment in zip(polynomial, moments, strict=True)) / scale)
    return tuple(weights)
