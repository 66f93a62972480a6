"""How a model is sampled: its own defaults, and what a call puts in their place."""

from collections.abc import Sequence
from dataclasses import dataclass

from ddim import samplers
from ddim.errors import UserError
from ddim.ladder import ladder, levels, spacings
from ddim.level import Level
from ddim.samplers import Sampler
from ddim.schedule import Schedule

OTHERS = "trailing"
"""The ladder that serves any sampler on any schedule."""


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled unless the call says otherwise; kept in its config.

    Attributes:
        steps: S, the number of steps.
        sampler: a name from `ddim.samplers.names()`.
        eta: the noise that the sampler injects, for a sampler that has an eta; None is its own default.
        spacing: a name from `ddim.ladder.names()`; for this sampler, as each likes another ladder best.

    Raises:
        UserError: an unknown name, or a number that cannot be.
    """

    steps: int = 20
    sampler: str = "unipc"
    eta: float | str | None = None
    spacing: str = "log-snr"

    def __post_init__(self) -> None:
        if not (isinstance(self.steps, int) and self.steps > 0):
            raise UserError(f"The default number of steps must be a whole number above 0; got {self.steps!r}.")
        _made(self.sampler, self.eta)
        spacings[self.spacing]  # refuses an unknown name

    def walk(
        self,
        schedule: Schedule,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        eta: float | str | None = None,
        spacing: str | Sequence[float] | None = None,
    ) -> tuple[Sampler, list[Level]]:
        """The sampler and the levels that it will visit.

        Args:
            schedule: of the model.
            steps, sampler, eta, spacing: as for `Denoiser.sample`; None is the default. Another sampler than the
                default one gets the ladder `OTHERS`.
        """
        sampler, eta, spacing = self._chosen(sampler, eta, spacing)
        if steps is None and isinstance(spacing, str):
            steps = self.steps
        return _made(sampler, eta), levels(schedule, ladder(schedule, steps, spacing))

    def words(
        self,
        steps: int | None = None,
        sampler: str | None = None,
        eta: float | str | None = None,
        spacing: str | None = None,
    ) -> str:
        """What `walk` makes of such names, e.g. "ddim, trailing, 20 steps, eta = 0"."""
        name, eta, spacing_name = self._chosen(sampler, eta, spacing)
        eta = getattr(_made(name, eta), "eta", None)
        injected = "" if eta is None else f", eta = {eta if isinstance(eta, str) else f'{eta:g}'}"
        return f"{name}, {spacing_name}, {steps or self.steps} steps{injected}"

    def _chosen(
        self, sampler: str | Sampler | None, eta: float | str | None, spacing: str | Sequence[float] | None
    ) -> tuple[str | Sampler, float | str | None, str | Sequence[float]]:
        """With the defaults where nothing is given."""
        if sampler is None:
            sampler = self.sampler if eta is None else "ddim"  # an eta alone asks for DDIM with it
        if eta is None and sampler == self.sampler:
            eta = self.eta
        if spacing is None:
            spacing = self.spacing if sampler == self.sampler else OTHERS
        return sampler, eta, spacing


def _made(sampler: str | Sampler, eta: float | str | None) -> Sampler:
    if isinstance(sampler, str):
        return samplers.get(sampler, **({} if eta is None else {"eta": eta}))
    if eta is not None:
        raise UserError(f"The sampler {sampler} is already made: give eta to it, not to `sample`.")
    return sampler
