"""A figure with its interval, and what can be told of two of them."""

import math
from typing import Any, NamedTuple

from ddim.report.reading import SIGNED, fits


class Measured(NamedTuple):
    """What was measured, and how far chance may have taken it.

    Attributes:
        value: of all that was measured.
        low, high: ends of its 95% interval.
    """

    value: float
    low: float
    high: float

    def below(self, other: "Measured") -> bool:
        """Whether it lies below for sure: the intervals do not meet."""
        return self.high < other.low

    def no_worse(self, other: "Measured") -> bool:
        """Whether its value lies no higher than chance may have taken the other."""
        return self.value <= other.high

    def __str__(self) -> str:
        """E.g. 14.2 [13.0, 15.3]."""
        value, low, high = (f"{number:,.{self._decimals}f}" for number in self)
        return f"{value} [{low}, {high}]"

    @property
    def short(self) -> str:
        """The value and half the interval, e.g. 14.2 ± 1.2."""
        return f"{self.value:,.{self._decimals}f} ± {(self.high - self.low) / 2:,.{self._decimals}f}"

    @property
    def _decimals(self) -> int:
        """Those that show two digits of half the interval; three of the value if it has none."""
        half = (self.high - self.low) / 2
        size, digits = (half, 2) if half > 0 else (abs(self.value), 3)
        return min(max(digits - 1 - math.floor(math.log10(size)), 0), 9) if 0 < size < math.inf else 0


def measured(facts: dict[str, Any], value: str = "value", prefix: str = "") -> Measured:
    """From a table of facts: its `value`, and its low and high, whose names may begin with a prefix."""
    return Measured(facts[value], facts[f"{prefix}low"], facts[f"{prefix}high"])


def figures(facts: dict[str, Any]) -> dict[str, tuple[Measured, Measured | None]]:
    """Those of an evaluation that are numbers, each with what real images come to."""
    names = ("value", "low", "high")
    whole = {name: one for name, one in facts["figures"].items() if fits(one, dict.fromkeys(names, SIGNED))}
    return {name: (measured(one), floor(one)) for name, one in whole.items()}


def floor(facts: dict[str, Any], prefix: str = "") -> Measured | None:
    """What real images come to, if the facts tell it, under names that may begin with a prefix."""
    names = [f"{prefix}{name}" for name in ("floor", "floor_low", "floor_high")]
    if not fits(facts, dict.fromkeys(names, SIGNED)):
        return None
    return measured(facts, f"{prefix}floor", f"{prefix}floor_")


def flat(facts: dict[str, Any], name: str) -> Measured | None:
    """A figure by its name, if a table with plain numbers tells it and its interval."""
    names = (name, f"{name}_low", f"{name}_high")
    return measured(facts, name, f"{name}_") if fits(facts, dict.fromkeys(names, SIGNED)) else None
