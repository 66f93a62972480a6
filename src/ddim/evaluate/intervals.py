"""How sure a figure is: its interval, and where it would lie for real images.

An interval is the value +- 1.96 standard errors: how far the figure would move if as many images were drawn anew.
The percentiles of resampled distances will not do: a set drawn from another with replacement lies further off than
that one does, so they are too high.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

Array = NDArray[np.float64]
LEVEL = 0.95
Z = float(norm.ppf((1 + LEVEL) / 2))  # 1.96


class Measured(NamedTuple):
    """A figure and its standard error."""

    value: float
    error: float


class Range(NamedTuple):
    """From the least to the most."""

    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """One figure, and what to read it by.

    Attributes:
        value: of the samples.
        low, high: its 95% interval.
        floor: the mean of the figure for real images in place of the samples.
        floor_low, floor_high: where 95 in 100 of those lie, and so a perfect sampler's figure.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_low: float
    floor_high: float

    def facts(self) -> dict[str, float | None]:
        """For a JSON file, which knows no number that is none."""
        return {name: one if math.isfinite(one) else None for name, one in vars(self).items()}

    @classmethod
    def read(cls, facts: dict[str, Any]) -> "Figure":
        """From such a JSON file."""
        return cls(**{name: math.nan if facts[name] is None else facts[name] for name in cls.__dataclass_fields__})


def resamplings(count: int, many: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """How often each of `count` images is drawn in `many` resamplings with replacement: (count, many)."""
    return np.random.default_rng(list(seed)).multinomial(count, np.full(count, 1 / count), size=many).T


def around(value: float, error: float, limits: Range) -> Range:
    """The interval of a figure with a standard error, cut to what it can be."""
    return Range(max(value - Z * error, limits.low), min(value + Z * error, limits.high))


def of_draws(values: Sequence[float], limits: Range, part: float = 0.0) -> tuple[float, Range]:
    """The mean of figures, and where 95 in 100 others drawn alike lie (Student's t), cut to what they can be.

    Args:
        values: of several draws.
        limits: of the figure.
        part: what share of a finite pool each draw took. Draws that share images differ too little, by 1 - part in
            variance, and what all of them share their mean has too.
    """
    n, middle = len(values), mean(values)
    wider = (1 + part + (1 - part) / n) / (1 - part)
    reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) * stdev(values) * math.sqrt(wider)
    return middle, Range(max(middle - reach, limits.low), min(middle + reach, limits.high))


def wilson(share: float, count: int) -> Range:
    """The interval of a share of independent yeses and noes: Wilson, JASA 1927."""
    middle, width = share + Z**2 / (2 * count), Z * math.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
    low, high = (middle - width) / (1 + Z**2 / count), (middle + width) / (1 + Z**2 / count)
    return Range(min(low, share), max(high, share))  # rounding must not put 1 above the interval of 1
