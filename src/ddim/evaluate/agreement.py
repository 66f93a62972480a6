"""Whether a classifier sees in each sample the class that was asked for."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.errors import UserError
from ddim.evaluate.classifier import Classifier
from ddim.evaluate.extractor import Extractor
from ddim.evaluate.features import as_pixels
from ddim.evaluate.intervals import Figure, wilson

CLASSES = 10  # the digits


def agreement(eye: Extractor, pixels: Tensor, labels: Sequence[int] | Tensor, reference: object) -> Figure:
    """The share of samples in which it sees that class; the floor is its accuracy on real images.

    Args:
        eye: a classifier.
        pixels: (N, C, H, W) uint8.
        labels: (N,) indices into the reference's classes, if it is an `Images`; else classes of the classifier.
        reference: real images; those of an `Images` have labels to see how often the classifier is right.

    Raises:
        UserError: no classifier, or labels that cannot be.
    """
    if not isinstance(eye, Classifier):
        raise UserError(
            f"{eye.name} names no classes: leave the labels out, or take a classifier as the extractor."
        )
    names = reference.classes if isinstance(reference, Images) else tuple(map(str, range(CLASSES)))
    if not known(names):
        raise UserError(f"{eye.name} does not know the classes {', '.join(names)}: leave the labels out.")
    classes = torch.tensor([int(name) for name in names])  # mnist --classes 3,8 calls the 3 class 0
    asked = torch.as_tensor(labels, dtype=torch.long)
    if asked.shape != (len(pixels),) or not ((asked >= 0) & (asked < len(classes))).all():
        raise UserError(
            f"The labels must be {len(pixels):,} whole numbers from 0 to {len(classes) - 1}; correct them."
        )
    share = _right(eye, pixels, classes[asked])
    low, high = wilson(share, len(pixels))
    if not isinstance(reference, Images):
        return Figure(share, low, high, math.nan, math.nan, math.nan)
    floor = _right(eye, as_pixels(reference), classes[reference.labels])
    return Figure(share, low, high, floor, *wilson(floor, len(pixels)))


def known(names: Sequence[str]) -> bool:
    """Whether classes of these names are digits, as a classifier names them."""
    return all(name.isdecimal() and int(name) < CLASSES for name in names)


def _right(eye: Classifier, pixels: Tensor, classes: Tensor) -> float:
    return (eye.classify(pixels) == classes).double().mean().item()
