"""Feature extractors: they turn images into the features in which two sets of images are compared.

Each file registers its own; so may yours, with `register`.
"""

import contextlib
import pkgutil
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from ddim.errors import UserError
from ddim.registry import Registry

Shape = tuple[int, int, int]  # (C, H, W) of every image


class Extractor(Protocol):
    """A fixed function from an image to its features. Compare distances of one fingerprint only."""

    name: str  # the name that `get` takes
    about: str  # one line for reports: what the features are and how good they are
    fingerprint: str  # changes with the weights and with the arithmetic
    shape: Shape  # (C, H, W) of the images that it takes
    dim: int  # F, the number of features of an image

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the features, (B, F) float64, of pixels (B, C, H, W) uint8 in 256 grey levels."""
        ...


@runtime_checkable
class Classifier(Extractor, Protocol):
    """An extractor that also classifies, so that the accuracy of conditional samples can be measured."""

    classes: Sequence[str]  # names of the classes; the classes of real images are matched to them by name

    def classify(self, pixels: Tensor) -> Tensor:
        """Return indices into `classes`, (B,) int64, for pixels (B, C, H, W) uint8."""
        ...


Factory = TypeVar("Factory", bound=Callable[[Shape], Extractor])

extractors: Registry[Callable[[Shape], Extractor]] = Registry("extractor")
_defaults: dict[str, str] = {}  # data set -> extractor


def register(name: str, *, default_for: str | None = None) -> Callable[[Factory], Factory]:
    """Decorate a class or function that takes the shape (C, H, W) and returns an `Extractor`.

    Args:
        name: the name for `get` and for `--extractor`.
        default_for: the name of a data set, for whose images `choose` takes this extractor unless it refuses them.
    """

    def add(factory: Factory) -> Factory:
        extractors[name] = factory
        if default_for is not None:
            _defaults[default_for] = name
        return factory

    return add


def get(name: str, shape: Shape) -> Extractor:
    """Return the extractor called `name`, one of `names()`, for images of one shape.

    Raises:
        UserError: an unknown name, a shape that the extractor does not take, or weights that cannot be read or
            downloaded ("inception").
    """
    return extractors[name](shape)


def choose(shape: Shape, data: str | None = None) -> Extractor:
    """Return the extractor registered as the default of the data set called `data`, otherwise "scattering".

    Raises:
        UserError: a shape that "scattering" does not take.
    """
    if data in _defaults:
        with contextlib.suppress(UserError):  # another shape: the images were resized
            return get(_defaults[data], shape)
    return get("scattering", shape)


def names() -> list[str]:
    """Return the names that `get` takes."""
    return list(extractors)


for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
