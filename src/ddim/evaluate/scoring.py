"""How near samples are to real images: every figure with its interval, and with its floor."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddim.data.images import Images
from ddim.errors import UserError
from ddim.evaluate.agreement import agreement
from ddim.evaluate.evaluation import Evaluation
from ddim.evaluate.extractor import Extractor, choose, get
from ddim.evaluate.features import as_pixels, features, kept_features
from ddim.evaluate.figures import LIMITS, Reference
from ddim.evaluate.floor import Floor, most, of_halves, of_others
from ddim.evaluate.intervals import Figure, around

Pictures = Tensor | NDArray[Any] | Images
FEW = 512  # features: with more, an eigenvalue problem takes seconds
RESAMPLES, DRAWS = {True: 200, False: 20}, {True: 20, False: 5}  # with few features, with many


def score(
    samples: Pictures,
    reference: Pictures,
    *,
    extractor: str | Extractor | None = None,
    real: Pictures | None = None,
    labels: Sequence[int] | Tensor | None = None,
    data: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, float]:
    """`measure` as plain numbers: see there for the arguments, and `Evaluation.flat` for the names."""
    found = measure(
        samples,
        reference,
        extractor=extractor,
        real=real,
        labels=labels,
        data=data,
        seed=seed,
        progress=progress,
    )
    return found.flat()


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
    """How far samples are from real images, how sure that is, and how far real images are.

    Args:
        samples: (N, C, H, W), uint8 in 256 grey levels or floats in [-1, 1], or an `Images`; more than F of them.
        reference: real images of the same shape, likewise more than F; best those that no training has seen.
        extractor: what sees the images: a name, or an `Extractor`; None is the one for the data.
        real: more real images, none of them in the reference, to draw the floor from, up to two thirds of them at
            a time. Without them, or with too few, it is drawn from splits of the reference.
        labels: (N,) the class that was asked for in each sample, if the extractor is a classifier: an index into
            the reference's classes if it is an `Images`, else a class of the classifier.
        data: the name of the data set, to choose an extractor by; None is the reference's own name.
        seed: of the resamplings and draws.
        progress: whether to show bars.

    Raises:
        UserError: images that are none or of different shapes, too few of them, or labels or a seed that cannot be.
    """
    if seed < 0:
        raise UserError(f"The seed must be a whole number from 0 on; got {seed}.")
    x_pixels, y_pixels = as_pixels(samples), as_pixels(reference)
    if x_pixels.shape[1:] != y_pixels.shape[1:]:
        raise UserError(
            f"The samples are {_shape(x_pixels)} and the real images {_shape(y_pixels)}; bring both to one shape."
        )
    eye = _eye(extractor, y_pixels, data or (reference.name if isinstance(reference, Images) else None))
    check(eye, len(x_pixels), len(y_pixels))
    asked = {} if labels is None else {"agreement": agreement(eye, x_pixels, labels, reference)}
    few = eye.dim <= FEW
    x = features(eye, x_pixels, progress=progress)
    held = Reference(kept_features(eye, y_pixels, progress=progress), len(x), seed)
    measured = held.measured(x, RESAMPLES[few], progress)
    floor = _floor(held, len(x), real, eye, DRAWS[few], progress)
    figures = {}
    for name, limits in LIMITS.items():
        middle, range_ = floor.of(name)
        figures[name] = Figure(measured[name].value, *around(*measured[name], limits), middle, *range_)
    return Evaluation(
        figures | asked,
        eye.name,
        eye.about,
        eye.fingerprint,
        eye.dim,
        len(x),
        len(held.features),
        held.equal,
        RESAMPLES[few],
        floor.count,
        floor.reference_count,
        floor.about,
        seed,
    )


def _eye(extractor: str | Extractor | None, pixels: Tensor, data: str | None) -> Extractor:
    channels, height, width = pixels.shape[1:]
    if extractor is None:
        return choose((channels, height, width), data)
    return get(extractor, (channels, height, width)) if isinstance(extractor, str) else extractor


def _floor(held: Reference, count: int, real: Pictures | None, eye: Extractor, draws: int, progress: bool) -> Floor:
    """From other real images if there are enough, else from the reference itself."""
    there = 0 if real is None else len(real)
    size = min(count, most(there))
    if real is not None and size > eye.dim:
        rows = np.random.default_rng([held.seed, 1]).permutation(there)[: draws * size]
        pool = kept_features(eye, _rows(real, torch.from_numpy(np.sort(rows))), progress=progress)
        return of_others(held, pool, size, draws, progress)
    size = min(count, len(held.features) // 2)
    _enough(size, eye, "images in half of the reference")
    return of_halves(held, size, draws, progress)


def _rows(images: Pictures, rows: Tensor) -> Pictures:
    if isinstance(images, Images):
        return replace(images, pixels=images.pixels[rows], labels=images.labels[rows])
    return torch.as_tensor(images)[rows]


def check(eye: Extractor, count: int, reference_count: int) -> None:
    """Raises `UserError` if so many samples or real images are too few to be compared as `eye` sees them."""
    _enough(count, eye, "samples")
    _enough(reference_count, eye, "real images to compare with")


def _enough(count: int, eye: Extractor, what: str) -> None:
    if count <= eye.dim:
        raise UserError(
            f"{count:,} {what} are too few for the {eye.dim:,} features of {eye.name}; take more than {eye.dim:,}, "
            "or an extractor with fewer features."
        )


def _shape(pixels: Tensor) -> str:
    return " × ".join(map(str, pixels.shape[1:]))
