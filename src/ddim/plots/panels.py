"""Small panels of equal size, one for each solver, on one canvas."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from ddim.plots.canvas import FAINT, INK, RED, WIDTH, Canvas, literal

COLUMNS = (5, 4)  # the one that leaves fewer places empty is used
LEFT, TOP, RIGHT, GAP, HEIGHT = 150, 190, 40, 30, 300  # pixels; HEIGHT: of a panel
BETWEEN = 90  # pixels between rows of panels


class Panels:
    """A canvas with equal panels, row by row, with logarithmic axes.

    Args:
        count: number of panels.

    Attributes:
        canvas: holds the panels.
        axes: one for each panel.
    """

    def __init__(self, count: int) -> None:
        self._columns = min(COLUMNS, key=lambda columns: -count % columns)
        rows = math.ceil(count / self._columns)
        self.canvas = Canvas(TOP + rows * (HEIGHT + BETWEEN) + 60)
        width = (WIDTH - LEFT - RIGHT - (self._columns - 1) * GAP) / self._columns
        self.axes: list[Any] = []
        for i in range(count):
            row, column = divmod(i, self._columns)
            self.axes.append(
                self.canvas.axes(LEFT + column * (width + GAP), TOP + row * (HEIGHT + BETWEEN), width, HEIGHT)
            )

    def label(self, x: str, y: str) -> None:
        """Label the axes at the left and at the bottom only."""
        for i, axes in enumerate(self.axes):
            if i % self._columns == 0:
                axes.set_ylabel(y, fontsize=9)
            else:
                axes.tick_params(labelleft=False)
            if i + self._columns >= len(self.axes):
                axes.set_xlabel(x, fontsize=9)

    def legend(self, title: str, keys: Sequence[tuple[str, str, str]]) -> None:
        """Write the title, and below it one line of keys: (colour, marker and line style, text)."""
        self.canvas.text(LEFT, 45, title, ha="left", fontsize=13, weight="bold")
        handles = [
            Line2D([], [], color=color, ls=style.lstrip("os"), marker=style.rstrip("-:"), ms=4, lw=1.6, label=text)
            for color, style, text in keys
        ]
        self.canvas.legend(handles, LEFT, 110, fontsize=9)


def describe(axes: Any, name: str, text: str = "", failure: str | None = None) -> None:
    """Write a panel's name above it and a few words inside it; a failure is shown in red."""
    axes.set_title(literal(name), loc="left", fontsize=10, color=RED if failure else INK, weight="bold", pad=5)
    options = {"transform": axes.transAxes, "fontsize": 7.5, "color": RED if failure else FAINT}
    axes.text(0.03, 0.05, failure or text, ha="left", va="bottom", **options)


def log_scales(axes: Any, ticks: Sequence[int], limits: tuple[float, float]) -> None:
    """Make both axes of a panel logarithmic, with these ticks on the x axis and these limits on the y axis."""
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
