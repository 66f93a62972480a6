"""How far a model's solvers end from where very many steps lead, for a given number of network calls."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddim import ladder, samplers
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.level import Denoise, Level, Prediction
from ddim.noise import ImageNoise
from ddim.samplers import DDIM, Sampler, trajectory
from ddim.verify.distances import Distances, Row

BUDGETS = (5, 8, 10, 20, 50)  # network calls
REFERENCE_STEPS = 1000

Tick = Callable[[], object]
"""Called after each call of the network."""


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
    found = []
    for solver in samplers.names() if solvers is None else solvers:
        if samplers.get(solver).stochastic:
            if solvers is not None:
                raise UserError(
                    f"{solver} draws noise, so it has no endpoint to compare; leave it out of --solvers."
                )
            continue
        for spacing in ladder.names() if spacings is None else spacings:
            for budget in sorted(set(budgets)):
                levels = _longest(model, samplers.get(solver), spacing, budget)
                if levels is not None:
                    found.append(Walk(solver, spacing, budget, samplers.get(solver), levels))
    if not found:
        raise UserError("No solver takes a step with so few network calls; allow more with --calls.")
    return found


def _longest(model: Denoiser, sampler: Sampler, spacing: str, budget: int) -> list[Level] | None:
    """The ladder with the most steps whose calls fit into the budget; None if a single step does not."""
    for S in range(min(budget, model.schedule.T), 0, -1):
        levels = ladder.levels(model.schedule, ladder.ladder(model.schedule, S, spacing))
        if sampler.calls(levels) <= budget:
            return levels
    return None


class Start:
    """The noise that all walks of a model start from, and the model as they all see it.

    Args:
        model: in eval mode, on the device to use.
        count: how many images.
        seed: of the noise; classes in turn, as in `Denoiser.sample`.
        tick: called after each call of the network.
    """

    def __init__(self, model: Denoiser, count: int, seed: int = 0, tick: Tick = lambda: None) -> None:
        if count < 1:
            raise UserError(f"Ask for at least 1 image; got {count}.")
        self.model, self.count, self.seed, self.tick = model, count, seed, tick
        empty = torch.empty(count, *model.shape, device=model.device, dtype=model.dtype)
        self.xT = ImageNoise(seed, range(count))(empty)
        self.denoise = self._ticking(
            model.denoise(None if model.classes is None else torch.arange(count) % model.classes)
        )

    def _ticking(self, denoise: Denoise) -> Denoise:
        def counted(x: Tensor, at: Level) -> Prediction:
            prediction = denoise(x, at)
            self.tick()
            return prediction

        return counted

    @torch.no_grad()
    def end(self, sampler: Sampler, levels: Sequence[Level]) -> Tensor:
        """The images that a walk ends with, on the CPU, in [-1, 1]."""
        *_, x = trajectory(sampler, self.denoise, self.xT, levels, schedule=self.model.schedule)
        return x.float().cpu().clamp(-1, 1)

    def reference(self) -> dict[str, Tensor]:
        """Where DDIM ends in very many steps, and in half as many: "whole" and "half"."""
        T = self.model.schedule.T
        steps = {"whole": min(REFERENCE_STEPS, T), "half": max(1, min(REFERENCE_STEPS, T) // 2)}
        schedule = self.model.schedule
        return {
            name: self.end(DDIM(), ladder.levels(schedule, ladder.ladder(schedule, S))) for name, S in steps.items()
        }


def calls(model: Denoiser, todo: Sequence[Walk], reference: bool = True) -> int:
    """How many calls of the network all of it takes."""
    T = min(REFERENCE_STEPS, model.schedule.T)
    return sum(walk.sampler.calls(walk.levels) for walk in todo) + (T + max(1, T // 2) if reference else 0)


def measure(start: Start, todo: Sequence[Walk], reference: dict[str, Tensor]) -> Distances:
    """Take the walks, and measure how far each ends from the reference.

    Args:
        start: the noise and the model.
        todo: of `walks`.
        reference: of `Start.reference`, for the same noise.
    """
    rows = [
        Row(
            walk.solver,
            walk.spacing,
            walk.budget,
            walk.sampler.calls(walk.levels),
            len(walk.levels) - 1,
            distance(start.end(walk.sampler, walk.levels), reference["whole"]),
        )
        for walk in todo
    ]
    usual = start.model.sampling
    return Distances(
        (usual.sampler, usual.spacing),
        distance(reference["half"], reference["whole"]),
        min(REFERENCE_STEPS, start.model.schedule.T),
        start.count,
        start.seed,
        tuple(rows),
    )


def distance(one: Tensor, other: Tensor) -> float:
    """The root mean square over all pixels; infinite for what is no number."""
    found = float((one - other).square().mean().sqrt())
    return found if math.isfinite(found) else math.inf
