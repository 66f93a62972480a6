"""Figures made of numbers: the learning curve, and steps against seconds."""

import math
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from ddim.report.numbers import three
from ddim.report.reading import LEAST, MOST
from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, INK, ORANGE, Sheet, log_axis

_LOOKS: dict[str, dict[str, Any]] = {
    "held_out": {"color": BLUE, "lw": 2.4, "label": "held-out images, averaged weights", "zorder": 4},
    "train": {"color": ORANGE, "lw": 2.4, "label": "training images, averaged weights", "zorder": 3},
    "loss": {"color": FAINT, "lw": 1.2, "alpha": 0.7, "label": "training images, latest weights"},
}


def learning(record: Record) -> Figure | None:
    """The loss on held-out and on trained images, epoch by epoch, and of the updates if it is not weighted."""
    epochs = [line["epoch"] for line in record.metrics]
    names = ("held_out", "train") if record.weighting != "simple" else ("held_out", "train", "loss")
    curves = {name: [_drawable(line.get(name)) for line in record.metrics] for name in names}
    values = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    if len(set(epochs)) < 2 or not values:
        return None
    sheet = Sheet(900)
    axes = sheet.axes(170, 50, 1560, 700)
    for name, curve in curves.items():
        if any(map(math.isfinite, curve)):
            axes.plot(epochs, curve, **_LOOKS[name])
    held_out, train = curves["held_out"], curves["train"]
    above = [one > other for one, other in zip(held_out, train, strict=True)]
    axes.fill_between(epochs, train, held_out, where=above, interpolate=True, color=BLUE, alpha=0.12, lw=0)
    for name, other in (("held_out", train[-1]), ("train", held_out[-1])):
        end = curves[name][-1]
        if math.isfinite(end):
            va = "center" if not math.isfinite(other) else "bottom" if end > other else "top"
            words = {"color": _LOOKS[name]["color"], "weight": "bold", "va": va}
            axes.annotate(f"{end:.4f}", (epochs[-1], end), (10, 0), textcoords="offset points", **words)
    axes.set(xlabel="epoch", ylabel="loss", xlim=(min(epochs), max(epochs)))
    if max(values) > 4 * min(values):
        log_axis(axes.yaxis, axes.set_yscale)
    axes.legend(fontsize=11)
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
    log_axis(axes.xaxis, axes.set_xscale)
    log_axis(axes.yaxis, axes.set_yscale)
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


def _drawable(loss: float | None) -> float:
    """A loss as it is drawn; what cannot be is a gap in the curve."""
    return loss if loss is not None and LEAST < loss < MOST else math.nan
