"""Several evaluations against the same real images, in one table."""

from collections.abc import Iterator, Mapping

from ddim.evaluate.evaluation import Evaluation, number
from ddim.evaluate.intervals import Figure


def ranked(found: Mapping[str, Evaluation]) -> list[str]:
    """The names, the least Fréchet distance above its floor first."""
    return sorted(found, key=lambda name: above_floor(found[name]))


def above_floor(found: Evaluation) -> float:
    """The Fréchet distance, less that of real images: of few images both lie too high, and by as much."""
    one = found.figures["frechet"]
    return one.value - one.floor


def lines(found: Mapping[str, Evaluation]) -> Iterator[str]:
    """A row for each, ranked, below one for each number of real images.

    Args:
        found: by name, all of one extractor and one reference.
    """
    first = next(iter(found.values()))
    figures = [name for name in first.figures if all(name in one.figures for one in found.values())]
    rows = [["", "images", "above floor", *figures]]
    for one in {(one.floor_count, one.equal): one for one in found.values()}.values():
        rows.append(["real images", f"{one.floor_count:,}", "", *(_floor(one.figures[name]) for name in figures)])
    for name in ranked(found):
        one = found[name]
        above = number(above_floor(one))
        rows.append([name, f"{one.count:,}", above, *(_value(one, figure) for figure in figures)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
    yield "Ranked by how far frechet lies above its floor, the distance of as many real images."
    if fewer := [name for name, one in found.items() if not one.floor_is_alike]:
        yield f"There were too few real images for {', '.join(fewer)}: the floor is too high, the rank too good."
    yield f"Against {first.reference_count:,} real images, as {first.extractor} sees them ({first.about})."
    yield "± reaches to the ends of the 95% interval; * is a figure that as many real images may have too."


def _value(found: Evaluation, name: str) -> str:
    one = found.figures[name]
    return _cell(one.value, one.low, one.high) + ("*" if found.at_floor(name) else " ")


def _floor(one: Figure) -> str:
    return _cell(one.floor, one.floor_low, one.floor_high) + " "


def _cell(value: float, low: float, high: float) -> str:
    return f"{number(value)} ± {number(max(value - low, high - value))}"
