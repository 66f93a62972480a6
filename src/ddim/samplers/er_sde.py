"""Extended reverse-time SDE solvers (arXiv 2309.06169)."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from ddim.errors import UserError
from ddim.samplers.multistep import Multistep
from ddim.samplers.plan import Move, ddim
from ddim.samplers.point import Point
from ddim.schedule import Schedule

GAUSS = np.polynomial.legendre.leggauss(24)


class ERSDE(Multistep):
    """ER-SDE-Solver: less noise than an ancestral sampler where there is much, more where there is little.

    In x / alpha and rho = sigma / alpha, with the noise scale phi = rho (e^(rho^0.3) + 10), the paper's SDE 5:

        x_s = q x_t + (1 - q) x0 + sum_k int phi_s phi' / phi^2 (rho - rho_t)^k / k! d rho x0^(k) + std z,
        q = phi_s / phi_t, std^2 = rho_s^2 - (q rho_t)^2

    One call a step, stochastic, second order. The derivatives of x0 are those of the polynomial through the latest
    predictions, and the integrals Gauss quadratures, where the published code has the difference of the last two
    for x0' and sums of 100 terms: the same with 2 nodes, up to the sums. For 20 to 50 calls.

    Args:
        nodes: through how many predictions the polynomial goes, 1 to 3: the paper's order.

    Raises:
        UserError: a number of nodes that is not there.
    """

    space: ClassVar[Literal["x0", "eps"]] = "x0"
    stochastic = True

    def __init__(self, nodes: int = 3) -> None:
        if nodes not in (1, 2, 3):
            raise UserError(f"ER-SDE solvers have 1, 2 or 3 nodes; got {nodes!r}.")
        self.nodes, self.memory = nodes, nodes - 1
        self.order = min(nodes, 2)

    def variable(self, point: Point) -> float:
        return point.rho

    def moments(self, at: Point, to: Point, count: int, schedule: Schedule | None) -> list[float]:
        """alpha_s (1 - k int u^(k-1) phi_s / phi du), by parts; u = (rho - rho_t) / (rho_s - rho_t)."""
        rho, end = at.rho, to.rho
        fall = math.log(rho / end)
        v, mass = fall / 2 * (GAUSS[0] + 1), fall / 2 * GAUSS[1]  # rho e^-v: phi is smooth in v
        along = rho * np.exp(-v)
        u, slope = (along - rho) / (end - rho), along / (rho - end)
        du = mass * slope * [self.scale(end, r) for r in along]
        return [to.alpha * (1 - k * float(np.sum(u ** (k - 1) * du))) for k in range(1, count + 1)]

    @staticmethod
    def scale(low: float, high: float) -> float:
        """phi(low) / phi(high); 0 if `high` is pure noise."""
        if math.isinf(high):
            return 0.0
        a, b = low**0.3, high**0.3
        return low / high * math.exp(a - b) * (1 + 10 * math.exp(-a)) / (1 + 10 * math.exp(-b))

    def move(self, walk: Sequence[Point], n: int, schedule: Schedule | None) -> Move:
        at, to = walk[n], walk[n + 1]
        if to.rho >= at.rho:  # up, no noise is taken out that could be put in anew
            return ddim(to)
        kept = (
            self.scale(to.rho, at.rho) * at.rho / to.rho if at.alpha > 0 and to.sigma > 0 else 0.0
        )  # q rho_t / rho_s
        past = self.used(walk, n)
        return Move(
            to,
            direction=to.sigma * kept,
            past=self.weights(at, to, past, schedule) if past else (),
            std=to.sigma * max(0.0, 1 - kept**2) ** 0.5,
        )

    def __repr__(self) -> str:
        return f"ERSDE(nodes={self.nodes})"
