"""The tables and the figure of few_images.py, from its stored results and its runs."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harness
import torch

import ddim
from ddim.data.images import Images
from ddim.plots import canvas

RESULT = Path(__file__).with_name("results") / "few-images.json"
FIGURE = harness.ROOT / "docs/images/few-images"
KEPT = {"last": "the last average", "kept": "the kept average"}
SHOWN = ("plain", "augmentation", "all together")  # variants in the figure
IMAGES, STEPS, SEED = 16, 20, 2  # in a row of the figure
LABELS = 330  # pixels of the figure for the names of the rows


def table(found: dict[str, Any]) -> str:
    """Return the table of each data set in Markdown: means over the seeds, and the range if there are several."""
    parts = []
    for data in dict.fromkeys(row["data"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["data"] == data]
        floor = {key: rows[0]["last"][key] for key in ("frechet", "recall", "expected")}
        lines = [
            f"### {data}",
            "",
            "| ingredient | average | seeds | Fréchet distance | recall | copies | nearer to training images |",
            "|---|---|--:|--:|--:|--:|--:|",
        ]
        for variant in dict.fromkeys(row["variant"] for row in rows):
            same = [row for row in rows if row["variant"] == variant]
            for kind in KEPT:
                ones = [row[kind] for row in same]
                cells = [
                    _cell([one["frechet"]["value"] for one in ones], "{:.2f}"),
                    _cell([one["recall"]["value"] for one in ones], "{:.2f}"),
                    _cell([one["copies"] for one in ones], "{:.1%}"),
                    _cell([one["nearer"] for one in ones], "{:.1%}"),
                ]
                lines.append(f"| {variant} | {KEPT[kind]} | {len(same)} | {' | '.join(cells)} |")
        real = f"{floor['frechet']['floor']:.2f} | {floor['recall']['floor']:.2f} | {floor['expected']:.1%} | 50%"
        lines.append(f"| real images |  |  | {real} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _cell(values: Sequence[float], form: str) -> str:
    text = form.format(statistics.mean(values))
    return text + (f" ({form.format(min(values))} to {form.format(max(values))})" if len(values) > 1 else "")


Sources = dict[str, tuple[Images, Callable[[str], Path]]]
"""data -> its training images, and the folder of the run of a variant."""


@torch.no_grad()
def figure(sources: Sources) -> Any:
    """Return the figure: training images of each data set, and below them samples of some variants."""
    blocks = []
    for data, (images, folder) in sources.items():
        rows = {f"{data}: training images": images.pixels[torch.linspace(0, len(images) - 1, IMAGES).long()]}
        for variant in SHOWN:
            if (run := folder(variant)).exists():
                model = ddim.load(run, backend="torch")
                rows[variant] = model.sample(IMAGES, steps=STEPS, seed=SEED, progress=False, pixels=True)
        block = canvas.Rows(torch.stack(list(rows.values())), canvas.WIDTH - LABELS - canvas.MARGIN)
        blocks.append((list(rows), block))
    page = canvas.Canvas(sum(block.height + canvas.MARGIN for _, block in blocks) + canvas.MARGIN)
    top = canvas.MARGIN
    for names, block in blocks:
        _, ys = block.draw(page, LABELS, top)
        for name, y in zip(names, ys, strict=True):
            page.text(LABELS - 20, y, name.replace(": ", "\n"), ha="right", fontsize=9)
        top += block.height + canvas.MARGIN
    return page.figure


def show(found: dict[str, Any], sources: Sources) -> None:
    """Write the tables into docs/few-images.md, and the figure beside its other pictures."""
    harness.fill("docs/few-images.md", "few_images.py", table(found))
    with canvas.styled():
        canvas.save(figure(sources), FIGURE)
    FIGURE.with_suffix(".svg").unlink()  # the page shows the PNG
