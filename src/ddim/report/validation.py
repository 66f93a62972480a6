"""The section on the samples during training: their distance to held-out images, and copies of training images."""

from matplotlib.figure import Figure

from ddim.files import as_table
from ddim.plots.canvas import BLUE, FAINT, ORANGE, Canvas, log_axis
from ddim.plots.numbers import counted_epochs
from ddim.report.training import TrainingSection
from ddim.run_folder import DISTANCES, RunFolder
from ddim.text import counted
from ddim.train.best import shows_copies


def distances(run: RunFolder) -> Figure | None:
    """Return the distance of samples to held-out images by epoch, above the share of samples that look like copies."""
    metric, lines, searched = run.metric, run.distances, run.searches
    if len(lines) < 2:
        return None
    passes, values = [line["epoch"] for line in lines], [line[metric] for line in lines]
    best = values.index(min(values))
    canvas = Canvas(1150 if searched else 850)
    axes = canvas.axes(190, 50, 1720, 620)
    axes.plot(passes, values, "o-", color=BLUE, lw=2.4, ms=5, label="samples of the averaged weights")
    axes.plot([passes[best]], [values[best]], "o", color=ORANGE, ms=12, zorder=5, label=f"smallest: {values[best]:.4g}")
    if 0 < 4 * min(values) < max(values):
        log_axis(axes.yaxis, axes.set_yscale)
    axes.set(ylabel=DISTANCES[metric], xlim=(0, passes[-1] * 1.02), xlabel="" if searched else "epoch")
    axes.legend(fontsize=11)
    if searched:
        axes.tick_params(labelbottom=False)
        axes = canvas.axes(190, 760, 1720, 270)
        for colour, sure in ((FAINT, False), (ORANGE, True)):
            some = [line for line in searched if shows_copies(line) == sure]
            axes.vlines(
                [line["epoch"] for line in some], 0, [100 * line["copies"] for line in some], color=colour, lw=4
            )
        most = max(100 * line["copies"] for line in searched)
        axes.set(ylabel="copies, %", xlabel="epoch", xlim=(0, passes[-1] * 1.02), ylim=(0, max(1.0, 1.15 * most)))
    return canvas.figure


def note(run: RunFolder) -> str:
    """Return which weights the model has, and when copying set in; empty without measurements."""
    how, metric, lines = as_table(run.config.get("validation")), run.metric, run.distances
    if not lines:
        return ""
    best = min(lines, key=lambda line: line[metric])
    sentences = []
    if isinstance(how.get("samples"), int) and isinstance(how.get("held_out"), int):
        real = counted(how["held_out"], "held-out image")
        sentences.append(f"Each measurement took {counted(how['samples'], 'sample')} against {real}.")
    sentences.append(f"The distance was smallest, {best[metric]:.4g}, after {counted_epochs(best['epoch'])}.")
    average = as_table(run.config.get("average"))
    if {"width", "step"} <= average.keys():
        sentences.append(f"The model is the average of width {average['width']} after {average['step']} updates.")
    first = next(filter(shows_copies, run.searches), None)
    if first is not None:
        sentences.append(
            f"Copying set in after {counted_epochs(first['epoch'])}: {first['copies']:.1%} of the samples were closer "
            "to one training image than held-out images are, which chance explains with a probability of "
            f"{first['copies_p']:.2g}."
        )
    elif run.searches:
        sentences.append(
            f"In none of {counted(len(run.searches), 'search', 'searches')} did more samples look like copies than "
            "chance explains."
        )
    return " ".join(sentences)


SECTION = TrainingSection(
    "validation",
    "Samples against held-out images",
    "the paper’s section 7",
    "The distance of samples of the averaged weights to images that were never trained on, from the same noise each "
    "time. A distance that rises again while the training loss falls means overfitting; the model that training saves "
    "is that of the smallest distance without copies. Below: the share of samples that are closer to one training "
    "image than held-out images are; orange where that is more than chance explains (p &lt; 0.001).",
    distances,
    "metrics.jsonl holds a single measurement of samples.",
    note,
    in_markdown=True,
)
