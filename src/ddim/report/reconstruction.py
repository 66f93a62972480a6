"""The figure of DDIM's Table 2: the error of a round trip against steps, beside the images themselves."""

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ddim.report import dots
from ddim.report.measured import measured
from ddim.report.record import Record
from ddim.report.rows import Rows
from ddim.report.sheet import BLUE, WIDTH, Sheet

TOP, LEFT, CURVE, LABEL, MARGIN = 60, 210, 640, 210, 40  # pixels; CURVE: width of the axes
HIGH = 900  # of the images, at most


def reconstruction(record: Record) -> Figure | None:
    """On the left the error, on the right held-out images and below them what came back after S steps each way."""
    facts, images = record.results.get("reconstruction"), record.samples["reconstruction"].get("images")
    if facts is None or images is None or len(images) != 1 + len(facts["rows"]):
        return None
    room = WIDTH - LEFT - CURVE - LABEL - MARGIN
    fewer = max(4, 8 * 28 // images.shape[-1])  # larger images, and not smaller pixels
    block = Rows(images[:, :fewer], room, HIGH)
    left, high = WIDTH - MARGIN - block.width, max(block.height, 520)
    sheet = Sheet(TOP + high + 130)
    top = TOP + (high - block.height) // 2
    block.draw(sheet, left, top)
    words = ["original", *(f"$S={row['steps']}$" for row in facts["rows"])]
    for word, y in zip(words, block.ys(top), strict=True):
        sheet.text(left - 20, y, word, ha="right")

    axes = sheet.axes(LEFT, TOP, left - LABEL - LEFT, high)
    rows = sorted(facts["rows"], key=lambda row: row["steps"])
    steps, errors = [row["steps"] for row in rows], [measured(row, "error") for row in rows]
    dots.curve(axes, steps, errors, BLUE)
    axes.set(xscale="log", yscale="log", xlim=(steps[0] / 1.4, steps[-1] * 1.4), xlabel="steps $S$, each way")
    axes.set(ylabel="mean squared error", ylim=dots.limits([number for one in errors for number in one]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(steps, [f"{S}" for S in steps], fontsize=9)
    return sheet.figure
