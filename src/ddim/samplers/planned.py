"""What all solvers of higher order share: every coefficient is planned before the first step, then carried out.

Each of these solvers takes DDIM's step plus weighted differences of network predictions. The weights depend on the
noise levels alone, so they are plain floats, computed once per trajectory in float64. A batch shares its levels.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ddim.errors import UserError
from ddim.level import Denoise, Level, Noise, Prediction
from ddim.predict import predictions
from ddim.samplers.base import Sampler, State
from ddim.schedule import Schedule, edm, flow

PURE_NOISE = 1e-3
"""A level with alpha / sigma below this counts as pure noise.

A step from it multiplies errors of eps by alpha_s / alpha_t: by thousands on the cosine schedule, where alpha_T is
5e-5. DDIM's step has no such factor and is nearly exact there, as x0 hardly depends on x.
"""


class FloatLevel(NamedTuple):
    """A noise level x_t = alpha x_0 + sigma eps as plain floats, variance preserving or not."""

    t: float
    alpha: float
    sigma: float

    def __str__(self) -> str:
        return f"t = {self.t:g} (alpha = {self.alpha:.4g}, sigma = {self.sigma:.4g})"

    @property
    def lam(self) -> float:
        """lambda = log(alpha / sigma), half the log-SNR; only for a `usable` level."""
        return math.log(self.alpha / self.sigma)

    @property
    def rho(self) -> float:
        """sigma / alpha, the noise rate of x / alpha: EDM's sigma; infinite for alpha = 0."""
        return self.sigma / self.alpha if self.alpha > 0 else math.inf

    @property
    def pure_noise(self) -> bool:
        """Whether alpha is 0 or so small that only DDIM's step is safe."""
        return self.alpha < PURE_NOISE * self.sigma

    @property
    def usable(self) -> bool:
        """Whether a solver may use lambda here: the level is neither clean (sigma = 0) nor pure noise."""
        return self.sigma > 0 and not self.pure_noise

    def level(self) -> Level:
        """Return the same level as 0-d tensors, which the network takes."""
        return Level(*(torch.tensor(value, dtype=torch.float64) for value in self))

    @classmethod
    def of(cls, level: Level, sampler: object) -> "FloatLevel":
        """Return `level` as floats; refuse one level per image."""
        if any(value.ndim for value in level):
            raise UserError(
                f"{sampler} needs one noise level for the whole batch and was given one per image; "
                "use DDIM, or sample the images one by one."
            )
        return cls(*(value.item() for value in level))

    @classmethod
    def at_lambda(cls, schedule: Schedule | None, lam: float, sampler: object) -> "FloatLevel":
        """Return the level of `schedule` where log(alpha / sigma) is `lam`."""
        return cls.of(required(schedule, sampler).at_log_snr(2 * lam), sampler)

    @classmethod
    def at_time(cls, schedule: Schedule | None, t: float, sampler: object) -> "FloatLevel":
        """Return the level of `schedule` at time `t`."""
        return cls.of(required(schedule, sampler)(t), sampler)


class Update(NamedTuple):
    """One evaluation of x_s = alpha_s x0 + direction eps + sum_j w_j (y_j - y) + std z.

    x0 and eps are predicted at the start of the step, y is one of the two (`Planned.space`), and the y_j are
    predictions of the same kind made elsewhere.
    """

    to: FloatLevel  # level s
    direction: float  # coefficient of eps: sigma_s, or less where fresh noise takes a share
    stages: tuple[float, ...] = ()  # w_j of the predictions at the inner stages of this step, in their order
    history: tuple[float, ...] = ()  # w_j of the predictions at the starts of the earlier steps, latest first
    std: float | None = None  # standard deviation of the injected noise; None draws no noise


class Churn(NamedTuple):
    """x_hat = scale x + std z: noise added before a step, up to level `to` (arXiv 2206.00364, Algorithm 2)."""

    to: FloatLevel
    scale: float
    std: float


