"""The real images that samples are compared with, the features that so many images allow, and the samples' classes."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError
from ddim.evaluate.extractors import Extractor, choose, get
from ddim.evaluate.metrics import largest_draw
from ddim.text import counted

COUNT, MOST = 1000, 1_000_000  # samples by default and at most; papers use 50,000
SMALL = "scattering-small"  # the extractor with the fewest features

AS_REFERENCE, AS_TRAINED = "as often as in the reference", "as often as in the training images"
IN_TURN = "all in turn"  # how often each class is drawn, in words
KINDS = {"train": "training ", "test": "held-out "}  # split -> what its images are called


@dataclass(frozen=True)
class Real:
    """Real images to compare with, and the extractor of the features to compare."""

    reference: Images
    others: Images | None  # the other split, to compute the same metrics between real images
    extractor: Extractor
    splits: tuple[Images, Images] | None = None  # what a model may have been trained on, and the held-out images
    notice: str = ""  # why the reference or the extractor is not the usual one

    @property
    def pool(self) -> Images | None:
        """The images that the floor is drawn from: the others, or None, for splits of the reference, if too few."""
        enough = self.others is not None and largest_draw(len(self.others)) > self.extractor.dim
        return self.others if enough else None

    @property
    def draw(self) -> int:
        """The largest number of real images that the floor can compare in place of samples."""
        return len(self.reference) // 2 if self.pool is None else largest_draw(len(self.pool))

    @property
    def count(self) -> int:
        """The default number of samples: 1,000, or that of the floor if there are few images."""
        return min(COUNT, self.draw) if self.notice else COUNT

    @property
    def enough(self) -> bool:
        """Whether the reference and the floor have more images than the extractor has features."""
        return min(len(self.reference), self.draw) > self.extractor.dim

    def facts(self) -> dict[str, Any]:
        """Return the reference's name, split, number of images and shape, and the notice, for a JSON file."""
        images = self.reference
        facts = {"name": images.name, "split": images.split, "images": len(images), "shape": list(images.shape)}
        return facts | ({"notice": self.notice} if self.notice else {})


def of_splits(train: Images, test: Images, split: str | None = None, extractor: str | None = None) -> Real:
    """Return what to compare samples of a model of these images with.

    The usual reference is the held-out images, and the usual extractor that of the data. With too few images for
    them, the reference is the training images; with too few of those, the extractor is "scattering-small". A
    `Notice` then says so. A split or an extractor that is given is used.

    Raises:
        UserError: too few images of both splits, an unknown extractor, or one that does not take their shape.
    """
    splits = {"test": (test, train), "train": (train, test)}
    usual = choose(test.shape, test.name) if extractor is None else get(extractor, test.shape)
    if split is not None:
        return Real(*splits[split], usual, (train, test))
    return _first_enough([Real(*two, usual, (train, test)) for two in splits.values()], extractor is None)


def of_whole(images: Images, extractor: str | None = None) -> Real:
    """Return what to compare samples with if all these images are the reference; see `of_splits`."""
    usual = choose(images.shape, images.name) if extractor is None else get(extractor, images.shape)
    return _first_enough([Real(images, None, usual)], extractor is None)


def labels_like(images: Images, count: int) -> Tensor:
    """Return the classes of `count` samples, (count,) int64, each as often as among these images.

    Each sample gets the class that is most behind its share, so every beginning of the labels has about the shares
    of the images. With equally many images of each class, the classes come in turn.
    """
    shares = images.labels.bincount(minlength=len(images.classes)).numpy()
    behind, labels = np.zeros_like(shares), np.empty(count, np.int64)
    for i in range(count):
        behind += shares
        labels[i] = behind.argmax()  # the first of several
        behind[labels[i]] -= len(images)
    return torch.from_numpy(labels)


def labels_for(
    model: Denoiser, images: Images, count: int, names: Sequence[str] | None = None
) -> tuple[Tensor | None, str]:
    """Return the classes of `count` samples that are compared with images, and in words how often each is drawn.

    Args:
        model: None and "" if it has no classes.
        images: the reference. If its classes are not those of the model, the labels are None: all in turn.
        count: number of samples.
        names: the names of the model's classes; None if only their number is known.
    """
    if model.classes is None:
        return None, ""
    if len(images.classes) == model.classes and names in (None, list(images.classes)):
        return labels_like(images, count), AS_REFERENCE
    return None, IN_TURN


def _first_enough(usual: list[Real], smaller: bool) -> Real:
    """Return the first choice with enough images, next those with the small extractor if `smaller`."""
    choices = list(usual)
    if smaller:
        with suppress(UserError):  # a shape that it does not take
            small = get(SMALL, usual[0].reference.shape)
            choices += [replace(one, extractor=small) for one in usual]
    chosen = next((one for one in choices if one.enough), None)
    first, last = usual[0], choices[-1]
    images = f"{first.reference.name} has {_number(first)}"
    if chosen is None:
        others = f" and {_number(usual[-1])}" if usual[1:] else ""
        raise UserError(
            f"{images}{others}, too few to evaluate samples: the {last.extractor.dim:,} features of "
            f"{last.extractor.name} need {2 * last.extractor.dim + 2:,}; add images, or take others."
        )
    if chosen is first:
        return first
    notice = (
        f"{images}, too few for the {first.extractor.dim:,} features of {first.extractor.name}; the samples are "
        f"compared with {'them' if chosen.reference is first.reference else f'the {_number(chosen)}'}"
    )
    if chosen.extractor is not first.extractor:
        few = f"the {chosen.extractor.dim:,} features of {chosen.extractor.name}"
        notice += f", by {few}, which detect fewer differences"
    if chosen.reference is not first.reference:
        notice += ". Copies of training images would improve every metric: look at the search for copies too"
    warnings.warn(f"{notice}.", Notice, stacklevel=4)
    return replace(chosen, notice=f"{notice}.")


def _number(real: Real) -> str:
    return counted(len(real.reference), f"{KINDS.get(real.reference.split, '')}image")
