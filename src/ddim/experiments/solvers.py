"""How near each solver comes to the end of 1,000 steps of DDIM, for a given number of network calls."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from ddim import samplers, timesteps
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.experiments import base
from ddim.experiments.base import Cell, Drawing, Experiment, Samples, Setup, Table, register
from ddim.experiments.cost import affordable, batch_seconds, cut
from ddim.files import read_tensors, tensors_header, write_bytes
from ddim.forward import start
from ddim.level import Level, Prediction
from ddim.model_io import fingerprint
from ddim.noise import ImageNoise
from ddim.plots.canvas import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, Panels, describe, literal, log_scales
from ddim.plots.numbers import small
from ddim.samplers import DDIM, Sampler, trajectory
from ddim.text import counted

BUDGETS = (5, 8, 10, 20, 50)  # network calls
COUNT, SEED = 8, 0  # images of the experiment
REFERENCE_STEPS = 1000
REFERENCE = Path("samples/endpoint.safetensors")
COLOURS = {"trailing": BLUE, "leading": ORANGE, "linear": GREEN, "quadratic": PURPLE, "log-snr": "#c2347f"}


@dataclass(frozen=True)
class Row:
    """One solver with one spacing, and the distance of its images to the reference."""

    solver: str
    spacing: str
    budget: base.Positive  # the allowed network calls
    calls: base.Positive
    steps: base.Positive
    distance: base.NonNegative | None  # root mean square over pixels from -1 to 1; None if the solver diverged

    @property
    def error(self) -> float:
        """The distance; infinite if the solver diverged."""
        return math.inf if self.distance is None else self.distance


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """All distances; those below `floor`, about the reference's own error, mean little."""

    usual: tuple[str, str]  # the model's default solver and spacing
    floor: base.NonNegative  # the distance of half as many steps of DDIM from the reference
    reference_steps: base.Positive
    count: base.Positive
    rows: Annotated[tuple[Row, ...], base.NON_EMPTY]
    seed: int = SEED
    suggestions: tuple[str, ...] = ()

    @property
    def solvers(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row.solver for row in self.rows))

    @property
    def spacings(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row.spacing for row in self.rows))

    @property
    def budgets(self) -> list[int]:
        """Ascending."""
        return sorted({row.budget for row in self.rows})

    def curve(self, solver: str, spacing: str) -> tuple[list[int], list[float]]:
        """Return the budgets and distances of one solver with one spacing."""
        rows = [row for row in self.rows if (row.solver, row.spacing) == (solver, spacing)]
        return [row.budget for row in rows], [row.error for row in rows]

    def best(self, budget: int, solver: str | None = None) -> Row | None:
        """Return the row with the smallest distance for a budget, of one solver or of all; None if none fits."""
        rows = [row for row in self.rows if row.budget == budget and solver in (None, row.solver)]
        return min(rows, key=lambda row: row.error, default=None)

    def suggest(self) -> Iterator[str]:
        """Yield for each budget what to choose, next to the model's default."""
        for budget in self.budgets:
            best = self.best(budget)
            assert best is not None
            calls = counted(budget, "call")
            text = f"With {calls}: {best.solver} with {best.spacing} spacing, distance {best.error:.3f}"
            now = [row.error for row in self.rows if (row.solver, row.spacing, row.budget) == (*self.usual, budget)]
            if now and self.usual != (best.solver, best.spacing):
                text += f"; {self.usual[0]} with {self.usual[1]}, the model's default: {now[0]:.3f}"
            yield text + "."

    def lines(self) -> Iterator[str]:
        """Yield a table with the best spacing of each solver for each budget, then the suggestions."""
        width = max(map(len, [*self.solvers, "solver"]))
        yield "  ".join(["solver".ljust(width), *(counted(budget, "call").rjust(18) for budget in self.budgets)])
        for solver in self.solvers:
            best = [self.best(budget, solver) for budget in self.budgets]
            cells = ("-" if one is None else f"{one.error:.3f} {one.spacing:>10}" for one in best)
            yield "  ".join([solver.ljust(width), *(cell.rjust(18) for cell in cells)])
        yield f"Distances below about {self.floor:.3f}, the error of the reference itself, mean little."
        yield from self.suggest()


