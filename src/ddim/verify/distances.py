"""Distances to an endpoint as they are kept and shown, and what they suggest."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One solver on one ladder within one budget.

    Attributes:
        solver, spacing: names.
        budget, calls, steps: the calls that were allowed, those that were made, and the steps S that they bought.
        distance: the root mean square over the pixels, in units in which images lie in [-1, 1].
    """

    solver: str
    spacing: str
    budget: int
    calls: int
    steps: int
    distance: float


@dataclass(frozen=True)
class Distances:
    """All rows, and what they are measured against.

    Attributes:
        usual: the solver and the ladder that the model is sampled with by default.
        floor: how far half as many steps end from the reference; of a first-order method that is about its own
            error, so smaller distances than this mean little.
        reference_steps, count, seed: of the reference.
        rows: see `Row`.
    """

    usual: tuple[str, str]
    floor: float
    reference_steps: int
    count: int
    seed: int
    rows: tuple[Row, ...]

    @property
    def solvers(self) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(row.solver for row in self.rows))

    @property
    def spacings(self) -> list[str]:
        """Likewise."""
        return list(dict.fromkeys(row.spacing for row in self.rows))

    @property
    def budgets(self) -> list[int]:
        """Rising."""
        return sorted({row.budget for row in self.rows})

    def curve(self, solver: str, spacing: str) -> tuple[list[int], list[float]]:
        """Budgets and distances of one solver on one ladder."""
        rows = [row for row in self.rows if (row.solver, row.spacing) == (solver, spacing)]
        return [row.budget for row in rows], [row.distance for row in rows]

    def best(self, budget: int) -> Row:
        """The nearest within a budget."""
        return min((row for row in self.rows if row.budget == budget), key=lambda row: row.distance)

    def suggestions(self) -> Iterator[str]:
        """For each budget what to choose, beside the default, in words."""
        for budget in self.budgets:
            best = self.best(budget)
            words = f"With {budget} calls: {best.solver} on the {best.spacing} ladder, distance {best.distance:.3f}"
            now = [
                row.distance for row in self.rows if (row.solver, row.spacing, row.budget) == (*self.usual, budget)
            ]
            if now and self.usual != (best.solver, best.spacing):
                words += f"; {self.usual[0]} on {self.usual[1]}, the model's default: {now[0]:.3f}"
            yield words + "."

    def lines(self) -> Iterator[str]:
        """A table, the nearest ladder of each solver at each number of calls, and then the suggestions."""
        width = max(map(len, [*self.solvers, "solver"]))
        yield "  ".join(["solver".ljust(width), *(f"{budget} calls".rjust(18) for budget in self.budgets)])
        for solver in self.solvers:
            cells = []
            for budget in self.budgets:
                rows = [row for row in self.rows if (row.solver, row.budget) == (solver, budget)]
                near = min(rows, key=lambda row: row.distance, default=None)
                cells.append("-" if near is None else f"{near.distance:.3f} {near.spacing:>10}")
            yield "  ".join([solver.ljust(width), *(cell.rjust(18) for cell in cells)])
        yield f"Distances below about {self.floor:.3f}, the error of the endpoint itself, mean little."
        yield from self.suggestions()

    def facts(self) -> dict[str, Any]:
        """For a JSON file."""
        return {**asdict(self), "suggestions": list(self.suggestions())}

    @classmethod
    def read(cls, facts: dict[str, Any]) -> "Distances":
        """From such a JSON file."""
        known = {name: facts[name] for name in cls.__dataclass_fields__}
        rows = tuple(Row(**row) for row in facts["rows"])
        return cls(**{**known, "usual": tuple(facts["usual"]), "rows": rows})
