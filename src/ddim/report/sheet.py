"""A sheet of paper measured in pixels, on which small images keep square, equal, crisp pixels."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from torch import Tensor

from ddim.files import writing
from ddim.pictures import grid

DPI = 200
WIDTH = 2000  # pixels of every figure: 10 inches
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

Pixels = npt.NDArray[np.uint8]


def styled() -> Any:
    """A context in which matplotlib draws as the report wants it."""
    return matplotlib.rc_context(STYLE)


class Sheet:
    """A figure addressed in pixels from its top left corner.

    Args:
        height: in pixels; the width is always `WIDTH`.
    """

    def __init__(self, height: int) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Axes in a rectangle."""
        box = (left / WIDTH, 1 - (top + height) / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(box)

    def image(self, pixels: Pixels, left: int, top: int, scale: int) -> None:
        """An (H, W, 3) image, every pixel of it a square of `scale` pixels."""
        height, width = pixels.shape[:2]
        axes = self.axes(left, top, width * scale, height * scale)
        axes.imshow(pixels, interpolation="none", aspect="auto")
        axes.set_axis_off()

    def text(self, x: float, y: float, words: str, **options: Any) -> None:
        """Words, centred at (x, y) unless the options say otherwise."""
        options = {"ha": "center", "va": "center", **options}
        self.figure.text(x / WIDTH, 1 - y / self.height, words, **options)


def mosaic(images: Tensor, columns: int) -> Pixels:
    """(N, C, H, W) uint8 as one (rows, columns, 3) image, framed and divided by lines of `line(W)` grey pixels."""
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    return np.asarray(grid(images, columns, scale=1, gap=line(images.shape[-1])).convert("RGB"))


def line(width: int) -> int:
    """The pixels between images of that width in a `mosaic`."""
    return max(1, round(width / 14))


def centres(start: int, size: int, scale: int, count: int, gap: int) -> list[float]:
    """Where the images of a mosaic that begins at `start` have their middles, in pixels of the sheet."""
    return [start + ((size + gap) * (i + 0.5) + gap / 2) * scale for i in range(count)]


def log_axis(axis: Any, set_scale: Any) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2, 5, 10, ..."""
    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def literal(words: str) -> str:
    """Words from a file, in which a dollar begins no formula."""
    return words.replace("$", r"\$")


def save(figure: Figure, stem: Path) -> None:
    """Write `stem`.png and `stem`.svg, without dates and versions."""
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        with writing(stem.with_suffix(suffix)) as draft:
            figure.savefig(draft, dpi=DPI, metadata=metadata)
