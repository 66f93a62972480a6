"""What all solvers of higher order share: they carry out a plan."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from ddim.level import Denoise, Level, Noise, Prediction
from ddim.predict import predictions
from ddim.samplers.base import Sampler, State
from ddim.samplers.plan import BatchMove, BatchStep, Step, batched
from ddim.samplers.point import Point, chosen, like, points
from ddim.schedule import Schedule


class Progress(NamedTuple):
    """The state of a planned solver between two steps.

    Attributes:
        plan: all steps, with their coefficients.
        n: the next step.
        before: what the network said at the start of the step before; None at the first.
        past: the x0 or the eps of the steps before, newest first.
    """

    plan: list[BatchStep]
    n: int = 0
    before: Prediction | None = None
    past: tuple[Tensor, ...] = ()


class Planned(Sampler):
    """A solver whose coefficients are numbers of the ladder, ready before the first step.

    Attributes:
        space: whether it interpolates the predicted image, "x0", or the predicted noise, "eps".
        memory: how many predictions of earlier steps it keeps.
    """

    space: ClassVar[Literal["x0", "eps"]]
    memory: int = 0

    @abstractmethod
    def plan(self, walk: Sequence[Point], schedule: Schedule | None) -> list[Step]:
        """Every step of one image.

        Args:
            walk: its levels.
            schedule: for what lies between them.

        Raises:
            UserError: no schedule where one is needed.
        """

    def inner_calls(self, walk: Sequence[Point], n: int) -> int:
        """How many calls step n makes beyond its first: here none."""
        return 0

    def calls(self, levels: Sequence[Level]) -> int:
        walks = points(levels)
        return sum(1 + max(self.inner_calls(walk, n) for walk in walks) for n in range(len(levels) - 1))

    def init(self, levels: Sequence[Level], schedule: Schedule | None = None) -> Progress:
        walks = points(levels)
        return Progress(batched(walks, [self.plan(walk, schedule) for walk in walks]))

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        """DDIM's step plus weighted differences of predictions: `plan.Move` is the formula."""
        step: BatchStep = state.plan[state.n]
        said = denoise(x, at)
        if step.correct is not None:
            y, x1 = self._y(said), self._move(step.correct, state.before, at, [self._y(said)], state.past[1:])
            again = predictions[self.space](x1, at, y)  # the same opinion, of the corrected image
            x, said = chosen(step.who, x1, x), Prediction(*map(partial(chosen, step.who), again, said))
        inner: list[Tensor] = []
        for stage in step.stages:
            level = stage.to.like(x)
            inner.append(self._y(denoise(self._move(stage, said, level, inner, state.past), level)))
        # Drawn in each step, even where std = 0: what an image meets later must not depend on the others' steps.
        x = self._move(step.last, said, to, inner, state.past, noise if self.stochastic else None)
        past = (self._y(said), *state.past)[: self.memory]
        return x, Progress(state.plan, state.n + 1, said, past)

    def _y(self, said: Prediction) -> Tensor:
        return said.x0 if self.space == "x0" else said.eps

    def _move(
        self,
        move: BatchMove,
        said: Prediction,
        to: Level,
        inner: Sequence[Tensor],
        past: Sequence[Tensor],
        noise: Noise | None = None,
    ) -> Tensor:
        y = self._y(said)
        x = to.alpha * said.x0 + like(move.direction, y) * said.eps  # DDIM, Eq. 12
        for weight, other in [*zip(move.inner, inner, strict=False), *zip(move.past, past, strict=False)]:
            x = x + like(weight, y) * (other - y)
        if noise is not None:
            x = x + like(move.std, y) * noise(x)
        return x

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
