"""PNDM's family: Adams-Bashforth weights for eps, fed to DDIM's step (arXiv 2202.09778)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from ddim.samplers.plan import Move, Step, ddim
from ddim.samplers.planned import Planned
from ddim.samplers.point import Point, agreed, behind
from ddim.schedule import Schedule

ADAMS_BASHFORTH = ((), (-1 / 2,), (-16 / 12, 5 / 12), (-59 / 24, 37 / 24, -9 / 24))
"""By the number of earlier predictions, their weights, newest first; that of the newest of all makes the sum 1."""

LONG = 5
"""A walk of fewer steps begins as iPNDM's: its first step is so long that a second look would do harm."""


def slope(at: Point, to: Point) -> float:
    """sigma_s - alpha_s sigma_t / alpha_t: what an eps in place of the step's own changes, per unit of eps."""
    return to.sigma - to.alpha * at.sigma / at.alpha


class IPNDM(Planned):
    """PNDM's linear multistep with lower orders at the start ("improved PNDM", arXiv 2204.13902).

    eps' = (55 eps_n - 59 eps_(n-1) + 37 eps_(n-2) - 9 eps_(n-3)) / 24, x_s = DDIM(x_t, eps') (PNDM, Eq. 12)

    One call a step, deterministic. The weights are those of equal steps: fourth order where sigma / alpha falls
    evenly, second on any other smooth ladder. For about 10 to 20 calls on evenly spaced times.
    """

    space: ClassVar[Literal["x0", "eps"]] = "eps"
    memory = 3
    order = 2

    def plan(self, walk: Sequence[Point], schedule: Schedule | None) -> list[Step]:
        return [self.one(walk, n, schedule) for n in range(len(walk) - 1)]

    def one(self, walk: Sequence[Point], n: int, schedule: Schedule | None) -> Step:
        """Step n."""
        return Step(self.adams(walk, n))

    def adams(self, walk: Sequence[Point], n: int) -> Move:
        """Step n by Adams-Bashforth, as high as the number of earlier predictions allows."""
        at, to = walk[n], walk[n + 1]
        if not at.finite or to.noise:
            return ddim(to)
        earlier = len(behind(walk, n, 3))
        return ddim(to)._replace(past=tuple(slope(at, to) * w for w in ADAMS_BASHFORTH[earlier]))


class PLMS(IPNDM):
    """PNDM without its Runge-Kutta start, as Stable Diffusion runs it: the first step is Heun's.

    Two calls in the first step, one in each other; deterministic, second order. In the first step
    eps' = (eps(x_t, t) + eps(DDIM(x_t), s)) / 2. For 20 calls and more on evenly spaced times.
    """

    def one(self, walk: Sequence[Point], n: int, schedule: Schedule | None) -> Step:
        if not self.inner_calls(walk, n):
            return Step(self.adams(walk, n))
        at, to = walk[n], walk[n + 1]
        return Step(ddim(to)._replace(inner=(slope(at, to) / 2,)), stages=(ddim(to),))

    def inner_calls(self, walk: Sequence[Point], n: int) -> int:
        first = walk[n].finite and not any(point.finite for point in walk[:n])
        return 1 if first and walk[n + 1].finite and len(walk) > LONG else 0


class PNDM(IPNDM):
    """Three pseudo Runge-Kutta steps, then linear multistep: the pseudo numerical method (arXiv 2202.09778).

    Four calls in each of the first three steps, one in each other; deterministic, second order. The Runge-Kutta
    step asks at the middle of the two times: eps' = (eps_1 + 2 eps_2 + 2 eps_3 + eps_4) / 6 (Eq. 13). For 50 calls
    and more; with fewer, the start takes most of them.
    """

    def one(self, walk: Sequence[Point], n: int, schedule: Schedule | None) -> Step:
        if not self.inner_calls(walk, n):
            return Step(self.adams(walk, n))
        at, to = walk[n], walk[n + 1]
        middle = Point.at_time(agreed(schedule, (at, to), self), (at.t + to.t) / 2, self)
        half, whole = slope(at, middle), slope(at, to)
        stages = (
            ddim(middle),
            ddim(middle)._replace(inner=(half,)),  # DDIM with eps_2 in place of eps_1
            ddim(to)._replace(inner=(0.0, whole)),  # with eps_3
        )
        return Step(ddim(to)._replace(inner=(whole / 3, whole / 3, whole / 6)), stages=stages)

    def inner_calls(self, walk: Sequence[Point], n: int) -> int:
        begun = sum(point.finite for point in walk[:n])
        return 3 if begun < 3 and walk[n].finite and walk[n + 1].finite and len(walk) > LONG else 0
