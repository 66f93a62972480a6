"""The figure of the loss by noise level: held-out against trained images, and how the gap compares with chance."""

import math
from typing import Any

from matplotlib.figure import Figure

from ddim.report.numbers import epochs
from ddim.report.overfit import SURE, gap
from ddim.report.reading import BINS, LEVELS
from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, ORANGE, Sheet, log_axis

FAINTER = 4  # earlier lines, at most
FACTOR = 4.0  # from bottom to top at least, so that there are numbers at the axis


def levels(record: Record) -> Figure | None:
    """Above the loss in ten equal parts of [0, T], the last and some earlier; below the gap between the sets."""
    if not record.levels:
        return None
    *before, last = record.levels
    T = record.model.schedule.T
    edges = [T * i / BINS for i in range(BINS + 1)]
    middles = [T * (i + 0.5) / BINS for i in range(BINS)]
    earlier = _halvings(before)

    sheet = Sheet(1250)
    axes = sheet.axes(190, 50, 1750, 720)
    for i, line in enumerate(earlier):
        axes.plot(middles, line[LEVELS[0]], color=BLUE, lw=1.2, alpha=0.2 + 0.3 * (i + 1) / len(earlier))
    if earlier:
        when = ", ".join(epochs(line["epoch"]) for line in earlier)
        axes.plot([], [], color=BLUE, lw=1.2, alpha=0.4, label=f"held-out images, after {when} epochs")
    for name, colour, label in ((LEVELS[1], ORANGE, "training images"), (LEVELS[0], BLUE, "held-out images")):
        axes.plot(middles, last[name], "o-", color=colour, lw=2.4, ms=6, label=f"{label}, now")
    log_axis(axes.yaxis, axes.set_yscale)
    drawn = [loss for line in (*earlier, last) for name in LEVELS for loss in line[name]]
    middle, half = math.sqrt(min(drawn)) * math.sqrt(max(drawn)), math.sqrt(max(drawn) / min(drawn))
    half = max(half * 1.2, math.sqrt(FACTOR))
    axes.set(ylabel="loss", xlim=(0, T), xticks=edges, ylim=(middle / half, middle * half))
    axes.tick_params(labelbottom=False)
    axes.legend(fontsize=11)
    _gap(sheet.axes(190, 830, 1750, 300), last, middles, edges)
    return sheet.figure


def _gap(axes: Any, line: dict[str, Any], middles: list[float], edges: list[float]) -> None:
    """By how much more held-out images lose, and how far chance alone takes one level."""
    found = gap(line)
    low, high = (100 * math.expm1(side * SURE * found.noise) for side in (-1, 1))
    axes.axhspan(low, high, color=FAINT, alpha=0.15, lw=0)
    corner = {"textcoords": "offset points", "ha": "right", "va": "top"}
    axes.annotate("chance", (edges[-1], high), (-8, -7), color=FAINT, **corner)
    axes.axhline(0, color=FAINT, lw=1)
    axes.bar(middles, [100 * math.expm1(log) for log in found.logs], 0.5 * (edges[1] - edges[0]), color=BLUE)
    axes.set(xlabel="time $t$", ylabel="held-out\nabove training, %", xlim=(edges[0], edges[-1]), xticks=edges)


def _halvings(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the lines those at a half of the way, a quarter, an eighth and a sixteenth, in order."""
    places = {len(lines) >> i for i in range(1, FAINTER + 1)} if lines else set()
    return [lines[i] for i in sorted(places)]
