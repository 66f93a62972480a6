"""How a model is sampled: the defaults that a model carries, and the options of one call on top of them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypedDict, Unpack

from ddim import samplers
from ddim.errors import UserError, number, shown
from ddim.level import Level
from ddim.samplers import Sampler
from ddim.schedule import Schedule
from ddim.timesteps import levels, spacings, timesteps

DEFAULT_SPACING = "trailing"
"""The spacing of a sampler other than the model's default one: it works with every sampler and schedule."""


class SamplingOptions(TypedDict, total=False):
    """Options of one call. None, or leaving an option out, takes the model's default.

    Attributes:
        steps: S, the number of steps, from 1 to T.
        sampler: a name from `ddim.samplers.names()`, or a `Sampler`.
        eta: noise that the sampler injects: 0 is DDIM, 1 is DDPM; for "hat" and "max" see `ddim.samplers.DDIM`.
            Given without a sampler, it selects "ddim".
        spacing: a name from `ddim.timesteps.names()`, or a descending list of times in [0, T].
    """

    steps: int | None
    sampler: str | Sampler | None
    eta: float | str | None
    spacing: str | Sequence[float] | None


@dataclass(frozen=True)
class Sampling:
    """A model's sampling defaults, stored in its config.

    Attributes:
        steps, sampler: see `SamplingOptions`; the sampler is a name.
        eta: see `SamplingOptions`; None is the sampler's own default.
        spacing: the name of the spacing for `sampler`; a call with another sampler gets `DEFAULT_SPACING`.
        times: of a distilled model, otherwise empty: for each number of steps that it was trained for, the descending
            times without the final 0. They replace the spacing, and another number of steps is refused, unless a call
            gives a sampler, an eta or a spacing.
        clip: whether each predicted x0 is clipped to [-1, 1], unless a call turns that off.

    Raises:
        UserError: an unknown name, an invalid number, or times that do not descend.
    """

    steps: int = 20
    sampler: str = "unipc"
    eta: float | str | None = None
    spacing: str = "log-snr"
    times: tuple[tuple[float, ...], ...] = ()
    clip: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", number("The default number of steps", self.steps, int, 1))
        sampler = _create(self.sampler, self.eta)
        if self.eta is not None:
            object.__setattr__(self, "eta", getattr(sampler, "eta", self.eta))  # as a plain number
        spacings[self.spacing]  # refuses an unknown name
        times = tuple(tuple(number("A time", t, float, 0) for t in own) for own in self.times)
        if any(not own or any(t <= s for t, s in pairwise((*own, 0.0))) for own in times):
            raise UserError(f"The times of a distilled model must descend to above 0; got {times!r:.80}.")
        object.__setattr__(self, "times", times)

    def resolve(
        self,
        schedule: Schedule,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        eta: float | str | None = None,
        spacing: str | Sequence[float] | None = None,
    ) -> tuple[Sampler, list[Level]]:
        """Return the sampler and the levels it visits.

        Args:
            schedule: the model's.
            steps, sampler, eta, spacing: see `SamplingOptions`. The default number of steps is at most T. A sampler
                other than the default one gets the spacing `DEFAULT_SPACING`.

        Raises:
            UserError: an unknown name, a number out of range, or an eta for a sampler without one.
        """
        sampler, eta, spacing = self._chosen(steps, sampler, eta, spacing)
        if steps is None and isinstance(spacing, str):
            steps = min(self.steps, schedule.N)
        return _create(sampler, eta), levels(schedule, timesteps(schedule, steps, spacing))

    def walk(self, *arguments: Any, **options: Any) -> tuple[Sampler, list[Level]]:
        """Call `resolve`, the new name of this method."""
        warnings.warn("Sampling.walk is now Sampling.resolve.", DeprecationWarning, stacklevel=2)
        return self.resolve(*arguments, **options)

    def words(self, *arguments: Any, **options: Any) -> str:
        """Call `describe`, the new name of this method."""
        warnings.warn("Sampling.words is now Sampling.describe.", DeprecationWarning, stacklevel=2)
        return self.describe(*arguments, **options)

    def describe(
        self,
        steps: int | None = None,
        sampler: str | None = None,
        eta: float | str | None = None,
        spacing: str | Sequence[float] | None = None,
        schedule: Schedule | None = None,
    ) -> str:
        """Return what `resolve` selects as text, e.g. "ddim, trailing, 20 steps, eta = 0".

        `schedule` is the model's; without it the default number of steps may be above its T.
        """
        name, eta, spacing = self._chosen(steps, sampler, eta, spacing)
        if not isinstance(spacing, str):
            steps = sum(t > 0 for t in spacing)
            spacing = f"timesteps {' '.join(f'{t:g}' for t in spacing)}"
        if not steps:
            steps = self.steps if schedule is None else min(self.steps, schedule.N)
        eta = getattr(_create(name, eta), "eta", None)
        injected = "" if eta is None else f", eta = {eta if isinstance(eta, str) else f'{eta:g}'}"
        return f"{name}, {spacing}, {steps} step{'s' * (steps != 1)}{injected}"

    def settings(self, schedule: Schedule, **options: Unpack[SamplingOptions]) -> dict[str, Any]:
        """Return what `resolve` selects, by the name of each option; arguments and errors are the same.

        The steps are those taken; the eta of a sampler without one is None.
        """
        sampler, levels = self.resolve(schedule, **options)
        name, _, spacing = self._chosen(**options)
        eta = getattr(sampler, "eta", None)
        eta = eta if isinstance(eta, int | float | str) else None
        return {"steps": len(levels) - 1, "sampler": str(name), "spacing": spacing, "eta": eta}

    def _chosen(
        self,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        eta: float | str | None = None,
        spacing: str | Sequence[float] | None = None,
    ) -> tuple[str | Sampler, float | str | None, str | Sequence[float]]:
        """Return the sampler, the eta and the spacing for the options of a call."""
        if self.times and sampler is eta is spacing is None:
            spacing = self._own_times(self.steps if steps is None else steps)
        if sampler is None:
            sampler = self.sampler if eta is None else "ddim"  # an eta alone selects DDIM
        if eta is None and sampler == self.sampler:
            eta = self.eta
        if spacing is None:
            spacing = self.spacing if sampler == self.sampler else DEFAULT_SPACING
        return sampler, eta, spacing

    def _own_times(self, steps: int) -> tuple[float, ...]:
        for times in self.times:
            if len(times) == steps:
                return times
        known = ", ".join(str(len(times)) for times in sorted(self.times, key=len))
        raise UserError(
            f"This model is distilled for {known} steps, not for {steps!r:.20}; ask for one of them, or name a sampler."
        )


def _create(sampler: str | Sampler, eta: float | str | None) -> Sampler:
    if isinstance(sampler, str):
        return samplers.get(sampler, **({} if eta is None else {"eta": eta}))
    if not isinstance(sampler, Sampler):
        raise UserError(f"The sampler must be a name, or a Sampler such as ddim.samplers.DDIM(); got {shown(sampler)}.")
    if eta is not None:
        raise UserError(f"The sampler {sampler} is an instance: set its eta there, not in the call.")
    return sampler
