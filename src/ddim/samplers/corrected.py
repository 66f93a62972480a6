"""A solver with small corrections, which tuning finds for one network (GS, arXiv 2510.17699)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from ddim.errors import UserError, number
from ddim.level import Denoise, Level, Noise, Prediction
from ddim.samplers.base import Sampler, State
from ddim.samplers.planned import FloatLevel
from ddim.schedule import Schedule
from ddim.text import counted


class CorrectedState(NamedTuple):
    """The state between two steps."""

    base: State
    scales: list[float]  # alpha_s (1 - e^-h) of each step
    latest: float  # the largest time of the trajectory; the network is not called above it
    n: int = 0  # index of the next step
    x0: Tensor | None = None  # predicted at the start of the previous step


class Corrected(Sampler):
    """A deterministic solver with a shift of the network's time, and one or two corrections a step.

        x_s = base(x_t) + alpha_s (1 - e^-h) (a_n x0_n + b_n (x0_n - x0_(n-1)))

    With h = lambda_s - lambda_t, alpha_s (1 - e^-h) is the weight of x0_n in DDIM's step. So a_n changes the weight of
    the latest prediction, and b_n how far the step extrapolates; b_0 has no effect. The network is called at the
    time (1 + shift) t, at most the first time of the trajectory, while alpha and sigma stay those of t (Eq. 18).

    Without a shift and corrections, or with zeros, a step is the base solver's, bit for bit.

    Args:
        base: the solver that is corrected. A solver that corrects its previous step (UniC) replaces the image there,
            so that a correction acts only through the prediction at the corrected image.
        shift: in [-0.5, 0.5].
        corrections: a_n, or a_n and b_n, for each step; none for no corrections.

    Raises:
        UserError: a stochastic base, or a number out of range; from `init`, another number of steps.
    """

    def __init__(self, base: Sampler, shift: float = 0.0, corrections: Sequence[Sequence[float]] = ()) -> None:
        if not isinstance(base, Sampler) or base.stochastic:
            raise UserError(f"Corrections are for a deterministic sampler; got {base!r}. Choose one, e.g. DDIM().")
        self.base, self.order = base, base.order
        self.shift = number("The shift of the network's time", shift, float, -0.5, 0.5)
        self.corrections = tuple(
            tuple(number("A correction", value, float, -1, 1) for value in step) for step in corrections
        )
        if any(len(step) not in (1, 2) for step in self.corrections):
            raise UserError(
                "A step has one or two corrections, a_n and b_n; give a list of them for each step, or no list."
            )

    def calls(self, levels: Sequence[Level]) -> int:
        return self.base.calls(levels)

    def init(self, levels: Sequence[Level], schedule: Schedule | None = None) -> State:
        if self.corrections and len(self.corrections) != len(levels) - 1:
            raise UserError(
                f"This sampler has corrections for {counted(len(self.corrections), 'step')}, and the levels make "
                f"{len(levels) - 1}; give it the levels that it was tuned for."
            )
        floats = [FloatLevel.of(level, self) for level in levels]
        scales = [
            to.alpha - to.sigma * at.alpha / at.sigma if to.rho < at.rho else 0.0  # no correction towards more noise
            for at, to in pairwise(floats)
        ]
        return CorrectedState(self.base.init(levels, schedule), scales, max(level.t for level in floats))

    def step(
        self, denoise: Denoise, x: Tensor, at: Level, to: Level, state: State, noise: Noise | None
    ) -> tuple[Tensor, State]:
        """x_s = base(x_t) + alpha_s (1 - e^-h) (a_n x0_n + b_n (x0_n - x0_(n-1)))."""
        predicted: list[Tensor] = []

        def shifted(x: Tensor, level: Level) -> Prediction:
            if self.shift:
                level = level._replace(t=((1 + self.shift) * level.t).clamp(max=state.latest))
            prediction = denoise(x, level)
            predicted.append(prediction.x0)
            return prediction

        x, base = self.base.step(shifted, x, at, to, state.base, noise)
        x0 = predicted[0]  # at the start of the step
        if self.corrections:
            a, *b = self.corrections[state.n]
            x = x + state.scales[state.n] * a * x0
            if b and state.x0 is not None:
                x = x + state.scales[state.n] * b[0] * (x0 - state.x0)
        return x, state._replace(base=base, n=state.n + 1, x0=x0)
