"""DDIM's Table 1: the Fréchet distance for each S and eta, with both spacings, and the claims on few steps."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product, takewhile
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ddim import progress
from ddim.denoiser import Denoiser
from ddim.evaluate.features import features
from ddim.evaluate.real import of_splits
from ddim.experiments import table1_grid
from ddim.experiments.base import Cell, Claim, Drawing, Experiment, Samples, Setup, Table, register, root
from ddim.experiments.cost import affordable, batch_seconds, cut
from ddim.experiments.table1_grid import SEED, Grid, Result, Score, cells, changes
from ddim.plots import canvas as plot
from ddim.plots.canvas import BLUE, FAINT, GREEN, ORANGE, PURPLE, RED, WIDTH, Canvas

FEWER = 10  # times fewer steps than T: "10x to 50x faster" in DDIM's abstract
SMALL = (10, 20)  # numbers of steps that count as few
TENTH = 0.1  # of the distance of S = T: the excess up to which a run counts as equally good

ETA = {"0": "η = 0", "0.2": "η = 0.2", "0.5": "η = 0.5", "1": "η = 1", "hat": "σ̂"}
LOOKS = {"0": (BLUE, "o"), "0.2": (GREEN, "s"), "0.5": (PURPLE, "D"), "1": (ORANGE, "^"), "hat": (RED, "X")}
LEFT, TOP, RIGHT, GAP, HEIGHT, BETWEEN = 170, 190, 40, 70, 540, 190  # pixels; BETWEEN: one panel and the next below
APART = 1.045  # factor from one eta to the next at the same S, so that their bars do not overlap


@register("table1")
class Table1(Experiment[Result]):
    """Sample the cells of the grid and measure their distances to real images, the held-out ones if they suffice.

    A limit of time cuts S, eta, the spacings and the number of images.
    """

    title = "Quality against steps"
    reference = "DDIM, Table 1"
    place = 40
    share = 2.0
    runs_last = True
    result_type = Result
    caption = (
        "The Fréchet distance between Gaussians fitted to the features of samples and of real images, ‖μ − μ′‖² + "
        f"tr(Σ + Σ′ − 2 {root('ΣΣ′')}) (arXiv 1706.08500, Eq. 6); lower is better. η scales the noise that a step "
        f"adds, σ = η {root('(1 − ᾱ<sub>s</sub>) / (1 − ᾱ<sub>t</sub>)')} "
        f"{root('1 − ᾱ<sub>t</sub> / ᾱ<sub>s</sub>')} (DDIM, Eq. 16); σ̂ is the larger one of DDPM, "
        f"{root('1 − ᾱ<sub>t</sub> / ᾱ<sub>s</sub>')} (appendix D.3). Linear spacing uses the times ⌊<i>c i</i>⌋, "
        "quadratic spacing ⌊<i>c i</i>²⌋ (appendix D.2). Bars are 95% intervals by resampling; the band holds 95% "
        "of draws of equally many real images. Fewer images have a larger distance, so only distances of equally "
        "many images can be compared."
    )

    def calls(self, model: Denoiser) -> float:
        return float(sum(cell.steps * cell.count for cell in cells(table1_grid.EXTENTS[0], model.schedule.N)))

    def run(self, setup: Setup, seconds: float | None = None) -> tuple[Result, Samples]:
        model, T = setup.model, setup.model.schedule.N
        real = of_splits(*setup.images)
        sampled, call = Grid(setup, real.reference), batch_seconds(model, 64, seconds) / 64
        extent = affordable(table1_grid.EXTENTS, lambda one: call * sum(map(sampled.calls, cells(one, T))), seconds)
        grid = cells(extent, T)
        images, seconds_each = {}, {}
        with progress.bar(total=sum(map(sampled.calls, grid)), desc="table 1", unit="call") as bar:
            for cell in grid:
                bar.set_postfix_str(f"{cell.spacing}, S = {cell.steps}, eta = {cell.eta}")
                cost = sampled.calls(cell)
                images[cell], seconds_each[cell] = sampled.sample(cell)
                bar.update(cost)
        score = Score(real)
        with progress.hidden():
            seen = {cell: features(score.extractor, x) for cell, x in images.items()}
        whole = next(x for cell, x in seen.items() if cell.steps == T and cell.eta == "0")[: extent.few]
        return Result(
            extractor=score.extractor.name,
            about=score.extractor.about,
            seed=SEED,
            count=extent.count,
            few=extent.few,
            reference_count=len(score.reference),
            floor=score.floor(extent.count),
            few_floor=score.floor(extent.few),
            classes=sampled.classes,
            reference=real.facts(),
            rows=tuple(score.row(cell, seconds_each[cell], x, whole) for cell, x in seen.items()),
            cut=cut(seconds, changes(table1_grid.EXTENTS[0], extent, T)),
        ), {}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        """Draw a panel for each spacing; one row of panels for each number of images."""
        columns = len(result.spacings)
        canvas = Canvas(TOP + len(result.counts) * (HEIGHT + BETWEEN) - 70)
        width = (WIDTH - LEFT - RIGHT - (columns - 1) * GAP) / columns
        for (i, count), (j, spacing) in product(enumerate(result.counts), enumerate(result.spacings)):
            axes = canvas.axes(LEFT + j * (width + GAP), TOP + i * (HEIGHT + BETWEEN), width, HEIGHT)
            _panel(axes, result, spacing, count)
            axes.set_ylabel("Fréchet distance" if j == 0 else None)
            axes.tick_params(labelleft=j == 0)
        handles: list[Any] = [
            Line2D([], [], color=LOOKS[eta][0], marker=LOOKS[eta][1], ms=6, lw=1.8, label=ETA[eta])
            for eta in result.etas
        ]
        handles.append(Patch(color=FAINT, alpha=0.2, lw=0, label="equally many real images"))
        canvas.legend(handles, LEFT, 55, fontsize=11, columnspacing=1.6)
        return canvas.figure

    def tables(self, result: Result) -> list[Table]:
        """As DDIM's Table 1: S across, eta down; one table for each spacing and each number of images."""
        head, tables = ["σ", *(f"S = {S:,}" for S in result.steps)], []
        for count, spacing in product(result.counts, result.spacings):
            rows = [
                [Cell(ETA[eta], i), *(Cell.estimate(result.at((spacing, S, eta), count)) for S in result.steps)]
                for i, eta in enumerate(result.etas)
            ]
            tables.append(Table(head, rows, f"{spacing.capitalize()} spacing, {count:,} images each"))
        real = " and ".join(f"{count:,} real images have {result.floors[count]}" for count in result.counts)
        to = f"Fréchet distance to {result.reference_count:,} images, ± half of the 95% interval"
        drawn = f" Classes are drawn {result.classes}." if result.classes else ""
        notice = f" {result.reference['notice']}" if "notice" in result.reference else ""
        note = f"{to}; {real}.{drawn}{notice} {result.about}"
        return [*tables[:-1], replace(tables[-1], note=note)]

    def claims(self, result: Result | None, T: int) -> list[Claim]:
        return [fewer_steps(result, T), eta_zero(result, T), sigma_hat(result, T)]


