"""The Fréchet distances of a run, by ladder, steps and eta, each of a number of images at which it compares."""

from dataclasses import dataclass
from typing import Any

from ddim.report.kinds import ETAS, SPACINGS
from ddim.report.measured import Measured, measured
from ddim.report.record import Record

Place = tuple[str, int, str]
"""(spacing, S, eta)"""


@dataclass(frozen=True)
class Quality:
    """`results/table1.json`. The distance of few images is larger than that of many, so only equal numbers compare.

    Attributes:
        count, few: images of most rows, and of those that take too long for more.
        rows: by their place.
        floors: distances of as many real images, by their number.
    """

    count: int
    few: int
    rows: dict[Place, dict[str, Any]]
    floors: dict[int, Measured]

    @property
    def spacings(self) -> list[str]:
        """The ladders that were measured."""
        return [spacing for spacing in SPACINGS if any(place[0] == spacing for place in self.rows)]

    @property
    def steps(self) -> list[int]:
        """Every S, rising."""
        return sorted({S for _, S, _ in self.rows})

    @property
    def etas(self) -> list[str]:
        """Every eta, sigma-hat last."""
        return [eta for eta in ETAS if any(place[2] == eta for place in self.rows)]

    @property
    def counts(self) -> list[int]:
        """The numbers of images at which there is something to compare, the larger first."""
        full = {row["count"] == self.count for row in self.rows.values()}
        return [count for count, there in ((self.count, True in full), (self.few, False in full)) if there]

    def at(self, place: Place, count: int) -> Measured | None:
        """The distance of so many images; None if it was not measured."""
        row = self.rows.get(place)
        if row is None or row["count"] < count:
            return None
        if row["count"] == count:
            return measured(row, "frechet")
        return measured(row, "few", "few_") if count == self.few else None

    def excess(self, place: Place) -> Measured | None:
        """By how much the distance of few images exceeds that of S = T with eta = 0 from the same noise."""
        row = self.rows.get(place)
        return None if row is None else measured(row, "excess", "excess_")

    def pair(self, one: Place, other: Place) -> tuple[Measured, Measured, int] | None:
        """Two distances of as many images each, and how many; None if that was not measured."""
        for count in (self.count, self.few):
            first, second = self.at(one, count), self.at(other, count)
            if first is not None and second is not None:
                return first, second, count
        return None


def quality(record: Record) -> Quality | None:
    """What the record holds of it; None if nothing."""
    facts = record.results.get("table1")
    if facts is None:
        return None
    count, few = facts["count"], facts["few"]
    rows = {(row["spacing"], row["steps"], row["eta"]): row for row in facts["rows"]}
    return Quality(count, few, rows, {few: measured(facts["few_floor"]), count: measured(facts["floor"])})