class Step(NamedTuple):
    """One step of a plan.

    A correction is the previous step again, with the prediction at its end as its one stage. Its result replaces
    the image before this step's update.
    """

    at: FloatLevel  # where the step starts
    update: Update  # how it reaches its end
    stages: tuple[Update, ...] = ()  # to the inner stages, where the network is called again before the end
    correction: Update | None = None
    churn: Churn | None = None  # noise added before the first network call


class PlanState(NamedTuple):
    """The state of a planned solver between two steps."""

    plan: list[Step]
    n: int = 0  # index of the next step
    previous: Prediction | None = None  # at the start of the previous step; None at the first step
    history: tuple[Tensor, ...] = ()  # the y of the previous steps, latest first


class Planned(Sampler):
    """A solver whose coefficients are known before the first step."""

    space: Literal["x0", "eps"]  # whether y is the predicted image or the predicted noise
    memory: int = 0  # how many earlier predictions it keeps

    def plan(self, levels: Sequence[FloatLevel], schedule: Schedule | None) -> list[Step]:
        """Return all steps along `levels`; `schedule` is for solvers that need levels between these."""
        return [self.plan_step(levels, n, schedule) for n in range(len(levels) - 1)]

    @abstractmethod
    def plan_step(self, levels: Sequence[FloatLevel], n: int, schedule: Schedule | None) -> Step:
        """Return the step from levels[n] to levels[n + 1]."""

    def inner_calls(self, levels: Sequence[FloatLevel], n: int) -> int:
        """Return the number of network calls of step n after its first; by default none."""
        return 0

    def calls(self, levels: Sequence[Level]) -> int:
        floats = self._floats(levels)
        return sum(1 + self.inner_calls(floats, n) for n in range(len(floats) - 1))

    def init(self, levels: Sequence[Level], schedule: Schedule | None = None) -> State:
        floats = self._floats(levels)
        return PlanState(self.plan(floats, implied(floats) if schedule is None else schedule))

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        """Take the next step of the plan.

        Raises:
            UserError: `at` and `to` are not the levels of that step.
        """
        step = self._next(state, at, to)
        if step.churn is not None:
            assert noise is not None, "a stochastic step needs noise"
            x, at = step.churn.scale * x + step.churn.std * noise(x), step.churn.to.level()
        prediction = denoise(x, at)
        if step.correction is not None:
            y = self._y(prediction)
            # state.history[0] is the y of state.previous itself, the start of the step that is corrected.
            x = self._evaluate(step.correction, at, state.previous, [y], state.history[1:])
            prediction = predictions[self.space](x, at, y)  # y stays; the other of x0 and eps follows the new x
        stages: list[Tensor] = []
        for update in step.stages:
            level = update.to.level()
            x_level = self._evaluate(update, level, prediction, stages, state.history)
            stages.append(self._y(denoise(x_level, level)))
        x = self._evaluate(step.update, to, prediction, stages, state.history, noise)
        history = (self._y(prediction), *state.history)[: self.memory]
        return x, PlanState(state.plan, state.n + 1, prediction, history)

    def _y(self, prediction: Prediction) -> Tensor:
        return prediction.x0 if self.space == "x0" else prediction.eps

    def _evaluate(
        self,
        update: Update,
        to: Level,
        prediction: Prediction,
        stages: Sequence[Tensor],
        history: Sequence[Tensor],
        noise: Noise | None = None,
    ) -> Tensor:
        """Return the value of `update`; `to` is `update.to` as tensors."""
        y = self._y(prediction)
        x = to.alpha * prediction.x0 + update.direction * prediction.eps  # DDIM, Eq. 12
        # A step with fewer weights than there are predictions in memory uses the latest ones.
        for w, y_j in [*zip(update.stages, stages, strict=False), *zip(update.history, history, strict=False)]:
            x = x + w * (y_j - y)
        if update.std is not None:
            assert noise is not None, "a stochastic step needs noise"
            x = x + update.std * noise(x)
        return x

    def _floats(self, levels: Sequence[Level]) -> list[FloatLevel]:
        return [FloatLevel.of(level, self) for level in levels]

    def _next(self, state: PlanState, at: Level, to: Level) -> Step:
        """Return the next step of the plan, if it leads from `at` to `to`."""
        if state.n == len(state.plan):
            raise UserError(f"{self} has taken all {state.n} steps of its plan; call `init` for another trajectory.")
        step, (start, end) = state.plan[state.n], self._floats([at, to])
        if (step.at, step.update.to) != (start, end):
            raise UserError(
                f"{self} has planned a step from {step.at} to {step.update.to}, and was given {start} and {end}; "
                "call `init` with the levels to visit, and step through these in order."
            )
        return step


