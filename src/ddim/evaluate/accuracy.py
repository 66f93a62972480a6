"""The accuracy of conditional samples: how often a classifier sees the requested class."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.errors import UserError
from ddim.evaluate.evaluation import Metric
from ddim.evaluate.extractors import Classifier, Extractor
from ddim.evaluate.features import as_pixels
from ddim.evaluate.intervals import wilson


def accuracy(extractor: Extractor, pixels: Tensor, labels: Sequence[int] | Tensor, reference: object) -> Metric:
    """Return the share of samples that the extractor, a `Classifier`, assigns to the requested class.

    Args:
        extractor, pixels: the classifier, and the samples, (N, C, H, W) uint8.
        labels: (N,) indices into the classes of the reference if that is an `Images`, otherwise into those of the
            classifier.
        reference: real images. The floor is known only for an `Images`, which has labels.

    Raises:
        UserError: no classifier, classes that it does not know, or labels out of range.
    """
    if not isinstance(extractor, Classifier):
        raise UserError(
            f"The extractor {extractor.name} does not classify: leave the labels out, or take a classifier."
        )
    names = reference.classes if isinstance(reference, Images) else tuple(extractor.classes)
    if not knows(extractor, names):
        raise UserError(f"{extractor.name} does not know the classes {', '.join(names)}: leave the labels out.")
    classes = torch.tensor([_index(extractor, name) for name in names])  # in mnist --classes 3,8, class 0 is the 3
    requested = torch.as_tensor(labels, dtype=torch.long)
    if requested.shape != (len(pixels),) or not ((requested >= 0) & (requested < len(classes))).all():
        raise UserError(
            f"The labels must be {len(pixels):,} whole numbers from 0 to {len(classes) - 1}; correct them."
        )
    share = (extractor.classify(pixels) == classes[requested]).double().mean().item()
    low, high = wilson(share, len(pixels))
    if not isinstance(reference, Images):
        return Metric(share, low, high, math.nan, math.nan, math.nan)
    floor = (extractor.classify(as_pixels(reference)) == classes[reference.labels]).double().mean().item()
    return Metric(share, low, high, floor, *wilson(floor, len(pixels)))


def knows(extractor: Extractor, names: Sequence[str]) -> bool:
    """Return whether the extractor is a `Classifier` of classes of these names."""
    return isinstance(extractor, Classifier) and all(_index(extractor, name) is not None for name in names)


def _index(classifier: Classifier, name: str) -> int | None:
    if name.isdecimal():
        name = str(int(name))  # the class "03" is "3"
    return list(classifier.classes).index(name) if name in classifier.classes else None
