"""The numbers behind the figures, as tables that the page and the digest both show."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

from ddim.report.measured import Measured, figures, flat, floor, measured
from ddim.report.names import ETA, FIGURES
from ddim.report.numbers import small, three
from ddim.report.quality import quality
from ddim.report.record import Record
from ddim.report.solvers import kept


@dataclass(frozen=True)
class Cell:
    """What a place of a table says, and the number by which it is sorted; None for words and for nothing."""

    words: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table in plain words.

    Attributes:
        head: of each column.
        rows: as many cells as there are columns.
        caption, note: above and below it; may be empty.
    """

    head: list[str]
    rows: list[list[Cell]]
    caption: str = ""
    note: str = ""


NONE = Cell("–")


def tables(record: Record) -> dict[str, list[Table]]:
    """The tables of each plate that has some."""
    makers: dict[str, Callable[[Record], list[Table]]] = {
        "timing": _timing,
        "table1": _table1,
        "consistency": _consistency,
        "reconstruction": _reconstruction,
        "likelihood": _likelihood,
        "solvers": _solvers,
        "evaluation": _evaluation,
        "compare": _compare,
    }
    made = {name: make(record) for name, make in makers.items() if name in record.results}
    return {name: found for name, found in made.items() if any(table.rows for table in found)}


def _timing(record: Record) -> list[Table]:
    facts = record.results["timing"]
    rows = [
        [
            _count(row["steps"]),
            Cell(three(row["seconds"]), row["seconds"]),
            Cell(three(1000 * row["seconds_per_image"]), row["seconds_per_image"]),
            Cell(f"{row['ratio_to_forwards']:.2f}", row["ratio_to_forwards"]),
        ]
        for row in facts["rows"]
    ]
    threads = f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}"
    note = (
        f"On {facts['device']}, {threads}, {facts['machine']['processor']}. Up to S = 100 the middle one of three "
        "runs."
    )
    head = ["steps S", f"seconds for {facts['batch']} images", "ms per image", "× bare network"]
    return [Table(head, rows, note=note)]


def _table1(record: Record) -> list[Table]:
    """As DDIM's Table 1: S across, eta down; one for each ladder and each number of images."""
    found, facts = quality(record), record.results["table1"]
    if found is None:
        return []
    head, made = ["σ", *(f"S = {S:,}" for S in found.steps)], []
    for count, spacing in product(found.counts, found.spacings):
        rows = [
            [Cell(ETA[eta], i), *(_within(found.at((spacing, S, eta), count)) for S in found.steps)]
            for i, eta in enumerate(found.etas)
        ]
        made.append(Table(head, rows, f"{spacing.capitalize()} ladder, {count:,} images each"))
    real = " and ".join(f"{count:,} real images come to {found.floors[count]}" for count in found.counts)
    to = f"Fréchet distance to {facts['reference_count']:,} images, ± half of the 95% interval"
    note = f"{to}; {real}. {facts['about']}"
    return [*made[:-1], replace(made[-1], note=note)] if made else []


def _consistency(record: Record) -> list[Table]:
    facts = record.results["consistency"]
    rows = [[_count(row["steps"]), Cell(f"{row['rms']:.3f}", row["rms"])] for row in facts["rows"]]
    longest = max(row["steps"] for row in facts["rows"])
    note = f"Images of different noise are {facts['between']:.3f} apart."
    return [Table(["steps S", f"rms to S = {longest:,}"], rows, note=note)]


def _reconstruction(record: Record) -> list[Table]:
    facts = record.results["reconstruction"]
    rows = [[_count(row["steps"]), _within(measured(row, "error"))] for row in facts["rows"]]
    note = f"{facts['count']:,} held-out images, ± half of the 95% interval."
    return [Table(["steps S", "mean squared error"], rows, note=note)]


def _likelihood(record: Record) -> list[Table]:
    facts = record.results["likelihood"]
    bound, flow = facts["bound"], facts.get("flow")
    between = bound["bits"] - bound["prior"] - bound["decoder"]
    rows = [
        [Cell("the bound"), _within(measured(bound, "bits"))],
        [Cell("of it the prior, L_T"), Cell(small(bound["prior"]), bound["prior"])],
        [Cell("of it the terms between"), Cell(small(between), between)],
        [Cell("of it the decoder, L_0"), Cell(small(bound["decoder"]), bound["decoder"])],
    ]
    if flow is not None:
        rows.append([Cell(f"the flow, S = {flow['steps']}"), _within(measured(flow, "bits"))])
        rows.append([Cell("the flow in half as many steps"), Cell(small(flow["coarse"]), flow["coarse"])])
    note = f"{facts['count']:,} held-out images in {facts['grey_levels']} grey levels, ± half of the 95% interval."
    return [Table(["what", "bits per dimension"], rows, note=note)]


def _solvers(record: Record) -> list[Table]:
    """Of each solver the nearest within each budget, on whichever ladder."""
    found = kept(record)
    if found is None:
        return []
    rows = []
    for solver in found.solvers:
        cells = [Cell(solver)]
        for budget in found.budgets:
            near = [row for row in found.rows if (row.solver, row.budget) == (solver, budget)]
            near = sorted((row for row in near if math.isfinite(row.distance)), key=lambda row: row.distance)
            cells.append(Cell(f"{small(near[0].distance)} {near[0].spacing}", near[0].distance) if near else NONE)
        rows.append(cells)
    note = f"Distances below about {small(found.floor)}, the error of the endpoint itself, mean little."
    return [Table(["solver", *(f"{budget} calls" for budget in found.budgets)], rows, note=note)]


def _evaluation(record: Record) -> list[Table]:
    facts = record.results["evaluation"]
    rows = []
    for name, (one, real) in figures(facts).items():
        rows.append([Cell(FIGURES.get(name, name)), _within(one), _within(real)])
    note = (
        f"{facts['count']:,} samples ({facts['sampling']}) against {facts['reference_count']:,} images, ± half of "
        f"the 95% interval. Real images: {facts['floor']}. {facts['about']}"
    )
    return [Table(["figure", "samples", "real images"], rows, note=note)]


def _compare(record: Record) -> list[Table]:
    """The subjects in their order, below the real images for each number of them."""
    facts = record.results["compare"]
    shown = [name for name in FIGURES if all(flat(row, name) for row in facts["rows"])]
    rows = []
    for row in {row["floor_count"]: row for row in facts["rows"]}.values():
        real = (_within(floor(row, f"{name}_")) for name in shown)
        rows.append([Cell("real images"), _count(round(row["floor_count"])), NONE, NONE, NONE, *real])
    for row in facts["rows"]:
        sizes = [_count(row[name]) if name in row else NONE for name in ("parameters", "images_seen")]
        above = row["frechet"] - row["frechet_floor"]
        figures = (_within(flat(row, name)) for name in shown)
        rows.append([Cell(row["name"]), _count(round(row["count"])), *sizes, Cell(small(above), above), *figures])
    fewer = [row["name"] for row in facts["rows"] if row["floor_count"] < row["count"]]
    few = f" Too few real images for {', '.join(fewer)}: the rank is too good." if fewer else ""
    note = f"Against {facts['reference_count']:,} images, ± half of the 95% interval.{few} {facts['about']}"
    head = ["what", "images", "parameters", "images seen", "above floor", *(FIGURES[name] for name in shown)]
    return [Table(head, rows, note=note)]


def _count(number: int) -> Cell:
    return Cell(f"{number:,}", number)


def _within(one: Measured | None) -> Cell:
    return NONE if one is None else Cell(one.short, one.value)
