"""Multistep DPM-Solver++: (2M), (3M) and the SDE version of (2M) (arXiv 2211.01095)."""

from collections.abc import Sequence

from ddim.errors import number
from ddim.samplers.base import register
from ddim.samplers.multistep import Exponential
from ddim.samplers.planned import FloatLevel, Update


@register("dpmpp-2m")
class DPMpp2M(Exponential):
    """DPM-Solver++(2M), the two-step solver that most programs use: robust from 10 calls on.

        D   = x0_n + (x0_n - x0_(n-1)) / (2 r),   r = h_(n-1) / h
        x_s = (sigma_s / sigma_t) e^(-eta h) x_t + alpha_s (1 - e^(-(1 + eta) h)) D
              + sigma_s sqrt(1 - e^(-2 eta h)) z

    One call per step, second order. eta = 0 is Algorithm 2, deterministic; eta = 1 is SDE-DPM-Solver++(2M), which
    needs more calls, and whose noise removes errors of earlier steps.

    Args:
        eta: how much noise is injected, at least 0.

    Raises:
        UserError: an eta below 0.
    """

    nodes = 2
    memory = 1
    order = 2

    def __init__(self, eta: float = 0.0) -> None:
        self.eta = number("eta", eta, float, 0, allowed="a number of at least 0 (0 is deterministic, 1 the SDE)")
        self.stochastic = self.eta > 0

    def update(self, levels: Sequence[FloatLevel], n: int) -> Update:
        at, to = levels[n], levels[n + 1]
        shrink = _shrink(at, to)  # e^-h
        eta = self.eta if to.rho < at.rho else 0.0  # a step towards more noise has no noise to replace
        history = tuple(_half_slope(at, to, before, shrink ** (1 + eta)) for before in self.history(levels, n))
        std = to.sigma * max(0.0, 1 - shrink ** (2 * eta)) ** 0.5
        return Update(to, to.sigma * shrink**eta, history=history, std=std if self.stochastic else None)


@register("dpmpp-3m")
class DPMpp3M(Exponential):
    """DPM-Solver++(3M), the three-step solver: a parabola of x0 in lambda, integrated exactly.

        x_s = (sigma_s / sigma_t) x_t + alpha_s (h phi_1(-h) x0 + h^2 phi_2(-h) x0' + h^3 phi_3(-h) x0'')

    One call per step, deterministic. The published code has h^3 phi_3(-h) x0'' / 2, although its second difference
    is already halved; that leaves it at second order, as a test shows. A first step of first order would also limit
    the trajectory to second order: the second step first corrects it, at no extra call (UniC, arXiv 2302.04867). In
    other words, this is UniPC with p = 3 and its corrector in the first step alone. Use it for 15 calls and more.

    Args:
        corrected: whether the first step is corrected.
    """

    nodes = 3
    memory = 3

    def __init__(self, corrected: bool = True) -> None:
        self.corrected = corrected
        self.order = 3 if corrected else 2

    def weights(self, at: FloatLevel, to: FloatLevel, others: Sequence[FloatLevel]) -> tuple[float, ...]:
        if len(others) == 1:
            return (_half_slope(at, to, others[0], _shrink(at, to)),)  # as (2M)
        return super().weights(at, to, others)

    def corrects(self, levels: Sequence[FloatLevel], n: int) -> bool:
        return self.corrected and not self.history(levels, n - 1)


@register("dpmpp-2m-sde")
def DPMpp2MSDE(eta: float = 1.0) -> DPMpp2M:
    """Return SDE-DPM-Solver++(2M) (arXiv 2211.01095): DPM-Solver++(2M) with noise, one call per step.

    Use it for more than about 25 calls; the noise removes errors that the network made earlier.

    Args:
        eta: how much noise is injected; 1 is the paper's.
    """
    return DPMpp2M(eta)


def _shrink(at: FloatLevel, to: FloatLevel) -> float:
    """e^-h; 0 from alpha_t = 0 or to sigma_s = 0."""
    return to.sigma * at.alpha / (at.sigma * to.alpha) if at.sigma * to.alpha > 0 else 0.0


def _half_slope(at: FloatLevel, to: FloatLevel, before: FloatLevel, shrink: float) -> float:
    """-alpha_s (1 - shrink) / (2 r): the weight of x0_(n-1) - x0_n, where r = (lambda_t - lambda_before) / h."""
    return to.alpha * (1 - shrink) / 2 * (to.lam - at.lam) / (before.lam - at.lam)
