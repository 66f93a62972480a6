"""KID, the kernel inception distance of two sets of features: unbiased, over all pairs of images.

MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y), the first two over pairs of different images, for the kernel
k(x, y) = (x . y / F + 1)^3. No subsets are drawn, so the result depends neither on the order nor on chance.

Reference: Binkowski et al., arXiv 1801.01401, section 4; the estimator is Gretton et al., JMLR 2012, Eq. 3.
"""

from collections.abc import Iterator

import numpy as np

from ddim.evaluate.intervals import Array, standard_error, two_sample_bootstrap

CHUNK = 1 << 22  # pairs at a time


def kernel(x: Array, y: Array) -> Array:
    """Return (x . y / F + 1)^3 for each pair of (N, F) and (M, F): (N, M)."""
    base: Array = x @ y.T / x.shape[1] + 1
    return base * base * base


def kid(x: Array, y: Array) -> float:
    """Return the distance of features (N, F) and (M, F). It can be below 0, as it is unbiased."""
    once_x, once_y = np.ones((len(x), 1)), np.ones((len(y), 1))
    return float((within(x, once_x) + within(y, once_y) - 2 * between(x, y, once_x, once_y))[0])


def kid_error(x: Array, y: Array, resamples: int, seed: int) -> float:
    """Return the standard error of the KID of (N, F) and (M, F), by resampling both sets."""
    tx, ty = (times.astype(np.float64) for times in two_sample_bootstrap(x, y, resamples, seed))
    a, b = within(x, tx), within(y, ty)  # the terms of the original sets are constant
    to_x, to_y = (between(one, one, times, np.ones_like(times)) for one, times in ((x, tx), (y, ty)))
    return standard_error(a + b - 2 * between(x, y, tx, ty), a - 2 * to_x, b - 2 * to_y)


def within(x: Array, times: Array) -> Array:
    """Return the mean of the kernel over the pairs of different images of one set, (N, F), in each resample: (R,).

    Args:
        x, times: the features, and how often each image counts in each of R bootstrap resamples, (N, R).
    """
    squares = np.square(times)
    base: Array = np.square(x).sum(1) / x.shape[1] + 1
    own = (base * base * base) @ squares  # k(x, x)
    mean: Array = (_sum(x, x, times, times) - own) / (np.square(times.sum(0)) - squares.sum(0))
    return mean


def between(x: Array, y: Array, times_x: Array, times_y: Array) -> Array:
    """Return the mean of the kernel over the pairs of images of two sets, (N, F) and (M, F): (R,)."""
    mean: Array = _sum(x, y, times_x, times_y) / (times_x.sum(0) * times_y.sum(0))
    return mean


def _sum(x: Array, y: Array, times_x: Array, times_y: Array) -> Array:
    """Return the weighted sum of the kernel over all pairs, for each resample."""
    total: Array = np.zeros(times_x.shape[1])
    for rows in chunks(len(x), len(y)):
        total += (times_x[rows] * (kernel(x[rows], y) @ times_y)).sum(0)
    return total


def chunks(rows: int, columns: int) -> Iterator[slice]:
    """Return the rows of a table in parts of at most about `CHUNK` entries."""
    height = max(1, CHUNK // columns)
    return (slice(start, start + height) for start in range(0, rows, height))
