"""The figure of samples along the way: what the same noise becomes as training goes on."""

import torch
from matplotlib.figure import Figure

from ddim.report.numbers import epochs
from ddim.report.record import Record
from ddim.report.sheet import FAINT, INK, WIDTH, Sheet, centres, line, mosaic

COLUMNS = 8  # images from each set of weights
MARGIN, LABEL, GAP = 40, 225, 50


def along(record: Record) -> Figure | None:
    """A row for each of some steps: images of the averaged weights, and the same images of the latest ones."""
    stops = record.along
    if not stops:
        return None
    passes = {line.get("step"): line["epoch"] for line in record.metrics}
    tall, size = stops[0].averaged.shape[-2:]
    room = (WIDTH - 2 * MARGIN - LABEL - GAP) // 2  # for each set
    columns = max(1, min(COLUMNS, (room - line(size)) // (size + line(size)), *(len(s.averaged) for s in stops)))
    grids = [
        mosaic(torch.cat([images[:columns] for images in sets]), columns)
        for sets in ([stop.averaged for stop in stops], [stop.latest for stop in stops])
    ]
    high, wide = grids[0].shape[:2]
    scale = max(1, room // wide)

    sheet = Sheet(high * scale + 120 + MARGIN)
    left = (WIDTH - LABEL - GAP - 2 * wide * scale) // 2 + LABEL
    for side, (title, grid) in enumerate(zip(("averaged weights", "latest weights"), grids, strict=True)):
        start = left + side * (wide * scale + GAP)
        sheet.text(start, 72, title, ha="left", fontsize=13, weight="bold", color=INK)
        sheet.image(grid, start, 120, scale)
    for stop, y in zip(stops, centres(120, tall, scale, len(stops), line(size)), strict=True):
        epoch = passes.get(stop.step)
        shift = 0 if epoch is None else 16
        sheet.text(left - 20, y - shift, f"step {stop.step:,}", ha="right", weight="bold", fontsize=9.5)
        if epoch is not None:
            sheet.text(left - 20, y + shift, f"epoch {epochs(epoch)}", ha="right", color=FAINT, fontsize=9)
    return sheet.figure
