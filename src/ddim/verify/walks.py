"""Which walks to compare: solvers, ladders and numbers of network calls."""

from collections.abc import Sequence
from dataclasses import dataclass

from ddim import samplers, timesteps
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.level import Level
from ddim.samplers import Sampler
from ddim.schedule import Schedule

BUDGETS = (5, 8, 10, 20, 50)  # network calls


@dataclass(frozen=True)
class Walk:
    """One row that is still to be measured."""

    solver: str
    spacing: str
    budget: int
    sampler: Sampler
    levels: Sequence[Level]


def walks(
    model: Denoiser,
    budgets: Sequence[int] = BUDGETS,
    solvers: Sequence[str] | None = None,
    spacings: Sequence[str] | None = None,
) -> list[Walk]:
    """What is to be measured: for each deterministic solver, ladder and budget the most steps that fit.

    Args:
        model: whose schedule is walked down.
        budgets: network calls.
        solvers, spacings: names; None is all.

    Raises:
        UserError: an unknown name, a stochastic solver, or a budget that is not above 0.
    """
    if not budgets or min(budgets) < 1:
        raise UserError(f"The numbers of network calls must be above 0; got {', '.join(map(str, budgets))}.")
    ladders, found = _Ladders(model.schedule), []
    for solver in samplers.names() if solvers is None else solvers:
        if samplers.get(solver).stochastic:
            if solvers is not None:
                raise UserError(
                    f"{solver} draws noise, so it has no endpoint to compare; leave it out of --solvers."
                )
            continue
        for spacing in timesteps.names() if spacings is None else spacings:
            for budget in sorted(set(budgets)):
                levels = ladders.longest(samplers.get(solver), spacing, budget)
                if levels is not None:
                    found.append(Walk(solver, spacing, budget, samplers.get(solver), levels))
    if not found:
        raise UserError("No solver takes a step with so few network calls; allow more with --calls.")
    return found


class _Ladders:
    """The levels of every ladder, made once: all solvers walk down the same."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.made: dict[tuple[str, int], list[Level]] = {}

    def __call__(self, spacing: str, S: int) -> list[Level]:
        if (spacing, S) not in self.made:
            self.made[spacing, S] = timesteps.levels(self.schedule, timesteps.timesteps(self.schedule, S, spacing))
        return self.made[spacing, S]

    def longest(self, sampler: Sampler, spacing: str, budget: int) -> list[Level] | None:
        """The one with the most steps whose calls fit into the budget; None if a single step does not."""
        fitting = (self(spacing, S) for S in range(min(budget, self.schedule.T), 0, -1))
        return next((levels for levels in fitting if sampler.calls(levels) <= budget), None)
