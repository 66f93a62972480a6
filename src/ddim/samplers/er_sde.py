"""ER-SDE-Solver: extended reverse-time SDE solvers (arXiv 2309.06169)."""

import math
from collections.abc import Sequence

import numpy as np

from ddim.errors import UserError
from ddim.samplers.base import register
from ddim.samplers.multistep import Multistep
from ddim.samplers.planned import FloatLevel, Update

GAUSS = np.polynomial.legendre.leggauss(24)


@register("er-sde")
class ERSDE(Multistep):
    """ER-SDE-Solver: less noise than an ancestral sampler at high noise levels, more at low ones.

    In x / alpha and rho = sigma / alpha, with the noise scale phi = rho (e^(rho^0.3) + 10), the paper's SDE 5:

        x_s = q x_t + (1 - q) x0 + sum_(k > 0) x0^(k) int phi_s phi' / phi^2 (rho - rho_t)^k / k! d rho + std z,
        q = phi_s / phi_t,  std^2 = rho_s^2 - (q rho_t)^2,  the integral from rho_s to rho_t

    One call per step, stochastic, second order. The derivatives x0^(k) are those of the polynomial through the
    latest predictions, and the integrals are Gauss quadratures. The published code takes the difference of the last
    two predictions for x0' and sums of 100 terms: the same with 2 nodes, up to the sums. Use it for 20 to 50 calls.

    Args:
        nodes: number of predictions that the polynomial passes through, 1 to 3: the paper's order.

    Raises:
        UserError: another number of nodes.
    """

    space = "x0"
    stochastic = True

    def __init__(self, nodes: int = 3) -> None:
        if nodes not in (1, 2, 3):
            raise UserError(f"ER-SDE solvers have 1, 2 or 3 nodes; got {nodes!r}.")
        self.nodes, self.memory = nodes, nodes - 1
        self.order = min(nodes, 2)

    def variable(self, level: FloatLevel) -> float:
        return level.rho

    def moments(self, at: FloatLevel, to: FloatLevel, count: int) -> list[float]:
        """alpha_s (1 - k int u^(k-1) phi_s / phi du), by parts; u = (rho - rho_t) / (rho_s - rho_t)."""
        rho_t, rho_s = at.rho, to.rho
        fall = math.log(rho_t / rho_s)
        v, dv = fall / 2 * (GAUSS[0] + 1), fall / 2 * GAUSS[1]  # rho = rho_t e^-v: phi is smooth in v
        rho = rho_t * np.exp(-v)
        u, du_dv = (rho - rho_t) / (rho_s - rho_t), rho / (rho_t - rho_s)
        phi_du = dv * du_dv * [self.phi_ratio(rho_s, r) for r in rho]
        return [to.alpha * (1 - k * float(np.sum(u ** (k - 1) * phi_du))) for k in range(1, count + 1)]

    @staticmethod
    def phi_ratio(low: float, high: float) -> float:
        """phi(low) / phi(high); 0 if `high` is infinite."""
        if math.isinf(high):
            return 0.0
        a, b = low**0.3, high**0.3
        return low / high * math.exp(a - b) * (1 + 10 * math.exp(-a)) / (1 + 10 * math.exp(-b))

    def update(self, levels: Sequence[FloatLevel], n: int) -> Update:
        at, to = levels[n], levels[n + 1]
        if to.rho >= at.rho:  # a step towards more noise has no noise to replace
            return Update(to, to.sigma, std=0.0)
        kept = self.phi_ratio(to.rho, at.rho) * at.rho / to.rho if at.alpha > 0 and to.sigma > 0 else 0.0
        others = self.history(levels, n)
        return Update(
            to,
            direction=to.sigma * kept,  # kept = q rho_t / rho_s
            history=self.weights(at, to, others) if others else (),
            std=to.sigma * max(0.0, 1 - kept**2) ** 0.5,
        )
