"""PNDM and its relatives: DDIM's step with an Adams-Bashforth combination of eps (arXiv 2202.09778)."""

from collections.abc import Sequence

from ddim.samplers.base import register
from ddim.samplers.multistep import earlier
from ddim.samplers.planned import FloatLevel, Planned, Step, ddim_update, eps_coefficient, with_times
from ddim.schedule import Schedule

ADAMS_BASHFORTH = ((), (-1 / 2,), (-16 / 12, 5 / 12), (-59 / 24, 37 / 24, -9 / 24))
"""By the number of earlier predictions: their weights, latest first. The weight of eps_n makes the sum 1."""

SHORT = 5
"""With fewer steps than this, PLMS and PNDM start as iPNDM: the first step is too long for extra calls to help."""


class LinearMultistep(Planned):
    """The linear multistep part, which all methods of the family share; their first steps differ.

    eps' = (55 eps_n - 59 eps_(n-1) + 37 eps_(n-2) - 9 eps_(n-3)) / 24,  x_s = DDIM(x_t, eps')    (PNDM, Eq. 12)

    The weights are those of equal steps in sigma / alpha: fourth order there, second order on other smooth levels.
    """

    space = "eps"
    memory = 3
    order = 2

    def plan_step(self, levels: Sequence[FloatLevel], n: int, schedule: Schedule | None) -> Step:
        at, to = levels[n], levels[n + 1]
        if self.inner_calls(levels, n):
            return self.start(at, to, schedule)
        if not at.usable or to.pure_noise:
            return Step(at, ddim_update(to))
        weights = ADAMS_BASHFORTH[len(earlier(levels, n, 3))]  # of the order that their number allows
        return Step(at, ddim_update(to)._replace(history=tuple(eps_coefficient(at, to) * w for w in weights)))

    def start(self, at: FloatLevel, to: FloatLevel, schedule: Schedule | None) -> Step:
        """Return one of the first steps, which call the network several times (`inner_calls`)."""
        raise NotImplementedError


@register("plms")
class PLMS(LinearMultistep):
    """PNDM without its Runge-Kutta start, as Stable Diffusion runs it: the first step is Heun's.

        eps' = (eps(x_t, t) + eps(DDIM(x_t), s)) / 2 in the first step, then Eq. 12

    Two calls in the first step, one in each other step; deterministic, second order. Use it for 20 calls and more
    on evenly spaced times.
    """

    def start(self, at: FloatLevel, to: FloatLevel, schedule: Schedule | None) -> Step:
        return Step(at, ddim_update(to)._replace(stages=(eps_coefficient(at, to) / 2,)), stages=(ddim_update(to),))

    def inner_calls(self, levels: Sequence[FloatLevel], n: int) -> int:
        first = levels[n].usable and not any(level.usable for level in levels[:n])
        return 1 if first and levels[n + 1].usable and len(levels) > SHORT else 0


@register("pndm")
class PNDM(LinearMultistep):
    """Three pseudo Runge-Kutta steps, then linear multistep: the pseudo numerical method (arXiv 2202.09778).

        eps' = (eps_1 + 2 eps_2 + 2 eps_3 + eps_4) / 6, x_s = DDIM(x_t, eps')    (Eq. 13), then Eq. 12

    where eps_2 and eps_3 are predicted at the mean of the two times. Four calls in each of the first three steps,
    one in each other step; deterministic, second order. Use it for 50 calls and more; with fewer, the first
    three steps take most of them.
    """

    def start(self, at: FloatLevel, to: FloatLevel, schedule: Schedule | None) -> Step:
        middle = FloatLevel.at_time(with_times(schedule, (at, to), self), (at.t + to.t) / 2, self)
        half, whole = eps_coefficient(at, middle), eps_coefficient(at, to)
        stages = (
            ddim_update(middle),  # with eps_1: the network gives eps_2
            ddim_update(middle)._replace(stages=(half,)),  # with eps_2: gives eps_3
            ddim_update(to)._replace(stages=(0.0, whole)),  # with eps_3: gives eps_4
        )
        return Step(at, ddim_update(to)._replace(stages=(whole / 3, whole / 3, whole / 6)), stages=stages)

    def inner_calls(self, levels: Sequence[FloatLevel], n: int) -> int:
        taken = sum(level.usable for level in levels[:n])
        return 3 if taken < 3 and levels[n].usable and levels[n + 1].usable and len(levels) > SHORT else 0


@register("ipndm")
class IPNDM(LinearMultistep):
    """PNDM's linear multistep with lower orders at the start: "improved PNDM" (arXiv 2204.13902).

    One call per step, deterministic, second order. Use it for about 10 to 20 calls on evenly spaced times.
    """
