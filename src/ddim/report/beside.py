"""The figure of a comparison: images of each model, best first, beside its distance to real ones."""

from typing import Any

import torch
from matplotlib.figure import Figure

from ddim.report.measured import measured
from ddim.report.numbers import short
from ddim.report.record import Record
from ddim.report.rows import Rows
from ddim.report.sheet import FAINT, WIDTH, Sheet, literal

MARGIN, LEFT, GAP = 40, 590, 50  # pixels; the words stand left of the images
COLUMNS, LONGEST = 10, 24  # images in a row; letters of a name


def beside(record: Record) -> Figure | None:
    """Two rows of images of each, not picked."""
    facts, images = record.results.get("compare"), record.samples["compare"].get("images")
    if facts is None or images is None or len(images) != len(facts["rows"]) or images.shape[1] < 2 * COLUMNS:
        return None
    blocks = [
        Rows(torch.stack([some[:COLUMNS], some[COLUMNS : 2 * COLUMNS]]), WIDTH - LEFT - MARGIN) for some in images
    ]
    high = blocks[0].height
    sheet = Sheet(2 * MARGIN + len(blocks) * (high + GAP) - GAP)
    for i, (row, block) in enumerate(zip(facts["rows"], blocks, strict=True)):
        top = MARGIN + i * (high + GAP)
        middle = top + high / 2
        name = row["name"] if len(row["name"]) <= LONGEST else f"…{row['name'][1 - LONGEST :]}"
        sheet.text(MARGIN, middle - 55, literal(name), ha="left", fontsize=11, weight="bold")
        sheet.text(MARGIN, middle, f"distance {measured(row, 'frechet', 'frechet_').short}", ha="left")
        sheet.text(MARGIN, middle + 45, _seen(row), ha="left", color=FAINT, fontsize=9.5)
        block.draw(sheet, LEFT, top)
    return sheet.figure


def _seen(row: dict[str, Any]) -> str:
    """How large it is and how many images it has seen, as far as that is known."""
    known = (("parameters", "parameters"), ("images_seen", "images seen"))
    return ", ".join(f"{short(row[name])} {words}" for name, words in known if name in row)
