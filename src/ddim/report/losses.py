"""The sections on the loss: over the epochs, and by noise level with a test for overfitting."""

import math
from typing import Any

from matplotlib.figure import Figure

from ddim.doctor.losses import RISE, SURE, gap
from ddim.plots.canvas import BLUE, FAINT, ORANGE, Canvas, log_axis
from ddim.plots.numbers import epochs, percent
from ddim.report.training import TrainingSection
from ddim.run_folder import BINS, LEAST, LEVELS, MOST, RunFolder
from ddim.text import plural

LOOKS: dict[str, dict[str, Any]] = {
    "held_out": {"color": BLUE, "lw": 2.4, "label": "held-out images, averaged weights", "zorder": 4},
    "train": {"color": ORANGE, "lw": 2.4, "label": "training images, averaged weights", "zorder": 3},
    "loss": {"color": FAINT, "lw": 1.2, "alpha": 0.7, "label": "training images, latest weights"},
}
EARLIER = 4  # earlier lines in the figure of the levels, at most
FACTOR = 4.0  # from bottom to top of its axis at least, so that there are tick labels


def learning(run: RunFolder) -> Figure | None:
    """Return the loss on held-out and on training images by epoch, and that of the updates if it is unweighted."""
    passes = [line["epoch"] for line in run.metrics]
    names = ("held_out", "train") if run.weighting != "simple" else ("held_out", "train", "loss")
    curves = {name: [_drawable(line.get(name)) for line in run.metrics] for name in names}
    values = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    if len(set(passes)) < 2 or not values:
        return None
    canvas = Canvas(900)
    axes = canvas.axes(170, 50, 1560, 700)
    for name, curve in curves.items():
        if any(map(math.isfinite, curve)):
            axes.plot(passes, curve, **LOOKS[name])
    held_out, train = curves["held_out"], curves["train"]
    above = [one > other for one, other in zip(held_out, train, strict=True)]
    axes.fill_between(passes, train, held_out, where=above, interpolate=True, color=BLUE, alpha=0.12, lw=0)
    for name, other in (("held_out", train[-1]), ("train", held_out[-1])):
        end = curves[name][-1]
        if math.isfinite(end):
            va = "center" if not math.isfinite(other) else "bottom" if end > other else "top"
            style = {"color": LOOKS[name]["color"], "weight": "bold", "va": va}
            axes.annotate(f"{end:.4f}", (passes[-1], end), (10, 0), textcoords="offset points", **style)
    axes.set(xlabel="epoch", ylabel="loss", xlim=(min(passes), max(passes)))
    if max(values) > 4 * min(values):
        log_axis(axes.yaxis, axes.set_yscale)
    axes.legend(fontsize=11)
    return canvas.figure


def levels(run: RunFolder) -> Figure | None:
    """Return the loss in ten equal parts of [0, T], now and earlier, above the gap between the two sets."""
    if not run.levels:
        return None
    *before, last = run.levels
    N = run.model.schedule.N
    edges = [N * i / BINS for i in range(BINS + 1)]
    middles = [N * (i + 0.5) / BINS for i in range(BINS)]
    places = sorted({len(before) >> i for i in range(1, EARLIER + 1)})  # a half of the way, a quarter, ...
    earlier = [before[i] for i in places if before]

    canvas = Canvas(1250)
    axes = canvas.axes(190, 50, 1750, 720)
    for i, line in enumerate(earlier):
        axes.plot(middles, line[LEVELS[0]], color=BLUE, lw=1.2, alpha=0.2 + 0.3 * (i + 1) / len(earlier))
    if earlier:
        passes = [epochs(line["epoch"]) for line in earlier]
        when = f"{', '.join(passes)} {plural(passes[-1], 'epoch')}"
        axes.plot([], [], color=BLUE, lw=1.2, alpha=0.4, label=f"held-out images, after {when}")
    for name, color, label in ((LEVELS[1], ORANGE, "training images"), (LEVELS[0], BLUE, "held-out images")):
        axes.plot(middles, last[name], "o-", color=color, lw=2.4, ms=6, label=f"{label}, now")
    log_axis(axes.yaxis, axes.set_yscale)
    drawn = [loss for line in (*earlier, last) for name in LEVELS for loss in line[name]]
    middle, half = math.sqrt(min(drawn)) * math.sqrt(max(drawn)), math.sqrt(max(drawn) / min(drawn))
    half = max(half * 1.2, math.sqrt(FACTOR))
    axes.set(ylabel="loss", xlim=(edges[0], edges[-1]), xticks=edges, ylim=(middle / half, middle * half))
    axes.tick_params(labelbottom=False)
    axes.legend(fontsize=11)

    axes = canvas.axes(190, 830, 1750, 300)
    difference = gap(last)
    low, high = (100 * math.expm1(side * SURE * difference.noise) for side in (-1, 1))
    axes.axhspan(low, high, color=FAINT, alpha=0.15, lw=0)
    corner = {"textcoords": "offset points", "ha": "right", "va": "top"}
    axes.annotate("chance", (edges[-1], high), (-8, -7), color=FAINT, **corner)
    axes.axhline(0, color=FAINT, lw=1)
    axes.bar(middles, [100 * math.expm1(log) for log in difference.logs], 0.5 * (edges[1] - edges[0]), color=BLUE)
    xlabel = "time $t$" if run.model.schedule.T == N else "training step"
    axes.set(xlabel=xlabel, ylabel="held-out\nabove training, %", xlim=(edges[0], edges[-1]), xticks=edges)
    return canvas.figure