class Singlestep(Planned):
    """A one-step method of higher order; from or to a level that is not `usable`, its step is DDIM's."""

    inner_stages: int  # network calls of a step after its first

    @abstractmethod
    def between(self, at: FloatLevel, to: FloatLevel, schedule: Schedule | None) -> Step:
        """Return the step between two usable levels."""

    def plan_step(self, levels: Sequence[FloatLevel], n: int, schedule: Schedule | None) -> Step:
        if self.inner_calls(levels, n):
            return self.between(levels[n], levels[n + 1], schedule)
        return Step(levels[n], ddim_update(levels[n + 1]))

    def inner_calls(self, levels: Sequence[FloatLevel], n: int) -> int:
        return self.inner_stages if levels[n].usable and levels[n + 1].usable else 0


def ddim_update(to: FloatLevel) -> Update:
    """x_s = alpha_s x0 + sigma_s eps: DDIM's step, first order, finite between any two levels (Eq. 12)."""
    return Update(to, to.sigma)


def eps_coefficient(at: FloatLevel, to: FloatLevel) -> float:
    """c = sigma_s - alpha_s sigma_t / alpha_t = -sigma_s (e^h - 1); DDIM: x_s = (alpha_s / alpha_t) x_t + c eps."""
    return to.sigma - to.alpha * at.sigma / at.alpha


def implied(levels: Sequence[FloatLevel]) -> Schedule | None:
    """Return the schedule of levels whose time is sigma: EDM's or a flow's; None for other levels."""
    sigmas = [level.sigma for level in levels if level.sigma > 0]
    if not sigmas or not all(math.isclose(level.t, level.sigma, rel_tol=1e-9) for level in levels):
        return None
    if all(level.alpha == 1 for level in levels):
        return edm(min(sigmas) / 2, max(sigmas))
    return flow() if all(abs(level.alpha + level.sigma - 1) < 1e-9 for level in levels) else None


def required(schedule: Schedule | None, sampler: object) -> Schedule:
    """Return `schedule`; refuse None, for a solver that calls the network between the given levels."""
    if schedule is None:
        raise UserError(
            f"{sampler} calls the network between the given levels and needs their schedule, which only the levels of "
            "ddim.schedule.edm and flow determine; give `trajectory` its `schedule`."
        )
    return schedule


def with_times(schedule: Schedule | None, levels: Sequence[FloatLevel], sampler: object) -> Schedule:
    """Return `schedule`; refuse levels that it does not have at their times, for a solver that works in time."""
    schedule = required(schedule, sampler)
    _, alpha, sigma = schedule(torch.tensor([level.t for level in levels], dtype=torch.float64))
    rhos = zip((sigma / alpha).flatten().tolist(), (level.rho for level in levels), strict=True)
    if not all(math.isclose(rho, given, rel_tol=1e-3) for rho, given in rhos):
        raise UserError(
            f"{sampler} works in time, and the schedule has other noise levels at the times of these levels; "
            "take the levels from the schedule, or choose a solver that works in lambda, such as UniPC."
        )
    return schedule
