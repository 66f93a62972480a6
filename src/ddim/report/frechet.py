"""The figure of DDIM's Table 1: Fréchet distance against steps, a curve for each eta, a panel for each ladder."""

from itertools import product
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from ddim.report import dots
from ddim.report.names import ETA
from ddim.report.quality import Quality, quality
from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, GREEN, ORANGE, PURPLE, RED, WIDTH, Sheet, log_axis

LOOKS = {"0": (BLUE, "o"), "0.2": (GREEN, "s"), "0.5": (PURPLE, "D"), "1": (ORANGE, "^"), "hat": (RED, "X")}
LEFT, TOP, RIGHT, GAP, HIGH, BETWEEN = 170, 190, 40, 70, 540, 190  # pixels; BETWEEN: one panel and the next below
APART = 1.045  # from one eta to the next at the same S, so that their bars do not hide one another


def frechet(record: Record) -> Figure | None:
    """A row of panels at each number of images: distances of unequal numbers do not compare."""
    found = quality(record)
    if found is None:
        return None
    columns = len(found.spacings)
    sheet = Sheet(TOP + len(found.counts) * (HIGH + BETWEEN) - 70)
    width = (WIDTH - LEFT - RIGHT - (columns - 1) * GAP) / columns
    for (i, count), (j, spacing) in product(enumerate(found.counts), enumerate(found.spacings)):
        axes = sheet.axes(LEFT + j * (width + GAP), TOP + i * (HIGH + BETWEEN), width, HIGH)
        _panel(axes, found, spacing, count)
        axes.set_ylabel("Fréchet distance" if j == 0 else None)
        axes.tick_params(labelleft=j == 0)
    handles: list[Any] = [
        Line2D([], [], color=LOOKS[eta][0], marker=LOOKS[eta][1], ms=6, lw=1.8, label=ETA[eta])
        for eta in found.etas
    ]
    handles.append(Patch(color=FAINT, alpha=0.2, lw=0, label="as many real images"))
    place = (LEFT / WIDTH, 1 - 55 / sheet.height)
    options = {"loc": "center left", "fontsize": 11, "borderaxespad": 0, "columnspacing": 1.6}
    sheet.figure.legend(handles=handles, bbox_to_anchor=place, ncols=len(handles), **options)
    return sheet.figure


def _panel(axes: Any, found: Quality, spacing: str, count: int) -> None:
    floor = found.floors[count]
    axes.axhspan(floor.low, floor.high, color=FAINT, alpha=0.2, lw=0)
    axes.axhline(floor.value, color=FAINT, lw=1.2, ls=(0, (4, 2)))
    for i, eta in enumerate(found.etas):
        points = {S: found.at((spacing, S, eta), count) for S in found.steps}
        there = {S: one for S, one in points.items() if one is not None}
        shift = APART ** (i - (len(found.etas) - 1) / 2)
        dots.curve(axes, [S * shift for S in there], list(there.values()), *LOOKS[eta])
    axes.set_title(f"{spacing} ladder, {count:,} images each", loc="left", fontsize=11.5, weight="bold", pad=8)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(found.steps, [f"{S:,}" for S in found.steps])
    log_axis(axes.yaxis, axes.set_yscale)
    every = [found.at(place, count) for place in found.rows]  # of both ladders: their panels share the axis
    numbers = [number for one in (*every, floor) if one is not None for number in one]
    axes.set(xlabel="steps $S$", xlim=(found.steps[0] / 1.35, found.steps[-1] * 1.35), ylim=dots.limits(numbers))
