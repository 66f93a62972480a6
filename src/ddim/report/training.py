"""The sections on data and training that are made of images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from ddim.data import to_uint8
from ddim.experiments.base import root
from ddim.forward import q_sample
from ddim.noise import ImageNoise
from ddim.plots.canvas import BLUE, FAINT, INK, MARGIN, ORANGE, WIDTH, Canvas, Rows
from ddim.plots.numbers import epochs
from ddim.run_folder import RunFolder

STOPS = 11  # times of the forward process
COLUMNS = 8  # images from each set of weights
LABEL, GAP = 225, 50  # pixels
TITLES = ("averaged weights", "latest weights")


@dataclass(frozen=True)
class TrainingSection:
    """A section that shows what `ddim train` left; see `Section` for the other fields."""

    name: str
    title: str
    reference: str
    caption: str
    figure: Callable[[RunFolder], Figure | None]  # None if the run holds nothing to draw
    problem: str = ""
    note: Callable[[RunFolder], str] = lambda run: ""
    in_markdown: bool = False
    command: str = "ddim train"


def data(run: RunFolder) -> Figure | None:
    """Return a grid of training images."""
    if run.data is None:
        return None
    columns = 20 if len(run.data) >= 60 else 10
    rows = max(len(run.data) // columns, 1)
    images = run.data[: rows * columns]
    block = Rows(images.reshape(rows, -1, *images.shape[1:]), WIDTH - 2 * MARGIN)
    canvas = Canvas(block.height + 2 * MARGIN)
    block.draw(canvas, (WIDTH - block.width) // 2, MARGIN)
    return canvas.figure


def forward(run: RunFolder) -> Figure | None:
    """Return one image at increasing noise levels, above the signal and the noise rate."""
    if run.data is None:
        return None
    schedule = run.model.schedule
    x0 = run.data[:1].float() / 127.5 - 1
    eps = ImageNoise(0, [0])(x0)
    steps = torch.linspace(0, schedule.N, STOPS).round().int().tolist()
    noisy = [q_sample(x0, at, eps) / (at.alpha**2 + at.sigma**2).sqrt() for at in map(schedule, schedule.times[steps])]
    block = Rows(torch.stack([to_uint8(x) for x in noisy], dim=1), WIDTH - 5 * MARGIN)
    steps = [steps[i] for i in block.shown]
    left, top, high = (WIDTH - block.width) // 2 + MARGIN, MARGIN + 60, block.height
    canvas = Canvas(top + high + 90 + 380 + 120)
    middles, _ = block.draw(canvas, left, top)
    for x, step in zip(middles, steps, strict=True):
        time = f"{schedule.times[step]:.4g}"
        canvas.text(x, top - 35, f"$t={time}$" if step in (0, schedule.N) else time)
        canvas.text(x, top + high + 40, _number(float(schedule.alpha_bar[step])), color=FAINT)
    canvas.text(left - 55, top + high + 40, r"$\bar\alpha_t$", fontsize=13)

    axes = canvas.axes(middles[0], top + high + 90, middles[-1] - middles[0], 380)
    t = torch.arange(schedule.N + 1)
    axes.plot(t, schedule.alpha_bar.sqrt(), color=BLUE, lw=2.2, label=r"signal  $\sqrt{\bar\alpha_t}$")
    axes.plot(t, (1 - schedule.alpha_bar).sqrt(), color=ORANGE, lw=2.2, label=r"noise  $\sqrt{1-\bar\alpha_t}$")
    xlabel = "time $t$" if schedule.T == schedule.N else "training step"
    axes.set(xlim=(0, schedule.N), ylim=(0, 1.03), xticks=steps, xlabel=xlabel, yticks=(0, 0.5, 1))
    axes.legend(loc="center right", fontsize=11)
    return canvas.figure


def along(run: RunFolder) -> Figure | None:
    """Return a row for each of some steps: images of the averaged weights, and the same of the latest weights."""
    snapshots = run.snapshots
    if not snapshots:
        return None
    passes = {line.get("step"): line["epoch"] for line in run.metrics}
    space = (WIDTH - 2 * MARGIN - LABEL - GAP) // 2  # for each set
    columns = min(COLUMNS, *(len(one.averaged) for one in snapshots))
    sets = [one.averaged for one in snapshots], [one.latest for one in snapshots]
    blocks = [Rows(torch.stack([images[:columns] for images in one]), space) for one in sets]
    wide = blocks[0].width
    canvas = Canvas(blocks[0].height + 120 + MARGIN)
    left = (WIDTH - LABEL - GAP - 2 * wide) // 2 + LABEL
    for start, title, block in zip((left, left + wide + GAP), TITLES, blocks, strict=True):
        canvas.text(start, 72, title, ha="left", fontsize=13, weight="bold", color=INK)
        _, ys = block.draw(canvas, start, 120)
    for one, y in zip(snapshots, ys, strict=True):
        epoch = passes.get(one.step)
        shift = 0 if epoch is None else 16
        canvas.text(left - 20, y - shift, f"step {one.step:,}", ha="right", weight="bold", fontsize=9.5)
        if epoch is not None:
            canvas.text(left - 20, y + shift, f"epoch {epochs(epoch)}", ha="right", color=FAINT, fontsize=9)
    return canvas.figure


def _number(value: float) -> str:
    """Three decimals, or a power of ten where they would be 0."""
    if value >= 5e-4 or value == 0:
        return f"{value:.3f}"
    digits, power = f"{value:.0e}".split("e")
    return rf"${digits}\times10^{{{int(power)}}}$"


def _averages(run: RunFolder) -> str:
    return "This run averages no weights, so both sides are equal." if run.plan.get("ema") == [0] else ""


NO_DATA = "The folder holds no training images (samples/data.safetensors)."
SECTIONS = (
    TrainingSection(
        "data",
        "The data",
        "the paper’s Figures 1 and 2",
        "Some of the training images <i>x</i><sub>0</sub>. Their grey levels become numbers from −1 to 1. The "
        "network does not learn what the images show, only which images are likely.",
        data,
        NO_DATA,
    ),
    TrainingSection(
        "forward",
        "From image to noise",
        "the paper’s Figures 3 and 4",
        f"One image and one draw of noise ε ~ N(0, I), mixed as <i>x</i><sub>t</sub> = {root('ᾱ<sub>t</sub>')} "
        f"<i>x</i><sub>0</sub> + {root('1 − ᾱ<sub>t</sub>')} ε (DDIM, Eq. 4; DDIM’s paper writes α for our ᾱ). "
        "Any <i>t</i> is reached in one step, so training can draw its times at random. Values outside −1 … 1 are "
        "shown as black or white.",
        forward,
        NO_DATA,
    ),
    TrainingSection(
        "along",
        "Samples during training",
        "the paper’s section 7",
        "All rows start from the same noise, so each column shows one image as the network learns. The averaged "
        "weights, which are used for sampling, change smoothly; the latest weights, from which the average is "
        "made, change strongly from row to row.",
        along,
        "The folder holds no samples from training (samples/step-*.safetensors).",
        _averages,
    ),
)
