"""Samples of a model for an evaluation: how many, and of which classes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError

MOST = 1_000_000  # samples of an evaluation; papers use 50,000

AS_REFERENCE, AS_TRAINED = "as often as in the reference", "as often as in the training images"
IN_TURN = "all in turn"  # how often each class is drawn, in words


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


def check_count(count: int) -> None:
    """Raise `UserError` for more samples than an evaluation can hold."""
    if count > MOST:
        raise UserError(
            f"An evaluation takes at most {MOST:,} samples, got {count:,}; published results use 10,000 to 50,000."
        )
