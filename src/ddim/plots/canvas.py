"""A canvas measured in pixels, on which small images keep square, equal and crisp pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor

from ddim.files import writing
from ddim.pictures import grid
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
LEAST_FACTOR = 4.0  # from bottom to top of a logarithmic axis, so that it has tick labels

Pixels = npt.NDArray[np.uint8]


def styled() -> Any:
    """Return a context in which matplotlib uses `STYLE`."""
    return matplotlib.rc_context(STYLE)


class Canvas:
    """A figure addressed in pixels from its top left corner.

    Args:
        height: in pixels; the width is always `WIDTH`.
    """

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
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    return np.asarray(grid(images, columns, scale=1, gap=separator(images.shape[-1])).convert("RGB"))


def separator(width: int) -> int:
    """Return the pixels between images of that width in a `mosaic`."""
    return max(1, round(width / 14))


def centres(start: int, size: int, scale: int, count: int, gap: int) -> list[float]:
    """Return the middles of the images of a mosaic that begins at `start`, in canvas pixels.

    Args:
        start: left or upper end of the mosaic.
        size, gap: side of an image and of the lines between images, in pixels of the mosaic.
        scale: canvas pixels of a pixel of the mosaic.
        count: number of images.
    """
    return [start + ((size + gap) * (i + 0.5) + gap / 2) * scale for i in range(count)]


class Rows:
    """Rows of images as one block with equal pixels, as wide as the space allows.

    If the images of a row do not all fit, evenly spaced ones are shown.

    Args:
        images: (R, N, C, H, W) uint8.
        width: available pixels.
        height: likewise; None is no limit.
    """

    def __init__(self, images: Tensor, width: int, height: int | None = None) -> None:
        count, (self._tall, self._wide) = images.shape[1], images.shape[-2:]
        gap = separator(self._wide)
        fit = max(1, min(count, (width - gap) // (self._wide + gap)))
        self.shown = torch.linspace(0, count - 1, fit).round().int().tolist()
        self._rows = len(images)
        self._pixels = mosaic(images[:, self.shown].flatten(0, 1), fit)
        high, wide = self._pixels.shape[:2]
        self._scale = max(1, min(width // wide, (height or high * width) // high))
        self.width, self.height = wide * self._scale, high * self._scale

    def draw(self, canvas: Canvas, left: int, top: int) -> None:
        """Draw the block on a canvas."""
        canvas.image(self._pixels, left, top, self._scale)

    def xs(self, left: int) -> list[float]:
        """Return the middles of the columns of a block that begins at `left`."""
        return centres(left, self._wide, self._scale, len(self.shown), separator(self._wide))

    def ys(self, top: int) -> list[float]:
        """Return the middles of the rows of a block that begins at `top`."""
        return centres(top, self._tall, self._scale, self._rows, separator(self._wide))


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
    """Write `stem`.png and `stem`.svg, without dates and versions."""
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        with writing(stem.with_suffix(suffix)) as draft:
            figure.savefig(draft, dpi=DPI, metadata=metadata)
