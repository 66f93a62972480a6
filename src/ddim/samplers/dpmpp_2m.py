"""DPM-Solver++(2M), and the same for the SDE (arXiv 2211.01095)."""

from collections.abc import Sequence

from ddim.errors import UserError
from ddim.samplers.exponential import Exponential
from ddim.samplers.plan import Move
from ddim.samplers.point import Point
from ddim.schedule import Schedule


class DPMpp2M(Exponential):
    """The two-step solver that most programs use: robust from 10 calls on.

    D = x0_n + (x0_n - x0_(n-1)) h / (2 h_before)
    x_s = (sigma_s / sigma_t) e^-(eta h) x_t + alpha_s (1 - e^-((1 + eta) h)) D + sigma_s sqrt(1 - e^-(2 eta h)) z

    One call a step, second order. eta = 0 is Algorithm 2, deterministic; eta = 1 is SDE-DPM-Solver++(2M), which
    needs more calls, but forgets what went wrong in earlier steps.

    Args:
        eta: how much noise is injected, at least 0.

    Raises:
        UserError: an eta below 0.
    """

    nodes = 2
    memory = 1
    order = 2

    def __init__(self, eta: float = 0.0) -> None:
        if not (isinstance(eta, int | float) and eta >= 0):
            raise UserError(f"eta must be a number from 0 (deterministic) on, 1 being the SDE; got {eta!r}.")
        self.eta = eta
        self.stochastic = eta > 0

    def move(self, walk: Sequence[Point], n: int, schedule: Schedule | None) -> Move:
        at, to = walk[n], walk[n + 1]
        shrink = to.sigma * at.alpha / (at.sigma * to.alpha) if at.sigma * to.alpha > 0 else 0.0  # e^-h
        eta = self.eta if to.rho < at.rho else 0.0  # up, no noise is taken out that could be put in anew
        direction = to.sigma * shrink**eta
        std = to.sigma * max(0.0, 1 - shrink ** (2 * eta)) ** 0.5
        past = tuple(
            to.alpha * (1 - shrink ** (1 + eta)) / 2 * (to.lam - at.lam) / (before.lam - at.lam)
            for before in self.used(walk, n)
        )
        return Move(to, direction, past=past, std=std)

    def __repr__(self) -> str:
        return f"DPMpp2M(eta={self.eta!r})"


def DPMpp2MSDE(eta: float = 1.0) -> DPMpp2M:
    """SDE-DPM-Solver++(2M) (arXiv 2211.01095): DPM-Solver++(2M) with noise, one call a step.

    For more than about 25 calls, where the noise repairs what the network got wrong earlier.

    Args:
        eta: how much noise is injected; 1 is the paper's.
    """
    return DPMpp2M(eta)
