"""What turns images into features, the numbers that a distance between two sets of images is taken in."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from torch import Tensor

from ddim.evaluate.classifier import SIZES, Classifier
from ddim.evaluate.inception import Inception
from ddim.evaluate.scattering import Scattering
from ddim.registry import Registry

Shape = tuple[int, int, int]
"""(C, H, W) of every image."""


class Extractor(Protocol):
    """A fixed function from an image to its features. A distance only compares with others of one fingerprint.

    Attributes:
        name: that `get` takes.
        about: what it is and how good, in one line, for reports.
        fingerprint: which changes with the weights or the arithmetic.
        shape: (C, H, W) of the images it takes.
        dim: number of features of an image, F.
        classes: number of classes that it tells apart; None if it is no `Classifier`.
    """

    name: str
    about: str
    fingerprint: str
    shape: Shape
    dim: int
    classes: int | None

    def __call__(self, pixels: Tensor) -> Tensor:
        """Args: pixels (B, C, H, W) uint8 in 256 grey levels. Returns features (B, F) float64."""
        ...


extractors: Registry[Callable[[Shape], Extractor]] = Registry("extractor")
extractors.update({name: partial(Classifier, name) for name in SIZES})
extractors.update({"scattering": Scattering, "inception": Inception})


def get(name: str, shape: Shape) -> Extractor:
    """The extractor called `name`, for images of one shape.

    Args:
        name: one of `names()`.
        shape: (C, H, W) of the images.

    Raises:
        UserError: an unknown name, or a shape that it cannot take; for "inception", its weights cannot be had.
    """
    return extractors[name](shape)


def choose(shape: Shape, data: str | None = None) -> Extractor:
    """The extractor for a data set: the classifier that knows its images, or scattering for all others.

    Args:
        shape: (C, H, W) of the images.
        data: the name of the data set, if it has one, e.g. "mnist".

    Raises:
        UserError: a shape that scattering cannot take.
    """
    known = data is not None and data in SIZES and tuple(shape) == SIZES[data].shape
    return get(data if data is not None and known else "scattering", shape)


def names() -> list[str]:
    """The names that `get` takes."""
    return list(extractors)
