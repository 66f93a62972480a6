"""A mean over images, and how well so many images tell it."""

import math
from typing import NamedTuple

from scipy.stats import t
from torch import Tensor


class Mean(NamedTuple):
    """A mean over images with its 95% interval, mean - margin to mean + margin.

    Attributes:
        mean: over the images.
        margin: how far other images of the kind, and other noise, would move the mean, by Student's t: 1.96
            standard errors where images are many. Infinite for a single image.
        images: how many.
    """

    mean: float
    margin: float
    images: int

    @classmethod
    def of(cls, values: Tensor) -> "Mean":
        """The mean of (N,) values, one for each image."""
        n = len(values)
        margin = float(t.ppf(0.975, n - 1)) * float(values.std()) / math.sqrt(n) if n > 1 else math.inf
        return cls(float(values.mean()), margin, n)