@register("solvers")
class Solvers(Experiment[Result]):
    """Compare all deterministic solvers with all spacings, as `ddim verify RUN` does.

    A limit of time leaves out the largest budgets.
    """

    title = "Other solvers of the same equation"
    reference = "DDIM, section 4.3 and Eq. 14"
    command = base.VERIFY
    place = 90
    share = 0.6
    needs_images = False
    result_type = Result
    caption = (
        "DDIM is Euler’s method for an ordinary differential equation (DDIM, Eq. 14). Methods of higher order come "
        "nearer to its exact solution with equally many network calls. Each panel shows one method; the distance "
        "is a root mean square over pixels from −1 to 1. Inside the grey band the error of the reference itself "
        "matters."
    )

    def calls(self, model: Denoiser) -> float:
        return float(COUNT * network_calls(model, trials(model)))

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model, weights = setup.model, fingerprint(setup.folder)
        start = Start(model, COUNT, SEED)
        known = load_reference(setup.folder, weights, start)
        call = batch_seconds(model, COUNT, seconds)
        choices = [BUDGETS[:n] for n in range(len(BUDGETS), 0, -1)]
        calls = partial(network_calls, model, reference=known is None)
        budgets = affordable(choices, lambda one: call * calls(trials(model, one)), seconds)
        result = measure(start, trials(model, budgets), known or keep_reference(setup.folder, weights, start))
        return replace(result, cut=cut(seconds, [f"to {budgets[-1]} calls"] if budgets != BUDGETS else [])), {}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        if len(result.budgets) < 2:
            return "One number of network calls makes no curve."
        return draw(result)

    def tables(self, result: Result) -> list[Table]:
        """List the best spacing of each solver for each budget."""

        def cell(best: Row | None) -> Cell:
            if best is None or best.distance is None:
                return base.EMPTY
            return Cell(f"{small(best.distance)} {best.spacing}", best.distance)

        best = {solver: [result.best(budget, solver) for budget in result.budgets] for solver in result.solvers}
        rows = [[Cell(solver), *map(cell, row)] for solver, row in best.items()]
        note = (
            f"The distance to the end of {result.reference_steps:,} steps of DDIM from the same noise, with the best "
            f"spacing. Distances below about {small(result.floor)}, the error of the reference itself, mean little."
        )
        return [Table(["solver", *(counted(budget, "call") for budget in result.budgets)], rows, note=note)]


def draw(result: Result) -> Figure:
    """Return the figure: a panel for each solver with its distance against network calls."""
    panels = Panels(len(result.solvers))
    values = [row.distance for row in result.rows if row.distance]
    limits = (min(values, default=0.01) / 1.5, max(values, default=1.0) * 1.5)
    usual = result.curve(*result.usual)
    for solver, axes in zip(result.solvers, panels.axes, strict=True):
        describe(axes, solver)
        axes.axhspan(limits[0], result.floor, color=FAINT, alpha=0.12, lw=0)
        axes.plot(*usual, "--", color=FAINT, lw=1.6, zorder=1)
        for spacing in result.spacings:
            color, style = COLOURS.get(spacing, INK), "o:" if spacing == "linear" else "o-"
            axes.plot(*result.curve(solver, spacing), style, color=color, ms=4, lw=1.6)
        log_scales(axes, result.budgets, limits)
    panels.label("network calls", "distance")
    keys = [(COLOURS.get(one, INK), "o:" if one == "linear" else "o-", literal(one)) for one in result.spacings]
    keys.append((FAINT, "--", literal(f"{result.usual[0]}, {result.usual[1]}: the default")))
    title = f"Distance to the end of {result.reference_steps:,} steps of DDIM from the same noise"
    panels.legend(title, keys)
    return panels.canvas.figure


@dataclass(frozen=True)
class Trial:
    """One solver, spacing and budget to measure."""

    solver: str
    spacing: str
    budget: int
    sampler: Sampler
    levels: Sequence[Level]


def trials(
    model: Denoiser,
    budgets: Sequence[int] = BUDGETS,
    solvers: Sequence[str] | None = None,
    spacings: Sequence[str] | None = None,
) -> list[Trial]:
    """Return for each deterministic solver, spacing and budget (network calls) the trial with the most steps.

    Raises:
        UserError: an unknown name, a stochastic solver, or a budget that is not above 0.
    """
    if not budgets or min(budgets) < 1:
        raise UserError(f"The numbers of network calls must be above 0; got {', '.join(map(str, budgets))}.")
    schedule, found = model.schedule, []

    @cache
    def levels_of(spacing: str, S: int) -> list[Level]:
        return timesteps.levels(schedule, timesteps.timesteps(schedule, S, spacing))

    for solver in samplers.names() if solvers is None else solvers:
        sampler = samplers.get(solver)
        if sampler.stochastic and solvers is None:
            continue
        if sampler.stochastic:
            raise UserError(f"{solver} draws noise, so it has no endpoint to compare; leave it out of --solvers.")
        for spacing in timesteps.compared() if spacings is None else spacings:
            for budget in sorted(set(budgets)):
                fitting = (levels_of(spacing, S) for S in range(min(budget, schedule.N), 0, -1))
                longest = next((levels for levels in fitting if sampler.calls(levels) <= budget), None)
                if longest is not None:
                    found.append(Trial(solver, spacing, budget, samplers.get(solver), longest))
    if not found:
        raise UserError("No solver takes a step with so few network calls; allow more with --calls.")
    return found


