"""Linear multistep solvers: one network call for each step, and the memory of those before."""

from abc import abstractmethod
from collections.abc import Sequence

from ddim.samplers.integrals import weights
from ddim.samplers.plan import Move, Step, ddim
from ddim.samplers.planned import Planned
from ddim.samplers.point import Point, behind
from ddim.schedule import Schedule

FEW = 15
"""Below this many steps, which are then long, the last are of lower order (authors' code of arXiv 2211.01095)."""


class Multistep(Planned):
    """A polynomial through the latest predictions, integrated exactly over the step.

    A clean level, or one of pure noise, is never one of its nodes; the step from or to it is DDIM's. Where a walk
    turns round, or stands still, its memory ends.

    Attributes:
        nodes: through how many predictions the polynomial goes; `nodes` - 1 is its degree.
    """

    nodes: int

    @abstractmethod
    def variable(self, point: Point) -> float:
        """What the polynomial is a polynomial in."""

    @abstractmethod
    def moments(self, at: Point, to: Point, count: int, schedule: Schedule | None) -> list[float]:
        """The integrals of u, u^2, ... u^count over the step, u being 0 at its start and 1 at its end."""

    def weights(
        self, at: Point, to: Point, others: Sequence[Point], schedule: Schedule | None
    ) -> tuple[float, ...]:
        """The weights of y_j - y, for predictions y_j at `others` and y at `at`."""
        start, end = self.variable(at), self.variable(to)
        nodes = [(self.variable(other) - start) / (end - start) for other in others]
        return weights(nodes, self.moments(at, to, len(others), schedule))

    def used(self, walk: Sequence[Point], n: int) -> list[Point]:
        """The earlier levels whose predictions step n uses, newest first."""
        at, to, left = walk[n], walk[n + 1], len(walk) - 1 - n
        if not (at.finite and to.finite):
            return []
        nodes = min(self.nodes, left) if len(walk) - 1 < FEW else self.nodes
        return behind(walk, n, nodes - 1)

    def corrects(self, walk: Sequence[Point], n: int) -> bool:
        """Whether step n begins by taking the one before again, given that both ends of that are usable."""
        return False

    def plan(self, walk: Sequence[Point], schedule: Schedule | None) -> list[Step]:
        return [
            Step(self.move(walk, n, schedule), correct=self.correction(walk, n, schedule))
            for n in range(len(walk) - 1)
        ]

    def move(self, walk: Sequence[Point], n: int, schedule: Schedule | None) -> Move:
        """Step n."""
        past = self.used(walk, n)
        if not past:
            return ddim(walk[n + 1])
        return ddim(walk[n + 1])._replace(past=self.weights(walk[n], walk[n + 1], past, schedule))

    def correction(self, walk: Sequence[Point], n: int, schedule: Schedule | None) -> Move | None:
        """Step n - 1 again, its polynomial now also through the prediction at its end: one order more, no call.

        This is UniC (arXiv 2302.04867).
        """
        if n == 0 or not (walk[n - 1].finite and walk[n].finite) or walk[n - 1].rho == walk[n].rho:
            return None
        if not self.corrects(walk, n):
            return None
        new, *past = self.weights(walk[n - 1], walk[n], [walk[n], *self.used(walk, n - 1)], schedule)
        return ddim(walk[n])._replace(inner=(new,), past=tuple(past))
