"""Several models compared with the same real images; `ddim compare --report` makes the result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from ddim.evaluate.evaluation import METRICS
from ddim.experiments import base
from ddim.experiments.base import Cell, Drawing, Experiment, Samples, Table, register
from ddim.experiments.evaluation import Metric, renamed
from ddim.plots.canvas import FAINT, MARGIN, WIDTH, Canvas, Rows, literal
from ddim.plots.numbers import short, small

LEFT, GAP = 590, 50  # pixels; the text is left of the images
COLUMNS, LONGEST = 10, 24  # images in a row; letters of a name
PARTS = ("low", "high", "floor", "floor_low", "floor_high")


@dataclass(frozen=True)
class Row:
    """A model or a folder of images."""

    name: str  # as the user gave it, without the folders of the machine
    count: base.NonNegative
    floor_count: base.NonNegative  # real images of the floor
    metrics: dict[str, Metric]
    parameters: base.Positive | None = None  # this and the rest: of a model, as far as they are known
    images_seen: base.Positive | None = None
    sampling: str | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        frechet = self.metrics.get("frechet", Metric())
        if frechet.samples is None or frechet.real is None:
            raise ValueError(f"{self.name} has no Fréchet distance.")

    @property
    def above_floor(self) -> float:
        """The Fréchet distance, minus that of equally many real images."""
        frechet = self.metrics["frechet"]
        return (frechet.value or 0.0) - (frechet.floor or 0.0)


@dataclass(frozen=True, kw_only=True)
class Result(base.Result):
    """The models from best to worst, by how far the Fréchet distance is above its floor."""

    about: str
    reference_count: base.Positive
    rows: Annotated[tuple[Row, ...], base.NON_EMPTY]


@register("compare")
class Compare(Experiment[Result]):
    """Show models next to each other."""

    title = "Comparison with other models"
    reference = "not in the paper"
    command = base.COMPARE
    place = 110
    share = 0
    tensors = {"images": 5}  # (models, N, C, H, W)
    result_type = Result
    caption = (
        "The first images of each model; all models start from the same noise. The order is by how far the Fréchet "
        "distance is above that of equally many real images, the best first."
    )

    def upgrade(self, facts: dict[str, Any]) -> dict[str, Any]:
        rows = [row if "metrics" in row else {**row, "metrics": _nested(row)} for row in facts["rows"]]
        return {**facts, "rows": rows}

    def figure(self, result: Result, samples: Samples) -> Drawing:
        """Two rows of images of each model, not selected."""
        images = samples["images"]
        if len(images) != len(result.rows) or images.shape[1] < 2 * COLUMNS:
            return None
        pairs = images[:, : 2 * COLUMNS].reshape(-1, 2, COLUMNS, *images.shape[2:])
        blocks = [Rows(pair, WIDTH - LEFT - MARGIN) for pair in pairs]
        high = blocks[0].height
        canvas = Canvas(2 * MARGIN + len(blocks) * (high + GAP) - GAP)
        for i, (row, block) in enumerate(zip(result.rows, blocks, strict=True)):
            top = MARGIN + i * (high + GAP)
            middle = top + high / 2
            name = row.name if len(row.name) <= LONGEST else f"…{row.name[1 - LONGEST :]}"
            frechet = row.metrics["frechet"].samples
            known = ((row.parameters, "parameters"), (row.images_seen, "images seen"))
            size = ", ".join(f"{short(number)} {unit}" for number, unit in known if number is not None)
            canvas.text(MARGIN, middle - 55, literal(name), ha="left", fontsize=11, weight="bold")
            canvas.text(MARGIN, middle, f"distance {frechet.short if frechet else ''}", ha="left")
            canvas.text(MARGIN, middle + 45, size, ha="left", color=FAINT, fontsize=9.5)
            block.draw(canvas, LEFT, top)
        return canvas.figure

    def tables(self, result: Result) -> list[Table]:
        """List the models in their order, below the real images for each number of them."""
        shown = [name for name in METRICS if all(row.metrics.get(name, Metric()).samples for row in result.rows)]
        rows = []
        for row in {row.floor_count: row for row in result.rows}.values():
            real = (Cell.estimate(row.metrics[name].real) for name in shown)
            rows.append([Cell("real images"), Cell.count(round(row.floor_count)), *3 * [base.EMPTY], *real])
        for row in result.rows:
            sizes = [base.EMPTY if one is None else Cell.count(one) for one in (row.parameters, row.images_seen)]
            above = Cell(small(row.above_floor), row.above_floor)
            metrics = (Cell.estimate(row.metrics[name].samples) for name in shown)
            rows.append([Cell(row.name), Cell.count(round(row.count)), *sizes, above, *metrics])
        fewer = [row.name for row in result.rows if row.floor_count < row.count]
        few = f" Too few real images for {', '.join(fewer)}: the rank is too good." if fewer else ""
        note = f"Against {result.reference_count:,} images, ± half of the 95% interval.{few} {result.about}"
        head = ["model", "images", "parameters", "images seen", "above floor", *(METRICS[name] for name in shown)]
        return [Table(head, rows, note=note)]


def result(about: str, reference_count: int, rows: Sequence[dict[str, Any]]) -> Result:
    """Return a result; the rows, the best first, are `Evaluation.flat` and what else is known of a `Row`."""
    nested = [{**row, "metrics": _nested(row)} for row in rows]
    return msgspec.convert({"about": about, "reference_count": reference_count, "rows": nested}, Result)


def _nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """{"frechet": 1, "frechet_low": 0} becomes {"frechet": {"value": 1, "low": 0}}."""
    metrics = {}
    for name in (name for name in row if f"{name}_low" in row and f"{name}_high" in row):
        if name.removesuffix("_floor") in metrics:  # the floor of a metric
            continue
        parts = {part: row[f"{name}_{part}"] for part in PARTS if f"{name}_{part}" in row}
        metrics[name] = {"value": row[name], **parts}
    return renamed(metrics)