class Start:
    """The noise that all trials start from, and the model; classes in turn, as in `Denoiser.sample`.

    `tick` is called after each network call.
    """

    def __init__(self, model: Denoiser, count: int, seed: int = 0, tick: Callable[[], object] = lambda: None) -> None:
        if count < 1:
            raise UserError(f"Ask for at least 1 image; got {count}.")
        self.model, self.count, self.seed, self.tick = model, count, seed, tick
        empty = torch.empty(count, *model.shape, device=model.device, dtype=model.image_dtype)
        self.noise = ImageNoise(seed, range(count))(empty)
        self._denoise = model.denoise(None if model.classes is None else torch.arange(count) % model.classes)

    def denoise(self, x: Tensor, at: Level) -> Prediction:
        """Call the model, then `tick`."""
        prediction = self._denoise(x, at)
        self.tick()
        return prediction

    @torch.no_grad()
    def end(self, sampler: Sampler, levels: Sequence[Level]) -> Tensor:
        """Return the images at the end of a trajectory, on the CPU, in [-1, 1]."""
        *_, x = trajectory(sampler, self.denoise, start(levels[0], self.noise), levels, schedule=self.model.schedule)
        return x.float().cpu().clamp(-1, 1)

    def reference(self) -> dict[str, Tensor]:
        """Return the images of DDIM in 1,000 steps, or T if that is less, as "whole", in half as many as "half"."""
        schedule = self.model.schedule
        whole = min(REFERENCE_STEPS, schedule.N)
        steps = {"whole": whole, "half": max(1, whole // 2)}
        return {
            name: self.end(DDIM(), timesteps.levels(schedule, timesteps.timesteps(schedule, S)))
            for name, S in steps.items()
        }


def network_calls(model: Denoiser, todo: Sequence[Trial], reference: bool = True) -> int:
    """Return the network calls of some trials, and of the reference if asked for."""
    T = min(REFERENCE_STEPS, model.schedule.N)
    return sum(trial.sampler.calls(trial.levels) for trial in todo) + (T + max(1, T // 2) if reference else 0)


def measure(start: Start, todo: Sequence[Trial], reference: dict[str, Tensor]) -> Result:
    """Run the trials, and measure the distance of each to the reference, from `start.reference()`."""
    rows = []
    for trial in todo:
        away = distance(start.end(trial.sampler, trial.levels), reference["whole"])
        calls, steps = trial.sampler.calls(trial.levels), len(trial.levels) - 1
        rows.append(Row(trial.solver, trial.spacing, trial.budget, calls, steps, away))
    usual, floor = start.model.sampling, distance(reference["half"], reference["whole"])
    result = Result(
        usual=(usual.sampler, usual.spacing),
        floor=math.inf if floor is None else floor,
        reference_steps=min(REFERENCE_STEPS, start.model.schedule.N),
        count=start.count,
        seed=start.seed,
        rows=tuple(rows),
    )
    return replace(result, suggestions=tuple(result.suggest()))


def distance(one: Tensor, other: Tensor) -> float | None:
    """Return the root mean square over all pixels; None if it is not finite."""
    rms = float((one - other).square().mean().sqrt())
    return rms if math.isfinite(rms) else None


def load_reference(folder: Path, weights: str, start: Start) -> dict[str, Tensor] | None:
    """Return the reference that a run folder holds for these weights and this noise; None if there is none."""
    with suppress(OSError, SafetensorError, KeyError):  # missing or damaged
        if tensors_header(folder / REFERENCE).metadata == _about(weights, start):
            tensors = read_tensors(folder / REFERENCE)
            return {name: tensors[name] for name in ("whole", "half")}
    return None


def keep_reference(folder: Path, weights: str, start: Start) -> dict[str, Tensor]:
    """Compute the reference, write it into a run folder and return it."""
    reference = start.reference()
    write_bytes(folder / REFERENCE, to_bytes(reference, metadata=_about(weights, start)))
    return reference


def _about(weights: str, start: Start) -> dict[str, str]:
    return {"weights": weights, "count": str(start.count), "seed": str(start.seed)}
