"""What one x_T becomes: the same images from any number of steps, and the way from one x_T to another."""

from matplotlib.figure import Figure

from ddim.report.record import Record
from ddim.report.rows import Rows
from ddim.report.sheet import FAINT, INK, WIDTH, Sheet

MARGIN, LABEL, NUMBER = 40, 220, 250  # pixels: around, and left and right of the rows for words


def consistency(record: Record) -> Figure | None:
    """As DDIM's Figure 5: a column for each x_T, a row for each S, and beside it how far it is from the last."""
    facts, images = record.results.get("consistency"), record.samples["consistency"].get("images")
    if facts is None or images is None or len(images) != len(facts["rows"]):
        return None
    block = Rows(images, WIDTH - LABEL - NUMBER)
    left, top = LABEL + (WIDTH - LABEL - NUMBER - block.width) // 2, 130
    sheet = Sheet(top + block.height + 130)
    block.draw(sheet, left, top)
    longest = max(row["steps"] for row in facts["rows"])
    right = left + block.width + 110
    sheet.text(right, top - 55, f"rms to\n$S={longest}$", color=FAINT)
    for row, y in zip(facts["rows"], block.ys(top), strict=True):
        sheet.text(left - 25, y, f"$S={row['steps']}$", ha="right", fontsize=12)
        last = row["steps"] == longest
        sheet.text(right, y, "–" if last else f"{row['rms']:.3f}", fontsize=12, color=FAINT if last else INK)
    foot = top + block.height + 60
    sheet.text(left + block.width, foot, "between images of different noise", ha="right", color=FAINT)
    sheet.text(right, foot, f"{facts['between']:.3f}", fontsize=12, color=FAINT)
    return sheet.figure


def interpolation(record: Record) -> Figure | None:
    """As DDIM's Figure 6: each row goes from one x_T on the left to another on the right."""
    images = record.samples["interpolation"].get("images")
    if "interpolation" not in record.results or images is None:
        return None
    block = Rows(images, WIDTH - 4 * MARGIN)
    left, top = (WIDTH - block.width) // 2, 110
    sheet = Sheet(top + block.height + MARGIN)
    block.draw(sheet, left, top)
    whole = max(images.shape[1] - 1, 1)
    for i, x in zip(block.shown, block.xs(left), strict=True):
        ends = {0: r"$x_T^{(0)}$", whole: r"$x_T^{(1)}$"}
        sheet.text(x, top - 45, ends.get(i, f"{i / whole:.2g}"), fontsize=13 if i in ends else 10.5)
    return sheet.figure