def _panel(axes: Any, result: Result, spacing: str, count: int) -> None:
    floor = result.floors[count]
    axes.axhspan(floor.low, floor.high, color=FAINT, alpha=0.2, lw=0)
    axes.axhline(floor.value, color=FAINT, lw=1.2, ls=(0, (4, 2)))
    for i, eta in enumerate(result.etas):
        points = {S: result.at((spacing, S, eta), count) for S in result.steps}
        known = {S: one for S, one in points.items() if one is not None}
        shift = APART ** (i - (len(result.etas) - 1) / 2)
        plot.curve(axes, [S * shift for S in known], list(known.values()), *LOOKS[eta])
    axes.set_title(f"{spacing} spacing, {count:,} images each", loc="left", fontsize=11.5, weight="bold", pad=8)
    axes.set_xscale("log")
    plot.step_ticks(axes, result.steps, "{:,}")
    plot.log_axis(axes.yaxis, axes.set_yscale)
    every = [result.at(row.place, count) for row in result.rows]  # of both spacings: their panels share the axis
    numbers = [number for one in (*every, floor) if one is not None for number in one.ends]
    xlim = (result.steps[0] / 1.35, result.steps[-1] * 1.35)
    axes.set(xlabel="steps $S$", ylim=plot.log_limits(numbers), xlim=xlim)


