"""Images in batches, as the model that is judged by them takes them."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ddim.data import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError


class Batch(NamedTuple):
    """Some images: their places in the set, by which their noise knows them; (B, C, H, W) in [-1, 1] on the model's
    device; and labels (B,), None for a model without classes."""

    rows: list[int]
    x0: Tensor
    label: Tensor | None


def chosen(model: Denoiser, images: Images, count: int | None) -> Tensor:
    """The places of `count` images, spread evenly over the set.

    Args:
        model: which is to judge them.
        images: usually a held-out split.
        count: how many; None is all.

    Raises:
        UserError: a count that is not there, or images of another shape or with more classes than the model's.
    """
    if images.shape != model.shape:
        raise UserError(
            f"The model draws images of shape {model.shape}, but those of {images.name} are {images.shape}; give "
            "it the data set that it was trained on, at the same size."
        )
    if model.classes is not None and len(images) and int(images.labels.max()) >= model.classes:
        raise UserError(
            f"The model knows {model.classes} classes, but {images.name} has {len(images.classes)}; select those "
            "that it was trained on."
        )
    number = len(images) if count is None else count
    if not 1 <= number <= len(images):
        raise UserError(f"{images.name} has {len(images)} images in this split; ask for 1 to all, not {number}.")
    return torch.arange(number) * len(images) // number


def batches(model: Denoiser, images: Images, rows: Tensor, size: int) -> Iterator[Batch]:
    """The images in batches of at most `size`.

    Args:
        model: for whose device and dtype they are made ready.
        images: the set.
        rows: of `chosen`.
        size: images at a time.

    Raises:
        UserError: at the first, if the size is below 1.
    """
    if size < 1:
        raise UserError(f"A batch must hold at least 1 image; got {size}.")
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        x0, label = images.batch(some)
        yield Batch(some.tolist(), x0.to(model.device, model.dtype), None if model.classes is None else label)