def overfitting(run: RunFolder) -> str:
    """Return what the last line of metrics says about overfitting; empty if it has no loss by level."""
    if not run.levels:
        return ""
    difference, schedule = gap(run.levels[-1]), run.model.schedule
    logs = difference.logs
    worst = logs.index(max(logs))
    start, end = (float(schedule.time_at(part * schedule.N / BINS)) for part in (worst, worst + 1))
    where = f"between t = {start:.4g} and {end:.4g}"
    largest = "At no level does the loss on held-out images exceed that on training images."
    if logs[worst] > 0:
        most = percent(logs[worst])
        largest = f"The loss on held-out images exceeds that on training images most {where}, by {most}."
    mean = (
        f"Over all levels it is {percent(difference.mean)} {'higher' if difference.mean > 0 else 'lower'}; up to "
        f"{percent(difference.chance)} may be chance, as each level has at most 32 images of each set"
    )
    if difference.mean <= difference.chance:
        return f"{largest} {mean}: no sign of overfitting."
    return f"{largest} {mean}: a sign of overfitting, or of held-out images that are harder. {_rise(run)}"


def _rise(run: RunFolder) -> str:
    """Whether the held-out loss has risen again while the training loss fell."""
    held_out, train = ([sum(line[name]) / BINS for line in run.levels] for name in LEVELS)
    best = held_out.index(min(held_out))
    if held_out[-1] <= RISE * held_out[best]:
        return "The held-out loss itself has not risen."
    if train[-1] >= train[best]:
        return "Both losses have risen."
    passes, rise = epochs(run.levels[best]["epoch"]), percent(math.log(held_out[-1] / held_out[best]))
    return f"The held-out loss was lowest after {passes} {plural(passes, 'epoch')} and is {rise} higher now."


def _about_loss(run: RunFolder) -> str:
    if "distilled" in run.config:
        return (
            "This model is a student: its loss is another one, the distance of its steps from the states of its "
            "teacher’s trajectories. The held-out curve is for noise from which training has no trajectory."
        )
    predicts, note = run.model.predicts, "A network that always predicts 0 would score 1."
    if predicts != "eps":
        note = f"This network predicts {predicts}, so the loss is the error of {predicts}."
    weighted = f" Training minimises a weighted loss ({run.weighting}), which is another quantity and not drawn here."
    return note if run.weighting == "simple" else note + weighted


def _drawable(loss: float | None) -> float:
    """Return a loss for the figure; NaN, a gap in the curve, if it cannot be drawn."""
    return loss if loss is not None and LEAST < loss < MOST else math.nan


SECTIONS = (
    TrainingSection(
        "learning",
        "Learning",
        "the paper’s Figures 6 and 7",
        "The loss ‖ε − ε<sub>θ</sub>(<i>x</i><sub>t</sub>, <i>t</i>)‖², a mean over pixels (the paper’s section "
        "6; DDIM, Eq. 5 with all weights 1). The held-out images are never trained on. Thick curves are of the "
        "averaged weights, which are used for sampling, at fixed times and with fixed noise. A held-out curve "
        "that rises above the training curve is a sign of memorised images; the next figure shows how much of "
        "that may be chance.",
        learning,
        "metrics.jsonl holds no losses at two epochs.",
        _about_loss,
        in_markdown=True,
    ),
    TrainingSection(
        "levels",
        "The loss by noise level",
        "the paper’s section 6",
        "The loss of the averaged weights in ten equal parts of [0, <i>T</i>], for held-out and for training "
        "images, at the same times and with the same noise. Below: by how much the loss of held-out images is "
        "higher. The grey band shows how far chance moves a single level.",
        levels,
        "metrics.jsonl holds no losses by noise level.",
        overfitting,
        in_markdown=True,
    ),
)
