"""Intervals: how far a metric would move if equally many images were drawn again, and where real images lie.

A confidence interval is the value ± 1.96 standard errors. Percentiles of bootstrapped distances do not serve: a set
that is resampled from another with replacement lies farther off than that one, so they are too high.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t
from torch import Tensor

Array = NDArray[np.float64]
LEVEL = 0.95
Z = float(norm.ppf((1 + LEVEL) / 2))  # 1.96


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


class Range(NamedTuple):
    """Lower and upper end."""

    low: float
    high: float


class Mean(NamedTuple):
    """A mean over images with its 95% interval, mean - margin to mean + margin.

    The margin is Student's: how far other images of the kind, and other noise, would move the mean. It is 1.96
    standard errors for many images, and infinite for a single image.
    """

    mean: float
    margin: float
    images: int

    @classmethod
    def of(cls, values: Tensor) -> "Mean":
        """Return the mean of (N,) values, one for each image."""
        n = len(values)
        margin = float(t.ppf(0.975, n - 1)) * float(values.std()) / math.sqrt(n) if n > 1 else math.inf
        return cls(float(values.mean()), margin, n)


def two_sample_bootstrap(x: Array, y: Array, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each image of x, (N, R), and of y, (M, R), is drawn in each of R bootstrap resamples."""
    for i, n in enumerate((len(x), len(y))):
        yield np.random.default_rng([seed, i]).multinomial(n, np.full(n, 1 / n), size=resamples).T


def standard_error(both: Array, x: Array, y: Array) -> float:
    """Return the standard error of a squared distance, corrected for the noise that resampling adds.

    With d the difference of two distributions and S the covariance of the sampling noise, the distance of two sets
    has the variance 4 d'Sd + 2 tr S^2. Resampling adds the noise once more: the distance of two resampled sets has
    4 d'Sd + 6 tr S^2, and that of resampled sets to their originals 2 tr S^2. On MNIST with d = 0 the result was
    1.1 to 1.3 times the standard deviation over new draws; uncorrected, 1.5 to 1.8 times.

    `both` holds R distances of the resampled sets from each other; x and y those of each set from its original.
    """
    chance = (x.std(ddof=1) + y.std(ddof=1)) ** 2
    return math.sqrt(max(both.var(ddof=1) - 2 * chance, chance))


def confidence_interval(value: float, error: float, limits: Range) -> Range:
    """Return the 95% interval of a metric with a standard error, clipped to the metric's limits."""
    return Range(max(value - Z * error, limits.low), min(value + Z * error, limits.high))


def prediction_interval(values: Sequence[float], limits: Range, part: float = 0.0) -> tuple[float, Range]:
    """Return the mean of several draws, and the 95% interval of one more draw (Student's t), clipped to limits.

    Args:
        values: the metric of each draw, at least two.
        limits: of the metric.
        part: the share of a finite pool that each draw takes, in [0, 1). Draws that share images differ too little,
            by a factor 1 - part in variance, and their mean inherits what they share.
    """
    n, middle = len(values), mean(values)
    wider = (1 + part + (1 - part) / n) / (1 - part)
    reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) * stdev(values) * math.sqrt(wider)
    return middle, Range(max(middle - reach, limits.low), min(middle + reach, limits.high))


def wilson(share: float, count: int) -> Range:
    """Return the 95% interval of a share of `count` independent trials (Wilson, JASA 1927)."""
    middle, width = share + Z**2 / (2 * count), Z * math.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
    low, high = (middle - width) / (1 + Z**2 / count), (middle + width) / (1 + Z**2 / count)
    return Range(min(low, share), max(high, share))  # rounding must not put a share of 1 above its interval
