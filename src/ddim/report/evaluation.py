"""The figure of the evaluation: each figure of the samples with its interval, beside what real images come to."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ddim.report import dots
from ddim.report.measured import Measured, floor, measured
from ddim.report.names import FIGURES
from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, WIDTH, Sheet

SHARES = ("precision", "recall", "density", "coverage", "agreement")  # from 0 to about 1, and the more the better
TOP, LEFT, RIGHT, HIGH, PITCH = 130, 560, 430, 80, 175  # pixels; the words stand left and right of the axes


def evaluation(record: Record) -> Figure | None:
    """A strip for each figure; those that are shares have the same axis."""
    facts = record.results.get("evaluation")
    if facts is None:
        return None
    figures = facts["figures"]
    order = [name for name in FIGURES if name in figures] + [name for name in figures if name not in FIGURES]
    sheet = Sheet(TOP + len(order) * PITCH)
    shares = [number for name in SHARES if name in figures for number in measured(figures[name])]
    for i, name in enumerate(order):
        one, real = measured(figures[name]), floor(figures[name])
        axes = sheet.axes(LEFT, TOP + i * PITCH, WIDTH - LEFT - RIGHT, HIGH)
        numbers = [*one, *(real or ())]
        ends = (0.0, max(1.0, *shares)) if name in SHARES else (min(0.0, *numbers), max(numbers))
        _strip(axes, one, real, ends)
        middle = TOP + i * PITCH + HIGH / 2
        sheet.text(LEFT - 45, middle - 14, FIGURES.get(name, name), ha="right", fontsize=12)
        better = "the more the better" if name in SHARES else "the less the better"
        if name in FIGURES:
            sheet.text(LEFT - 45, middle + 26, better, ha="right", fontsize=9, color=FAINT)
        sheet.text(WIDTH - RIGHT + 45, middle, f"{one}", ha="left", fontsize=12)
    handles = [
        Line2D([], [], color=BLUE, marker="o", ms=8, lw=5, alpha=0.8, label="samples, with the 95% interval"),
        Patch(color=FAINT, alpha=0.3, lw=0, label="real images"),
    ]
    place = (LEFT / WIDTH, 1 - 55 / sheet.height)
    sheet.figure.legend(handles=handles, bbox_to_anchor=place, ncols=2, loc="center left", borderaxespad=0)
    return sheet.figure


def _strip(axes: Any, one: Measured, real: Measured | None, ends: tuple[float, float]) -> None:
    if real is not None:
        axes.axvspan(real.low, real.high, color=FAINT, alpha=0.3, lw=0)
        axes.axvline(real.value, color=FAINT, lw=1.5)
    dots.across(axes, 0, one, BLUE)
    room = 0.05 * (ends[1] - ends[0]) or 1.0
    axes.set(xlim=(ends[0] - room, ends[1] + room), ylim=(-1, 1), yticks=())
    axes.spines["left"].set_visible(False)
