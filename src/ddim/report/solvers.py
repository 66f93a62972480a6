"""Figures of `ddim verify`: error against steps in closed form, distance against network calls on a model."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, RED, WIDTH, Sheet, literal
from ddim.verify import Verdict
from ddim.verify.distances import Distances

COLUMNS = (5, 4)  # the one that leaves fewer places empty
LEFT, TOP, RIGHT, GAP, ACROSS = 150, 190, 40, 30, 300  # pixels; ACROSS: height of a panel
BETWEEN = 90  # rows of panels
PROBLEMS = {"Gaussian": BLUE, "mixture": ORANGE}
LADDERS = {"trailing": BLUE, "leading": ORANGE, "linear": GREEN, "quadratic": PURPLE, "log-snr": "#c2347f"}


def orders(verdicts: Sequence[Verdict]) -> Figure:
    """A panel for each solver: its error in closed form as the steps shrink, beside the order that it states."""
    errors = [e for one in verdicts for curve in one.curves for e in curve.errors if 1e-13 < e < math.inf]
    sheet, panels = _panels(len(verdicts))
    low, high = min(errors, default=1e-6) / 4, max(errors, default=1.0) * 4
    for one, axes in zip(verdicts, panels, strict=True):
        _words(axes, one.solver, f"order {one.order}, {_calls(one)}", None if one.passed else "a proof fails")
        for curve in one.curves:
            style = "o-" if curve.spacing == "stretched" else "s:"
            axes.plot(curve.steps, curve.errors, style, color=PROBLEMS[curve.problem], ms=4, lw=1.6)
        first = max(curve.errors[0] for curve in one.curves)
        steps = one.curves[0].steps
        guide = [2.5 * first * (steps[0] / S) ** one.order for S in steps]
        axes.plot(steps, guide, color=FAINT, lw=1.2, ls=(0, (4, 2)))
        _log(axes, steps, (low, high))
    _label(sheet, panels, "steps", "error at the end")
    keys = [(BLUE, "o-", "Gaussian"), (ORANGE, "o-", "mixture of two"), (INK, "o-", "steps stretched in log-SNR")]
    keys += [(INK, "s:", "steps even in √t"), (FAINT, "--", "slope of the stated order")]
    _legend(sheet, "Error against steps, beside the stated order", keys)
    return sheet.figure


def kept(record: Record) -> Distances | None:
    """What `ddim verify RUN` has measured; None if it has not, or if that is of another kind."""
    try:
        found = Distances.read(record.results["solvers"])
    except (KeyError, TypeError):
        return None
    numbers = all(isinstance(row.distance, float) for row in found.rows)  # infinite for a walk that went astray
    return found if numbers and len(found.usual) == 2 else None


def measured(record: Record) -> Figure | None:
    """The distances of a run."""
    found = kept(record)
    return None if found is None else distances(found)


def distances(found: Distances) -> Figure:
    """A panel for each solver: how far it ends from the 1,000-step endpoint, against network calls."""
    sheet, panels = _panels(len(found.solvers))
    values = [row.distance for row in found.rows if 0 < row.distance < math.inf]
    limits = (min(values, default=0.01) / 1.5, max(values, default=1.0) * 1.5)
    usual = found.curve(*found.usual)
    for solver, axes in zip(found.solvers, panels, strict=True):
        _words(axes, solver)
        axes.axhspan(limits[0], found.floor, color=FAINT, alpha=0.12, lw=0)
        axes.plot(*usual, "--", color=FAINT, lw=1.6, zorder=1)
        for spacing in found.spacings:
            color, style = LADDERS.get(spacing, INK), "o:" if spacing == "linear" else "o-"
            axes.plot(*found.curve(solver, spacing), style, color=color, ms=4, lw=1.6)
        _log(axes, found.budgets, limits)
    _label(sheet, panels, "network calls", "distance")
    keys = [(LADDERS.get(one, INK), "o:" if one == "linear" else "o-", literal(one)) for one in found.spacings]
    keys.append((FAINT, "--", literal(f"{found.usual[0]}, {found.usual[1]}: the default")))
    title = f"Distance to the end of {found.reference_steps:,} steps of DDIM from the same noise"
    _legend(sheet, title, keys)
    return sheet.figure


def _panels(count: int) -> tuple[Sheet, list[Any]]:
    """A sheet with equal panels, row by row."""
    columns = _columns(count)
    rows = math.ceil(count / columns)
    sheet = Sheet(TOP + rows * (ACROSS + BETWEEN) + 60)
    width = (WIDTH - LEFT - RIGHT - (columns - 1) * GAP) / columns
    return sheet, [
        sheet.axes(LEFT + (i % columns) * (width + GAP), TOP + (i // columns) * (ACROSS + BETWEEN), width, ACROSS)
        for i in range(count)
    ]


def _columns(count: int) -> int:
    return min(COLUMNS, key=lambda columns: -count % columns)


def _words(axes: Any, name: str, facts: str = "", failure: str | None = None) -> None:
    axes.set_title(literal(name), loc="left", fontsize=10, color=RED if failure else INK, weight="bold", pad=5)
    options = {"transform": axes.transAxes, "fontsize": 7.5, "color": RED if failure else FAINT}
    axes.text(0.03, 0.05, failure or facts, ha="left", va="bottom", **options)


def _calls(one: Verdict) -> str:
    return "1 call a step" if one.calls == 1 else f"{one.calls:.3g} calls a step"


def _log(axes: Any, ticks: Sequence[int], limits: tuple[float, float]) -> None:
    """Both axes logarithmic, with the ticks that are measured."""
    axes.set(xscale="log", yscale="log", ylim=limits, xlim=(ticks[0] / 1.25, ticks[-1] * 1.25))
    axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(ticks), [f"{tick}" for tick in ticks], fontsize=8)
    decades = math.log10(limits[1] / limits[0])
    axes.yaxis.set_major_locator(LogLocator(numticks=6) if decades > 3 else LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if decades <= 3:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(labelsize=8)


def _label(sheet: Sheet, panels: Sequence[Any], x: str, y: str) -> None:
    """Axis labels at the left and at the foot only."""
    columns = _columns(len(panels))
    for i, axes in enumerate(panels):
        if i % columns == 0:
            axes.set_ylabel(y, fontsize=9)
        else:
            axes.tick_params(labelleft=False)
        if i + columns >= len(panels):
            axes.set_xlabel(x, fontsize=9)


def _legend(sheet: Sheet, title: str, keys: Sequence[tuple[str, str, str]]) -> None:
    """The title and below it a line of keys: (colour, marker and line style, words)."""
    sheet.text(LEFT, 45, title, ha="left", fontsize=13, weight="bold")
    handles = [
        Line2D([], [], color=color, ls=style.lstrip("os"), marker=style.rstrip("-:"), ms=4, lw=1.6, label=words)
        for color, style, words in keys
    ]
    place = (LEFT / WIDTH, 1 - 110 / sheet.height)
    options = {"loc": "center left", "fontsize": 9, "borderaxespad": 0}
    sheet.figure.legend(handles=handles, bbox_to_anchor=place, ncols=len(keys), **options)
