"""KID, the kernel distance of two sets of features: unbiased, and over all pairs of images.

MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), the first two over pairs of different images, for the kernel
k(x, y) = (x . y / F + 1)^3. No subset is drawn, so that it depends on no order and no chance.

Reference: Binkowski et al., arXiv 1801.01401, section 4; the estimator is Gretton et al., JMLR 2012, Eq. 3.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CHUNK = 1 << 22  # pairs at a time


def kernel(x: Array, y: Array) -> Array:
    """(x . y / F + 1)^3 for each pair of (N, F) and (M, F): (N, M)."""
    base: Array = x @ y.T / x.shape[1] + 1
    return base * base * base


def kid(x: Array, y: Array) -> float:
    """The distance of features (N, F) and (M, F); it may be below 0, as what is unbiased around 0 must."""
    once_x, once_y = np.ones((len(x), 1)), np.ones((len(y), 1))
    return float((within(x, once_x) + within(y, once_y) - 2 * between(x, y, once_x, once_y))[0])


def within(x: Array, times: Array) -> Array:
    """The mean of the kernel over the pairs of different images of one set.

    Args:
        x: (N, F).
        times: (N, R) how often each image counts, in each of R resamplings.

    Returns:
        (R,).
    """
    squares = np.square(times)
    own = kernel_with_itself(x) @ squares
    mean: Array = (_sum(x, x, times, times) - own) / (np.square(times.sum(0)) - squares.sum(0))
    return mean


def between(x: Array, y: Array, times_x: Array, times_y: Array) -> Array:
    """The mean of the kernel over the pairs of an image of one set, (N, F), and one of the other, (M, F): (R,)."""
    mean: Array = _sum(x, y, times_x, times_y) / (times_x.sum(0) * times_y.sum(0))
    return mean


def kernel_with_itself(x: Array) -> Array:
    """k(x, x) for each row: (N,)."""
    base: Array = np.square(x).sum(1) / x.shape[1] + 1
    return base * base * base


def _sum(x: Array, y: Array, times_x: Array, times_y: Array) -> Array:
    """The sum over all pairs, for each column of how often they count."""
    total: Array = np.zeros(times_x.shape[1])
    for rows in chunks(len(x), len(y)):
        total += (times_x[rows] * (kernel(x[rows], y) @ times_y)).sum(0)
    return total


def chunks(rows: int, columns: int) -> Iterator[slice]:
    """The rows of a table in parts of at most about `CHUNK` entries."""
    height = max(1, CHUNK // columns)
    return (slice(start, start + height) for start in range(0, rows, height))
