"""The figure of memorisation: the most suspicious samples, each beside its nearest training images."""

from matplotlib.figure import Figure

from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, WIDTH, Sheet, line, mosaic

COLUMNS, MOST = 3, 12
MARGIN, GAP, BETWEEN, TOP = 40, 24, 80, 110  # pixels: GAP from a sample to its neighbours, BETWEEN such columns


def copies(record: Record) -> Figure | None:
    """In columns: a sample on the left, its nearest training images on the right, the nearest first."""
    tensors = record.samples["memorisation"]
    if "memorisation" not in record.results or not tensors:
        return None
    samples, neighbours = tensors["samples"][:MOST], tensors["neighbours"][:MOST]
    if len(samples) != len(neighbours):
        return None
    high = -(-len(samples) // COLUMNS)  # in each column
    parts = [slice(i, i + high) for i in range(0, len(samples), high)]
    beside = neighbours.shape[1]
    grids = [(mosaic(samples[part], 1), mosaic(neighbours[part].flatten(0, 1), beside)) for part in parts]
    wide = grids[0][0].shape[1], grids[0][1].shape[1]
    room = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * BETWEEN) // COLUMNS - GAP
    scale = max(1, room // sum(wide))
    pitch = sum(wide) * scale + GAP + BETWEEN
    start = (WIDTH - len(grids) * pitch + BETWEEN) // 2
    sheet = Sheet(TOP + grids[0][0].shape[0] * scale + MARGIN)
    for i, (left, right) in enumerate(grids):
        near = start + i * pitch + wide[0] * scale + GAP
        inside = line(samples.shape[-1]) * scale  # words begin where the images do
        sheet.text(near - GAP - wide[0] * scale + inside, TOP - 32, "sample", ha="left", color=BLUE, weight="bold")
        sheet.text(near + inside, TOP - 32, "nearest training images", ha="left", color=FAINT)
        sheet.image(left, near - GAP - wide[0] * scale, TOP, scale)
        sheet.image(right, near, TOP, scale)
    return sheet.figure
