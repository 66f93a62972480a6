"""Figures made of numbers: the learning curve, and steps against seconds."""

import math
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, INK, ORANGE, Sheet
from ddim.report.words import three


def learning(record: Record) -> Figure | None:
    """The loss on the training images and on held-out images, epoch by epoch."""
    epochs = [line["epoch"] for line in record.metrics]
    curves = {name: [line[name] for line in record.metrics] for name in ("loss", "held_out")}
    values = [value for curve in curves.values() for value in curve if math.isfinite(value) and value > 0]
    if len(set(epochs)) < 2 or not values:
        return None
    sheet = Sheet(900)
    axes = sheet.axes(170, 50, 1560, 700)
    axes.plot(epochs, curves["loss"], color=ORANGE, lw=1.6, alpha=0.8, label="training images, weights as they are")
    axes.plot(epochs, curves["held_out"], color=BLUE, lw=2.4, label="held-out images, averaged weights")
    end = curves["held_out"][-1]
    if math.isfinite(end):
        place = {"textcoords": "offset points", "va": "center"}
        axes.annotate(f"{end:.4f}", (epochs[-1], end), (10, 0), color=BLUE, weight="bold", **place)
    axes.set(xlabel="epoch", ylabel="loss", xlim=(epochs[0], epochs[-1]))
    if max(values) > 4 * min(values):
        _log(axes.yaxis, axes.set_yscale)
    axes.legend(loc="upper right", fontsize=11)
    return sheet.figure


def timing(record: Record) -> Figure | None:
    """Measured seconds over S, on a line: S calls of the bare network."""
    facts = record.results.get("timing")
    if facts is None:
        return None
    rows = facts["rows"]
    steps = [row["steps"] for row in rows]
    sheet = Sheet(960)
    axes = sheet.axes(190, 50, 1720, 760)
    forward = median(row["forward_seconds"] for row in rows)
    bare = [forward * S for S in steps]
    axes.plot(steps, bare, color=FAINT, lw=1.8, ls=(0, (4, 2)), label="$S$ calls of the bare network")
    axes.plot(steps, [row["seconds"] for row in rows], "o", color=BLUE, ms=8, label="DDIM, measured")
    _log(axes.xaxis, axes.set_xscale)
    _log(axes.yaxis, axes.set_yscale)
    axes.set_xticks(steps)
    axes.set(
        xlabel="steps $S$", ylabel=f"seconds for {facts['batch']} images", xlim=(steps[0] / 1.3, steps[-1] * 1.5)
    )
    axes.set_ylim(bottom=min(forward * steps[0], rows[0]["seconds"]) / 1.7)  # room for the first label
    for row in rows:
        words, at = f"{three(row['seconds'])} s", (row["steps"], row["seconds"])
        axes.annotate(words, at, (8, -12), textcoords="offset points", color=INK)
    axes.legend(loc="upper left", fontsize=11)
    return sheet.figure


def _log(axis: Any, set_scale: Any) -> None:
    """A logarithmic axis with plain numbers at 1, 2, 5, 10, ..."""
    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
