"""The Fréchet distance of two sets of features: that of two Gaussians with their means and covariances."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of features.

    Attributes:
        mean: (F,).
        covariance: (F, F).
    """

    mean: Array
    covariance: Array

    @cached_property
    def root(self) -> Array:
        """The symmetric square root of the covariance, by its eigenvalues."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T  # type: ignore[no-any-return]


def gaussian(features: Array, times: NDArray[np.int64] | None = None) -> Gaussian:
    """Return the mean and the unbiased covariance of a set.

    Args:
        features: (N, F).
        times: (N,) how often each image counts in a bootstrap resample; None is once.
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
