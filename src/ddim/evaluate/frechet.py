"""The Fréchet distance of two sets of features: that of Gaussians with their means and covariances."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ddim.evaluate.intervals import Estimate, standard_error, two_sample_bootstrap

Array = NDArray[np.float64]
Times = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of features."""

    mean: Array  # (F,)
    covariance: Array  # (F, F)

    @cached_property
    def root(self) -> Array:
        """The symmetric square root of the covariance, by its eigenvalues."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T  # type: ignore[no-any-return]


def gaussian(features: Array, times: Times | None = None) -> Gaussian:
    """Return the mean and the unbiased covariance of a set, (N, F).

    `times`, (N,), tells how often each image counts in a bootstrap resample; None is once.
    """
    covariance = np.cov(features, rowvar=False, fweights=times)
    return Gaussian(np.average(features, axis=0, weights=times), np.atleast_2d(covariance))


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Return |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) for means mu and covariances A and B, in float64.

    The trace of (A B)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2). So no number becomes complex, and
    features without variance cost no precision.

    Reference: Heusel et al., arXiv 1706.08500, Eq. 6.
    """
    overlap = np.linalg.svd(a.root @ b.root, compute_uv=False).sum()
    squared = float(np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance) - 2 * overlap)
    return max(squared, 0.0)  # rounding can make it negative for equal sets


def frechet_error(x: Array, y: Array, resamples: int, seed: int) -> float:
    """Return the standard error of the Fréchet distance of (N, F) and (M, F), by resampling both sets."""
    return standard_error(*np.array(list(frechet_bootstrap(x, y, resamples, seed))).T)


def frechet_bootstrap(x: Array, y: Array, resamples: int, seed: int) -> Iterator[tuple[float, float, float]]:
    """Yield for each resample the distance of both sets, and of each set to the one that it is drawn from."""
    original_x, original_y = gaussian(x), gaussian(y)
    for times_x, times_y in _resamples(x, y, resamples, seed):
        a, b = gaussian(x, times_x), gaussian(y, times_y)
        yield frechet(a, b), frechet(a, original_x), frechet(b, original_y)


def frechet_excess(x: Array, base: Array, y: Array, resamples: int, seed: int) -> Estimate:
    """Return by how much the Fréchet distance of x to y exceeds that of `base`, with its standard error.

    Image i of x and image i of `base` come from the same noise, so they are resampled together: the noise that both
    distances share cancels. x and `base` are (N, F), and y is (M, F).
    """
    excesses = []
    for times_x, times_y in _resamples(x, y, resamples, seed):
        real = gaussian(y, times_y)
        excesses.append(frechet(gaussian(x, times_x), real) - frechet(gaussian(base, times_x), real))
    real = gaussian(y)
    value = frechet(gaussian(x), real) - frechet(gaussian(base), real)
    return Estimate(value, float(np.std(excesses, ddof=1)))


def _resamples(x: Array, y: Array, resamples: int, seed: int) -> Iterator[tuple[Times, Times]]:
    times_x, times_y = two_sample_bootstrap(x, y, resamples, seed)
    return zip(times_x.T, times_y.T, strict=True)
