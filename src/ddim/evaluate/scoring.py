"""How close samples are to real images: each metric with its interval and its floor, and the accuracy of the labels."""

import math
from collections.abc import Sequence
from typing import TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.errors import UserError
from ddim.evaluate.evaluation import Evaluation, Metric
from ddim.evaluate.extractors import Classifier, Extractor, choose, get
from ddim.evaluate.features import Pictures, as_pixels, cached_features, features, take
from ddim.evaluate.intervals import confidence_interval, wilson
from ddim.evaluate.metrics import LIMITS, Floor, Reference, floor_of_others, floor_of_splits, largest_draw
from ddim.progress import hidden
from ddim.text import dimensions

FEW = 512  # features; with more, an eigenvalue problem takes seconds
RESAMPLES, DRAWS = {True: 200, False: 20}, {True: 20, False: 5}  # with few features, with many


class ScoringOptions(TypedDict, total=False):
    """The options of `score`: those of `measure`."""

    extractor: str | Extractor | None
    real: Pictures | None
    labels: Sequence[int] | Tensor | None
    data: str | None
    seed: int
    progress: bool


def score(samples: Pictures, reference: Pictures, **options: Unpack[ScoringOptions]) -> dict[str, float]:
    """Return the result of `measure` as plain numbers: see there, and `Evaluation.flat` for the names."""
    return measure(samples, reference, **options).flat()


def measure(
    samples: Pictures,
    reference: Pictures,
    *,
    extractor: str | Extractor | None = None,
    real: Pictures | None = None,
    labels: Sequence[int] | Tensor | None = None,
    data: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure how close samples are to real images, with intervals and with the floor of real images.

    Args:
        samples: (N, C, H, W), uint8 in 256 grey levels or floats in [-1, 1], or an `Images`. N must be greater than
            the number of features F.
        reference: real images of the same shape, more than F, preferably held out from training.
        extractor: the feature extractor, a name or an `Extractor`; None is the one for the data.
        real: more real images, none of them in the reference, for the floor: each draw takes up to two thirds of
            them. Without them, or with too few, the reference is split.
        labels: (N,) the requested class of each sample, if the extractor is a `Classifier`: an index into the
            classes of the reference if that is an `Images`, otherwise into those of the classifier.
        data: the name of the data set, to choose an extractor by; None is the name of the reference.
        seed, progress: seed of the bootstrap and of the draws, from 0, and whether to show bars.

    Raises:
        UserError: invalid images, different shapes, too few images, invalid labels or a negative seed.
    """
    if seed < 0:
        raise UserError(f"The seed must be a whole number from 0 on; got {seed}.")
    sample_pixels, real_pixels = as_pixels(samples), as_pixels(reference)
    if sample_pixels.shape[1:] != real_pixels.shape[1:]:
        shapes = [dimensions(pixels.shape[1:]) for pixels in (sample_pixels, real_pixels)]
        raise UserError(f"The samples are {shapes[0]} and the real images {shapes[1]}; bring both to one shape.")
    channels, height, width = real_pixels.shape[1:]
    if isinstance(extractor, str):
        chosen = get(extractor, (channels, height, width))
    elif extractor is None:
        data = data or (reference.name if isinstance(reference, Images) else None)
        chosen = choose((channels, height, width), data)
    else:
        chosen = extractor
    check_counts(chosen, len(sample_pixels), len(real_pixels))
    labelled = {} if labels is None else {"accuracy": accuracy(chosen, sample_pixels, labels, reference)}
    few = chosen.dim <= FEW
    with hidden(not progress):
        x = features(chosen, sample_pixels)
        held = Reference(cached_features(chosen, real_pixels), len(x), seed)
        estimates = held.estimates(x, RESAMPLES[few])
        floor = _floor(held, len(x), real, chosen, DRAWS[few])
    metrics = {}
    for name, limits in LIMITS.items():
        middle, range_ = floor.interval(name)
        interval = confidence_interval(*estimates[name], limits)
        metrics[name] = Metric(estimates[name].value, *interval, middle, *range_)
    return Evaluation(
        metrics | labelled,
        chosen.name,
        chosen.about,
        chosen.fingerprint,
        chosen.dim,
        len(x),
        len(held.features),
        held.equal,
        RESAMPLES[few],
        floor.count,
        floor.reference_count,
        floor.about,
        seed,
    )


def check_counts(extractor: Extractor, samples: int, reference: int) -> None:
    """Raise `UserError` if these numbers of samples or real images are too few for the extractor."""
    _check_enough(samples, extractor, "samples")
    _check_enough(reference, extractor, "real images to compare with")


def _floor(held: Reference, count: int, real: Pictures | None, extractor: Extractor, draws: int) -> Floor:
    """Return the floor of other real images if there are enough, otherwise of splits of the reference."""
    available = 0 if real is None else len(real)
    size = min(count, largest_draw(available))
    if real is not None and size > extractor.dim:
        rows = np.random.default_rng([held.seed, 1]).permutation(available)[: draws * size]
        pool = cached_features(extractor, take(real, torch.from_numpy(np.sort(rows))))
        return floor_of_others(held, pool, size, draws)
    size = min(count, len(held.features) // 2)
    _check_enough(size, extractor, "images in half of the reference")
    return floor_of_splits(held, size, draws)


def _check_enough(count: int, extractor: Extractor, kind: str) -> None:
    if count <= extractor.dim:
        raise UserError(
            f"{count:,} {kind} are too few for the {extractor.dim:,} features of {extractor.name}; take more than "
            f"{extractor.dim:,}, or an extractor with fewer features."
        )


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
    share = correct(extractor, pixels, labels, names).double().mean().item()
    low, high = wilson(share, len(pixels))
    if not isinstance(reference, Images):
        return Metric(share, low, high, math.nan, math.nan, math.nan)
    floor = correct(extractor, as_pixels(reference), reference.labels, names).double().mean().item()
    return Metric(share, low, high, floor, *wilson(floor, len(pixels)))


def correct(classifier: Classifier, pixels: Tensor, labels: Sequence[int] | Tensor, names: Sequence[str]) -> Tensor:
    """Return whether each sample is assigned to the requested class, (N,) bool.

    Args:
        classifier: it `knows` the names.
        pixels: (N, C, H, W) uint8.
        labels: (N,) indices into the names.
        names: of the classes.

    Raises:
        UserError: labels of another number, or out of range.
    """
    classes = torch.tensor([_index(classifier, name) for name in names])  # in mnist --classes 3,8, class 0 is the 3
    requested = torch.as_tensor(labels, dtype=torch.long)
    if requested.shape != (len(pixels),) or not ((requested >= 0) & (requested < len(classes))).all():
        raise UserError(f"The labels must be {len(pixels):,} whole numbers from 0 to {len(classes) - 1}; correct them.")
    return classifier.classify(pixels) == classes[requested]


def knows(extractor: Extractor, names: Sequence[str]) -> bool:
    """Return whether the extractor is a `Classifier` of classes of these names."""
    return isinstance(extractor, Classifier) and all(_index(extractor, name) is not None for name in names)


def _index(classifier: Classifier, name: str) -> int | None:
    if name.isdecimal():
        name = str(int(name))  # the class "03" is "3"
    return list(classifier.classes).index(name) if name in classifier.classes else None
