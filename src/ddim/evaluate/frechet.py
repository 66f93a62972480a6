"""The Fréchet distance of two sets of features: of the Gaussians that have their means and covariances."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussian:
    """What the distance knows of a set.

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
    """The mean and the unbiased covariance of a set.

    Args:
        features: (N, F).
        times: (N,) how often each counts, as a resampling draws them; None is once.
    """
    covariance = np.cov(features, rowvar=False, fweights=times)
    return Gaussian(np.average(features, axis=0, weights=times), np.atleast_2d(covariance))


def frechet(a: Gaussian, b: Gaussian) -> float:
    """|mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)), of means mu and covariances A and B, in float64.

    The trace of (A B)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2): nothing turns complex, and
    features that never vary cost no digits.

    Reference: Heusel et al., arXiv 1706.08500, Eq. 6.
    """
    overlap = np.linalg.svd(a.root @ b.root, compute_uv=False).sum()
    squared = float(np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance) - 2 * overlap)
    return max(squared, 0.0)  # of equal sets the rounding may leave less
