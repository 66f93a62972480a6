"""Numbers as text, and estimates with their intervals."""

import math
from dataclasses import astuple, dataclass

from ddim.text import plural


@dataclass(frozen=True)
class Estimate:
    """A measured value with the ends of its 95% interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float | None, low: float | None, high: float | None) -> "Estimate | None":
        """Return an estimate; None if a number is unknown."""
        return None if value is None or low is None or high is None else cls(value, low, high)

    @property
    def ends(self) -> tuple[float, float, float]:
        """The value and the ends of the interval, for the limits of an axis."""
        return (self.value, self.low, self.high)

    def below(self, other: "Estimate") -> bool:
        """Return whether this interval lies wholly below the other."""
        return self.high < other.low

    def no_worse(self, other: "Estimate") -> bool:
        """Return whether the value is at most the upper end of the other's interval."""
        return self.value <= other.high

    def __str__(self) -> str:  # e.g. 14.2 [13.0, 15.3]
        value, low, high = (f"{number:,.{self._decimals}f}" for number in astuple(self))
        return f"{value} [{low}, {high}]"

    @property
    def short(self) -> str:
        """The value and half the width of the interval, e.g. 14.2 ± 1.2."""
        return f"{self.value:,.{self._decimals}f} ± {(self.high - self.low) / 2:,.{self._decimals}f}"

    @property
    def _decimals(self) -> int:
        """Two significant digits of half the interval, or three of the value if the interval has no width."""
        half = (self.high - self.low) / 2
        size, digits = (half, 2) if half > 0 else (abs(self.value), 3)
        return min(max(digits - 1 - math.floor(math.log10(size)), 0), 9) if 0 < size < math.inf else 0


def duration(seconds: float, suffix: str) -> tuple[str, str]:
    """Return a length of time as (number, unit), e.g. ("1.3", "minutes of training")."""
    size, unit = next((one for one in ((3600, "hour"), (60, "minute")) if seconds >= one[0]), (1, "second"))
    number = f"{seconds / size:.3g}"
    return number, f"{plural(number, unit)} {suffix}"


def short(number: int) -> str:
    """Return a count in at most three digits, e.g. 385 k."""
    for size, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def three(number: float) -> str:
    """Return a number in three digits, e.g. 4.40, or a larger one without its fraction."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:#.3g}"


def small(number: float) -> str:
    """Return a number in three digits, or below 0.001 as a power of ten, e.g. 4.0 × 10⁻⁵."""
    return power(number) if 0 < abs(number) < 1e-3 else three(number)


def power(number: float) -> str:
    """Return a small number as 4.0 × 10⁻⁵."""
    if number == 0:
        return "0"
    digits, exponent = f"{number:.1e}".split("e")
    return f"{digits} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def epochs(number: float) -> str:
    """Return a number of epochs: 12, or 0.4 where a fraction matters."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def counted_epochs(number: float) -> str:
    """Return a number of epochs with its noun: "12 epochs", "1 epoch", "0.4 epochs"."""
    text = epochs(number)
    return f"{text} {plural(text, 'epoch')}"


def percent(log: float) -> str:
    """Return the size of a relative change from its logarithm, e.g. "12%" for a ratio of 1.12 or of 0.88."""
    size = 100 * abs(math.expm1(log))
    return f"{size:,.0f}%" if size >= 10 else f"{size:.1f}%"
