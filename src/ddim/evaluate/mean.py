"""A mean over images, and how well so many images tell it."""

import math
from typing import NamedTuple

from torch import Tensor

NORMAL = 1.959964  # of the standard normal law, 95% lies within


class Mean(NamedTuple):
    """A mean over images with its 95% interval, mean - margin to mean + margin.

    Attributes:
        mean: over the images.
        margin: 1.96 standard errors: how much other images of the kind, and other noise, would change the mean.
            Infinite for a single image.
        images: how many.
    """

    mean: float
    margin: float
    images: int

    @classmethod
    def of(cls, values: Tensor) -> "Mean":
        """The mean of (N,) values, one for each image."""
        error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
        return cls(float(values.mean()), NORMAL * error, len(values))
