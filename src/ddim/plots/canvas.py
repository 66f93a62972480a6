"""A canvas measured in pixels, on which small images keep crisp pixels, and small panels of equal size."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from torch import Tensor

from ddim.files import writing
from ddim.pictures import grid, sheet_marks, visible
from ddim.plots.numbers import Estimate

DPI = 200
WIDTH = 2000  # pixels of every figure: 10 inches
MARGIN = 40
INK, FAINT = "#1f2430", "#6b7280"
BLUE, ORANGE, GREEN, PURPLE, RED = "#2563c9", "#d9660f", "#1b8a5a", "#7c4dbd", "#c02626"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "mathtext.fontset": "dejavusans",
    "svg.hashsalt": "ddim",  # the same folder gives the same bytes
    "svg.fonttype": "path",
}
COLUMNS = (5, 4)  # of panels: the one that leaves fewer places empty is used
LEFT, TOP, RIGHT, GAP, HEIGHT, BETWEEN = 150, 190, 40, 30, 300, 90  # pixels, of panels; BETWEEN: rows
LEAST_FACTOR = 4.0  # from bottom to top of a logarithmic axis, so that it has tick labels

Pixels = npt.NDArray[np.uint8]


def styled() -> Any:
    """Return a context in which matplotlib uses `STYLE`."""
    return matplotlib.rc_context(STYLE)


class Canvas:
    """A figure of `WIDTH` times `height` pixels, addressed in pixels from its top left corner."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Return axes in a rectangle."""
        box = (left / WIDTH, 1 - (top + height) / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(box)

    def image(self, pixels: Pixels, left: int, top: int, scale: int) -> None:
        """Draw an (H, W, 3) image; each of its pixels becomes a square of `scale` pixels."""
        height, width = pixels.shape[:2]
        axes = self.axes(left, top, width * scale, height * scale)
        axes.imshow(pixels, interpolation="none", aspect="auto")
        axes.set_axis_off()

    def text(self, x: float, y: float, text: str, **options: Any) -> None:
        """Write text, centred at (x, y) unless the options say otherwise."""
        options = {"ha": "center", "va": "center", **options}
        self.figure.text(x / WIDTH, 1 - y / self.height, text, **options)

    def legend(self, handles: Sequence[Any], left: float, y: float, **options: Any) -> None:
        """Draw a legend in one line that begins at (left, y)."""
        place = (left / WIDTH, 1 - y / self.height)
        options = {"loc": "center left", "borderaxespad": 0, "ncols": len(handles), **options}
        self.figure.legend(handles=handles, bbox_to_anchor=place, **options)


def mosaic(images: Tensor, columns: int) -> Pixels:
    """Return (N, C, H, W) uint8 images as one (rows, columns, 3) image.

    Lines of `separator(W)` grey pixels frame and divide the images.
    """
    return np.asarray(grid(visible(images), columns, scale=1, gap=separator(images.shape[-1])).convert("RGB"))


def separator(width: int) -> int:
    """Return the pixels between images of that width in a `mosaic`."""
    return max(1, round(width / 14))


class Rows:
    """Rows of images as one block with equal pixels, as wide as the space allows.

    If the images of a row do not all fit, evenly spaced ones are `shown`.

    Args:
        images: (R, N, C, H, W) uint8.
        width, height: available pixels; a height of None is no limit.
    """

    def __init__(self, images: Tensor, width: int, height: int | None = None) -> None:
        (self._rows, count), (self._tall, self._wide) = images.shape[:2], images.shape[-2:]
        gap = separator(self._wide)
        fit = max(1, min(count, (width - gap) // (self._wide + gap)))
        self.shown = torch.linspace(0, count - 1, fit).round().int().tolist()
        self._pixels = mosaic(images[:, self.shown].flatten(0, 1), fit)
        high, wide = self._pixels.shape[:2]
        self._scale = max(1, min(width // wide, (height or high * width) // high))
        self.width, self.height = wide * self._scale, high * self._scale

    def draw(self, canvas: Canvas, left: int, top: int) -> tuple[list[float], list[float]]:
        """Draw the block; return the middles of its columns and of its rows, in pixels of the canvas."""
        canvas.image(self._pixels, left, top, self._scale)
        gap, scale = separator(self._wide), self._scale
        xs = [left + ((self._wide + gap) * (i + 0.5) + gap / 2) * scale for i in range(len(self.shown))]
        return xs, [top + ((self._tall + gap) * (i + 0.5) + gap / 2) * scale for i in range(self._rows)]


class Panels:
    """A canvas with equal panels, row by row, with logarithmic axes: one of `axes` for each of `count` panels."""

    def __init__(self, count: int) -> None:
        self._columns = min(COLUMNS, key=lambda columns: -count % columns)
        self.canvas = Canvas(TOP + math.ceil(count / self._columns) * (HEIGHT + BETWEEN) + 60)
        width = (WIDTH - LEFT - RIGHT - (self._columns - 1) * GAP) / self._columns
        self.axes: list[Any] = []
        for row, column in (divmod(i, self._columns) for i in range(count)):
            left, top = LEFT + column * (width + GAP), TOP + row * (HEIGHT + BETWEEN)
            self.axes.append(self.canvas.axes(left, top, width, HEIGHT))

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
    step_ticks(axes, ticks, fontsize=8)
    decades = math.log10(limits[1] / limits[0])
    axes.yaxis.set_major_locator(LogLocator(numticks=6) if decades > 3 else LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if decades <= 3:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(labelsize=8)


def step_ticks(axes: Any, steps: Sequence[int], text: str = "{}", **options: Any) -> None:
    """Label these numbers of steps, and no others, on a logarithmic x axis."""
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(steps), [text.format(S) for S in steps], **options)


def curve(axes: Any, xs: Sequence[float], ys: Sequence[Estimate], color: str, marker: str = "o") -> None:
    """Plot estimates on a line, each with its interval as a bar."""
    axes.vlines(xs, [one.low for one in ys], [one.high for one in ys], color=color, lw=3.2, alpha=0.35)
    axes.plot(xs, [one.value for one in ys], color=color, marker=marker, ms=6, lw=1.8)


def interval(axes: Any, y: float, estimate: Estimate, color: str) -> None:
    """Plot an estimate on a horizontal axis, with its interval as a bar."""
    axes.hlines([y], [estimate.low], [estimate.high], color=color, lw=5, alpha=0.35)
    axes.plot([estimate.value], [y], color=color, marker="o", ms=7, ls="none")


def log_limits(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis that holds the positive ones of these numbers."""
    positive = [number for number in numbers if number > 0] or [1.0]
    low, high = min(positive) / 1.25, max(positive) * 1.25
    wider = max((LEAST_FACTOR / (high / low)) ** 0.5, 1.0)
    return low / wider, high * wider


def log_axis(axis: Any, set_scale: Any) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2, 5, 10, ..."""
    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def literal(text: str) -> str:
    """Return text from a file such that a dollar sign starts no formula."""
    return text.replace("$", r"\$")


def save(figure: Figure, stem: Path) -> None:
    """Write `stem`.png, marked as a sheet of this version, and `stem`.svg, both without dates."""
    for suffix, metadata in ((".png", sheet_marks()), (".svg", {"Date": None, "Creator": None})):
        with writing(stem.with_suffix(suffix)) as draft:
            figure.savefig(draft, dpi=DPI, metadata=metadata)