def fewer_steps(result: Result | None, T: int) -> Claim:
    """DDIM, abstract and Table 1: with eta = 0 a tenth of the steps, or fewer, are as good as all T.

    A run counts as equally good if its distance is at most 10% above that of S = T, as that of S = 100 is in DDIM's
    Table 1. The excess is measured between images from the same noise, and its whole interval has to be within the
    tenth; beyond it the run is worse, else open. The smallest S that is as good is the one from which on all
    measured S of its spacing are as good. The claim fails only if every S is worse and T / 10 was measured.
    """
    claim = f"With at least {FEWER} times fewer steps than T, DDIM (η = 0) samples as well as with all T."
    spacings = result.spacings if result else []
    whole = next((one for s in spacings if result and (one := result.at((s, T, "0"), result.few))), None)
    steps = [S for S in reversed(result.steps) if S < T] if result else []
    excess = {(S, s): one for s in spacings for S in steps if result and (one := result.excess((s, S, "0")))}
    short = [(S, s) for S, s in excess if FEWER * S <= T]
    if result is None or whole is None or not short:
        return Claim.not_measured(claim, f"η = 0 at S = T = {T:,} and at an S of at most T / {FEWER}")
    tenth = TENTH * whole.value
    by_spacing = [[place for place in excess if place[1] == s] for s in spacings]
    as_good = [list(takewhile(lambda place: excess[place].high <= tenth, places)) for places in by_spacing]
    best = min((places[-1] for places in as_good if places), key=lambda place: place[0], default=None)
    tried = any(FEWER * S == T for S, _ in short)
    worse = all(excess[place].low > tenth for place in short)
    holds = True if best in short else False if tried and worse else None
    S, spacing = best if best is not None and best in short else min(short, key=lambda place: excess[place].value)
    evidence = (
        f"{'' if holds else 'The nearest is '}S = {S} with {spacing} spacing, {T / S:.3g} times fewer than "
        f"T = {T:,}: its Fréchet distance exceeds that of all steps, {whole}, by {excess[S, spacing]}, measured on "
        f"{result.few:,} images each from the same noise; an excess up to a tenth counts as equally good. The "
        f"distance of equally many real images is {result.floors[result.few]}."
    )
    if best is not None and not holds:
        evidence += f" The smallest S that is as good is {best[0]}."
    if not tried and not holds:
        evidence += f" S = {T // FEWER} was not measured."
    return Claim(claim, holds, evidence)


def eta_zero(result: Result | None, T: int) -> Claim:
    """DDIM, Table 1: in few steps eta = 0 is better than eta = 1."""
    return _contest(result, T, "In few steps ({}) DDIM (η = 0) is better than DDPM (η = 1).", "0", "1", SMALL)


def sigma_hat(result: Result | None, T: int) -> Claim:
    """DDIM, Table 1: in few steps sigma-hat, the larger variance of DDPM, is far worse than eta = 1."""
    claim = "In few steps ({}) the larger variance of DDPM, σ̂, is worse than η = 1."
    return _contest(result, T, claim, "1", "hat", SMALL[:1])


def _contest(result: Result | None, T: int, claim: str, better: str, worse: str, steps: Sequence[int]) -> Claim:
    """Whether one eta is better than another at each measured S and spacing, with intervals that do not overlap."""
    places = [(spacing, S) for S in steps if result and S < T for spacing in result.spacings]
    pairs = {at: result.pair((*at, better), (*at, worse)) for at in places if result}
    measured = {place: pair for place, pair in pairs.items() if pair}
    if not measured:
        required = f"{ETA[better]} and {ETA[worse]} at {_and(steps)}"
        return Claim.not_measured(claim.format(_and(steps)), required)
    counts = sorted({count for _, _, count in measured.values()})
    each = [
        f"{one} against {other} at S = {S} ({spacing}{f', {count:,} images each' if len(counts) > 1 else ''})"
        for (spacing, S), (one, other, count) in measured.items()
    ]
    holds = all(one.below(other) for one, other, _ in measured.values())
    fails = any(other.below(one) for one, other, _ in measured.values())
    images = f", of {counts[0]:,} images each" if len(counts) == 1 else ""
    evidence = f"Fréchet distance of {ETA[better]} against {ETA[worse]}{images}: {'; '.join(each)}."
    claim = claim.format(_and([S for S in steps if any(place[1] == S for place in measured)]))
    return Claim(claim, True if holds else False if fails else None, evidence)


def _and(steps: Sequence[int]) -> str:
    return f"S = {' and '.join(map(str, steps))}"
