"""Heun's method in EDM's coordinates, with its churn (arXiv 2206.00364, Algorithms 1 and 2)."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from ddim.errors import UserError
from ddim.level import Denoise, Level, Noise
from ddim.samplers.adams import slope
from ddim.samplers.base import State
from ddim.samplers.plan import Step, batched, ddim
from ddim.samplers.planned import Progress
from ddim.samplers.point import Number, Point, level, like, needed, points, together
from ddim.samplers.singlestep import Singlestep
from ddim.schedule import Schedule


class Churned(NamedTuple):
    """The state of Heun with churn: for each step where it starts, how x shrinks and how much noise leads there."""

    starts: list[tuple[Level, Number, Number]]
    progress: Progress


class Heun(Singlestep):
    """EDM's sampler: the trapezoid rule for x / alpha as a function of rho = sigma / alpha.

    x_s = DDIM(x_t, (eps(x_t, t) + eps(DDIM(x_t), s)) / 2), the second call at the end of the step (Algorithm 1)

    Two calls a step, one in the step to t = 0; second order. Deterministic without churn. With churn, each step
    first adds noise up to rho_hat = (1 + gamma) rho, gamma = min(churn / S, sqrt(2) - 1) (Algorithm 2): stochastic,
    and the schedule is needed. For 30 calls and more; churn for hundreds.

    Args:
        churn: S_churn, at least 0.
        churn_from, churn_to: the rho between which noise is added, S_tmax and S_tmin.
        churn_std: standard deviation of what is added, S_noise.

    Raises:
        UserError: a churn below 0.
    """

    space: ClassVar[Literal["x0", "eps"]] = "eps"
    order = 2
    stages = 1
    variants = ({"churn": 10},)

    def __init__(
        self, churn: float = 0.0, churn_from: float = math.inf, churn_to: float = 0.0, churn_std: float = 1.0
    ) -> None:
        if not (churn >= 0 and churn_std >= 0):
            raise UserError(f"Churn and its standard deviation must be 0 or more; got {churn} and {churn_std}.")
        self.churn, self.churn_from, self.churn_to, self.churn_std = churn, churn_from, churn_to, churn_std
        self.stochastic = churn > 0

    def between(self, at: Point, to: Point, schedule: Schedule | None) -> Step:
        return Step(ddim(to)._replace(inner=(slope(at, to) / 2,)), stages=(ddim(to),))

    def init(self, levels: Sequence[Level], schedule: Schedule | None = None) -> State:
        if not self.stochastic:
            return super().init(levels, schedule)
        walks = points(levels)
        raised = [[self.raised(point, len(walk) - 1, schedule) for point in walk[:-1]] for walk in walks]
        plans = [
            [self.plan((start, to), schedule)[0] for start, to in zip(starts, walk[1:], strict=True)]
            for starts, walk in zip(raised, walks, strict=True)
        ]
        starts = []
        for n in range(len(levels) - 1):
            scale, std = zip(*(self.lift(a[n], b[n]) for a, b in zip(walks, raised, strict=True)), strict=True)
            starts.append((level([walk[n] for walk in raised]), together(scale), together(std)))
        return Churned(starts, Progress(batched(raised, plans)))

    def lift(self, at: Point, start: Point) -> tuple[float, float]:
        """alpha_hat / alpha and the std of what q(x_hat | x) adds, times S_noise: 1 and 0 for no churn."""
        if start == at:
            return 1.0, 0.0
        scale = start.alpha / at.alpha
        return scale, self.churn_std * max(0.0, start.sigma**2 - (scale * at.sigma) ** 2) ** 0.5

    def raised(self, point: Point, steps: int, schedule: Schedule | None) -> Point:
        """The noisier level that a step starts from, at most the schedule's last."""
        if not (point.finite and self.churn_to <= point.rho <= self.churn_from):
            return point
        gamma = min(self.churn / steps, math.sqrt(2) - 1)
        last = Point.at_time(schedule, needed(schedule, self).T, self)
        rho = min((1 + gamma) * point.rho, last.rho)
        start = Point.at_lambda(schedule, -math.log(rho), self) if rho > point.rho else point
        return start if start.finite else point

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        if not self.stochastic:
            return super().step(denoise, x, at, to, state, noise)
        assert noise is not None, "a stochastic step needs noise"
        here, scale, std = state.starts[state.progress.n]
        start = here.like(x)
        x = like(scale, x) * x + like(std, x) * noise(x)  # up to rho_hat
        x, progress = super().step(denoise, x, start, to, state.progress, None)
        return x, Churned(state.starts, progress)

    def __repr__(self) -> str:
        return f"Heun(churn={self.churn!r})"
