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
METRICS = {"frechet": "Fréchet distance", "recall": "recall", "precision": "precision"}
KEPT = {"last": "the last average", "kept": "the kept average"}
SHOWN = ("plain", "log-normal times", "all together")  # variants in the figure
IMAGES, STEPS, SEED = 16, 20, 2  # in a row of the figure
LABELS = 330  # pixels of the figure for the names of the rows


def table(found: dict[str, Any]) -> str:
    """Return the table of each data set in Markdown: means over the seeds, and the range if there are several."""
    parts = []
    for data in dict.fromkeys(row["data"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["data"] == data]
        lines = [
            f"### {data}",
            "",
            f"| ingredient | average | seeds | {' | '.join(METRICS.values())} | copies | nearer to training images |",
            "|---|---|--:|--:|--:|--:|--:|--:|",
        ]
        for variant in dict.fromkeys(row["variant"] for row in rows):
            same = [row for row in rows if row["variant"] == variant]
            for kind in KEPT:
                lines.append(f"| {variant} | {KEPT[kind]} | {len(same)} | {_cells([row[kind] for row in same])} |")
        if again := found.get("training", {}).get(data):
            lines.append(f"| training images, drawn again | | | {_cells([again])} |")
        real = {name: rows[0]["last"][name]["floor"] for name in METRICS}
        floors = " | ".join(f"{real[name]:.2f}" for name in METRICS)
        lines.append(f"| real images | | | {floors} | {rows[0]['last']['expected']:.1%} | 50% |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _cells(ones: Sequence[dict[str, Any]]) -> str:
    values = {METRICS[name]: ([one[name]["value"] for one in ones], "{:.2f}") for name in METRICS}
    values |= {name: ([one[name] for one in ones], "{:.1%}") for name in ("copies", "nearer")}
    return " | ".join(_cell(numbers, form) for numbers, form in values.values())


def _cell(values: Sequence[float], form: str) -> str:
    text = form.format(statistics.mean(values))
    return text + (f" ({form.format(min(values))} to {form.format(max(values))})" if len(values) > 1 else "")


Sources = dict[str, tuple[Images, Callable[[str], Path]]]
"""data -> its training images, and the folder of the run of a variant."""


@torch.no_grad()
def figure(found: dict[str, Any], sources: Sources) -> Any:
    """Return the figure: training images of each data set, and below them samples of some measured variants."""
    measured = {(row["data"], row["variant"]) for row in found["rows"]}
    blocks = []
    for data, (images, folder) in sources.items():
        rows = {f"{data}: training images": images.pixels[torch.linspace(0, len(images) - 1, IMAGES).long()]}
        for variant in SHOWN:
            if (data, variant) in measured and (run := folder(variant)).exists():
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
        canvas.save(figure(found, sources), FIGURE)
    FIGURE.with_suffix(".svg").unlink()  # the page shows the PNG
