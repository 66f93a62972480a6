"""Dots with their intervals, and the axes that hold them."""

from collections.abc import Sequence
from typing import Any

from ddim.report.measured import Measured

LEAST_FACTOR = 4.0  # from bottom to top of a logarithmic axis, so that there are numbers at it


def curve(axes: Any, xs: Sequence[float], ys: Sequence[Measured], color: str, marker: str = "o") -> None:
    """Values on a line, each with its interval as a bar."""
    axes.vlines(xs, [one.low for one in ys], [one.high for one in ys], color=color, lw=3.2, alpha=0.35)
    axes.plot(xs, [one.value for one in ys], color=color, marker=marker, ms=6, lw=1.8)


def across(axes: Any, y: float, one: Measured, color: str) -> None:
    """A value on a horizontal axis, with its interval as a bar."""
    axes.hlines([y], [one.low], [one.high], color=color, lw=5, alpha=0.35)
    axes.plot([one.value], [y], color=color, marker="o", ms=7, ls="none")


def limits(numbers: Sequence[float]) -> tuple[float, float]:
    """The ends of a logarithmic axis that holds those of the numbers that it can."""
    drawable = [number for number in numbers if number > 0] or [1.0]
    low, high = min(drawable) / 1.25, max(drawable) * 1.25
    wider = max((LEAST_FACTOR / (high / low)) ** 0.5, 1.0)
    return low / wider, high * wider
